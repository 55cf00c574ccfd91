"""`crewlog artifacts`: the files that jobs left."""

from pathlib import Path
from typing import Annotated, Any

import typer

from api.commands import terminal
from api.commands.jobs import JobId, NoSuchFile, artifacts, resolve
from api.commands.options import API, AsJson, Data, Token, Url, connect

app = typer.Typer(no_args_is_help=True, help="Artifacts: the files that jobs left.")


@app.command("list")
def list_artifacts(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List the files that a job left."""
    artifacts(job_id, None, as_json, url, token, data)


@app.command()
def get(
    job_id: JobId,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Its name. Optional if the job left only one."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Write it to this file or directory. Default: stdout.",
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Get a file that a job left. If several attempts left it: the last one."""
    with connect(url, token, data) as client:
        kept = client.get(f"{API}/jobs/{resolve(client, job_id)}/artifacts")["items"]
        file = _chosen(kept, name)
        with client.download(f"{API}/artifacts/{file['id']}/content") as chunks:
            if output is None:
                terminal.write_bytes(chunks)
                return
            path = output / Path(file["name"]).name if output.is_dir() else output
            with path.open("wb") as target:
                for chunk in chunks:
                    target.write(chunk)
    terminal.notice(f"Written to {path}.")


def _chosen(kept: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    names = {file["name"] for file in kept}
    if name is None and len(names) != 1:
        there = f" It left {', '.join(map(terminal.plain, sorted(names)))}." if names else ""
        raise NoSuchFile(f"Name the file.{there}" if names else "The job left no files.")
    named = [file for file in kept if name is None or file["name"] == name]
    if not named:
        raise NoSuchFile(terminal.unknown("file", str(name), names))
    return max(named, key=lambda file: int(file["attempt"]))
