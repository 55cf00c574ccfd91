"""`crewlog templates`: list, show and check templates."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from api.commands import terminal
from api.commands.options import API, AsJson, Data, Token, Url, connect
from api.commands.template_names import naming

if TYPE_CHECKING:
    from scheduler.templates import TemplateFault

app = typer.Typer(no_args_is_help=True, help="Templates: files that become crews of jobs.")


@app.command("list")
def list_templates(
    as_json: AsJson = False, url: Url = None, token: Token = None, data: Data = None
) -> None:
    """List the server's templates. Mistakes in template files go to stderr."""
    with connect(url, token, data) as client:
        pages = list(client.pages(f"{API}/templates"))
    templates = [template for page in pages for template in page["items"]]
    if as_json:
        faults = {"faults": pages[0]["faults"]} if "faults" in pages[0] else {}
        terminal.print_json({"templates": templates, **faults})
        return
    terminal.print_table(
        ("ID", "NAME", "INPUTS"),
        ((template["id"], template["name"], _inputs(template["inputs"])) for template in templates),
        flexible=("NAME", "INPUTS"),
    )
    for fault in pages[0].get("faults", []):
        terminal.notice(_line(fault["file"], fault["line"], fault["path"], fault["reason"]))


@app.command()
def show(
    template_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the template.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show a template: its inputs, and its jobs in an order in which they can run."""
    with connect(url, token, data) as client, naming(template_id):
        template = client.get(f"{API}/templates/{quote(template_id, safe='/')}")
    if as_json:
        terminal.print_json(template)
        return
    terminal.print_fields(_fields(template))
    terminal.write_line("")
    if template["inputs"]:
        terminal.print_table(
            ("INPUT", "TYPE", "DEFAULT", "DESCRIPTION"),
            (_input_row(name, wanted) for name, wanted in template["inputs"].items()),
            flexible=("DEFAULT", "DESCRIPTION"),
        )
        terminal.write_line("")
    terminal.print_table(
        ("JOB", "AFTER", "RUNS", "APPROVAL"),
        (
            (
                job["id"],
                ", ".join(job["parents"]) or "-",
                job["assignee"] or " ".join(job["argv"]),
                job["approval"],
            )
            for job in template["jobs"]
        ),
        flexible=("AFTER", "RUNS"),
    )


@app.command()
def check(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", exists=True, help="Template files, or folders of them."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check templates without a server. Prints each mistake as FILE:LINE: PATH: REASON.

    Exit code 1 if there is a mistake, or if a folder has no template.
    """
    count, faults = _checked(paths)
    if as_json:
        shown = [
            {"file": f.file, "line": f.line, "path": f.path, "reason": f.reason} for f in faults
        ]
        terminal.print_json({"templates": count, "faults": shown})
    else:
        for fault in faults:
            terminal.write_line(_line(fault.file, fault.line, fault.path, fault.reason))
        terminal.notice(
            f"{_counted(len(faults), 'mistake')}." if faults else f"{_counted(count, 'template')}."
        )
    if faults:
        raise typer.Exit(1)


def _checked(paths: Sequence[Path]) -> tuple[int, list["TemplateFault"]]:
    """The number of valid templates, and the faults of the others."""
    from scheduler.templates import (
        SUFFIX,
        BadTemplate,
        Catalog,
        TemplateFault,
    )
    from scheduler.templates.check import read_template

    count = 0
    faults: list[TemplateFault] = []
    for path in paths:
        if path.is_dir():
            listing = Catalog([path]).listing()
            count += len(listing.templates)
            faults += listing.faults
            if not listing.templates and not listing.faults:
                faults.append(TemplateFault(str(path), 1, "(file)", f"No *{SUFFIX} is below it."))
            continue
        if not path.name.endswith(SUFFIX):
            faults.append(TemplateFault(str(path), 1, "(file)", f"The name must end in {SUFFIX}."))
        try:
            read_template(path, _root_of(path), path.name)
            count += 1
        except BadTemplate as bad:
            faults += bad.faults
    return count, faults


def _root_of(file: Path) -> Path:
    """The folder that a single file may point into: the current one if it holds the file, or
    the file's own.
    """
    here = Path.cwd()
    return here if file.resolve().is_relative_to(here) else file.parent


def _line(file: str, line: int, path: str, reason: str) -> str:
    return f"{terminal.plain(file)}:{line}: {path}: {terminal.plain(reason)}"


def _counted(number: int, noun: str) -> str:
    good = "" if noun == "mistake" else ", no mistake"
    return f"{number} {noun}{'' if number == 1 else 's'}{good}"


def _inputs(inputs: dict[str, Any]) -> str:
    """Names of the inputs. Those with a default are in brackets."""
    shown = (name if wanted["required"] else f"[{name}]" for name, wanted in inputs.items())
    return " ".join(shown) or "-"


def _fields(template: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("id", "name", "description", "file"):
        if template.get(name):
            yield name, str(template[name])


def _input_row(name: str, wanted: dict[str, Any]) -> tuple[str, str, str, str]:
    choices = wanted.get("enum")
    kind = " | ".join(map(str, choices)) if choices else wanted.get("type", "any")
    default = "required" if wanted["required"] else json.dumps(wanted["default"])
    return name, str(kind), default, str(wanted.get("description", ""))
