"""`crewlog jobs`: run and follow, list, show, cancel, read output."""

import json
import shlex
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote

import typer

from api.commands import terminal
from api.commands.crew_ids import resolve_crew
from api.commands.finding import Owner, Since, Until, Web, moment_given, open_page
from api.commands.options import API, AsJson, Data, Token, Url, connect
from api.commands.states import STATES, reason_of, rests, state_of, states_given
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="Run jobs, and see what became of them.")

_FOLLOWED = "job.output,job.output_dropped,job.finished,job.approval_requested"
_WRITTEN = "job.output,job.output_dropped"
_RECENT = 1_000
_PAGE = 100

JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, or its beginning.")]

JobIds = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of jobs, or their beginnings.")
]


class NoSuchJob(CrewlogError):
    """An id, or the beginning of one, does not name exactly one job."""


class NoSuchFile(CrewlogError):
    """The job left no file of this name."""


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    argv: Annotated[
        list[str],
        typer.Argument(metavar="[--] ARGV...", help="The program and its arguments; no shell."),
    ],
    title: Annotated[str | None, typer.Option(help="The job's name in lists.")] = None,
    cwd: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Directory on the server's machine. A relative one is below the server's working "
            "directory, which is also the default.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="K=V",
            help="Environment variable for the job. The log keeps only its name. Repeatable.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", help="Time limit in seconds. Default: the server's."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="L", help="A label. Repeatable.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the id and leave; the job goes on.")
    ] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="K", help="Repeating a key gives the same job, not a second one."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Run a command as a job, and follow its output to the end.

    The exit code is the job's: 0 if it completed, that of its process if it failed (128+n if signal
    n killed it, 1 if there was no process), 124 if it timed out, 130 if it was cancelled. Ctrl-C
    asks for the job to be cancelled; a second Ctrl-C leaves it running. With --json the job is
    printed at its end instead of its output.
    """
    body = {
        "argv": argv,
        "title": title,
        "cwd": cwd,
        "env": _variables(env or []),
        "timeoutS": timeout,
        "labels": label or [],
    }
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    with connect(url, token, data) as client:
        job = client.post(f"{API}/jobs", body, headers)
        if detach:
            terminal.print_json(job) if as_json else terminal.write_line(job["id"])
            return
        terminal.notice(f"Job {job['id']}")
        lines = terminal.Lines()
        with _Interrupts(job["id"], lambda: connect(url, token, data)) as interrupts:
            try:
                for line, whole in _followed(client, job["id"], after=None):
                    if not as_json:
                        lines.write(line) if whole else lines.begin(line)
            except KeyboardInterrupt:
                raise interrupts.left() from None
        lines.close()
        job = client.get(f"{API}/jobs/{job['id']}")
    if as_json:
        terminal.print_json(job)
    terminal.notice(_ending(job))
    raise typer.Exit(exit_code(job))


def _variables(given: list[str]) -> dict[str, str]:
    variables = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{pair!r} must be NAME=VALUE.", param_hint="--env")
        variables[name] = value
    return variables


def exit_code(job: dict[str, Any]) -> int:
    """The result of an ended job, as the exit code of a command."""
    outcome, code = job["outcome"], job["exitCode"]
    if outcome == "completed":
        return 0
    if outcome == "cancelled":
        return 130
    if outcome == "timed_out":
        return 124
    if not code:
        return 1
    return int(code) if code > 0 else 128 - int(code)


def _ending(job: dict[str, Any]) -> str:
    outcome = str(job["outcome"]).replace("_", " ").capitalize()
    reason = f": {terminal.plain(job['reason'])}" if job["reason"] else "."
    return f"{outcome} after {terminal.duration(job['runMs'])}{reason}"


class _Interrupts:
    """While active, Ctrl-C cancels the job, and a second Ctrl-C leaves."""

    def __init__(self, job_id: str, connect_anew: "Callable[[], Client]") -> None:
        self._job_id = job_id
        self._connect = connect_anew
        self._asked: threading.Thread | None = None

    def __enter__(self) -> "_Interrupts":
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked is not None:
            raise KeyboardInterrupt
        # In a thread: the interrupted reader may hold a lock that a request needs.
        self._asked = threading.Thread(target=self._cancel, daemon=True)
        self._asked.start()

    def _cancel(self) -> None:
        terminal.notice("\nCancelling the job. Ctrl-C again leaves without waiting for its end.")
        try:
            with self._connect() as client:
                client.post(f"{API}/jobs/{self._job_id}/cancel")
        except CrewlogError as error:
            terminal.notice(f"The job could not be cancelled: {error}")

    def left(self) -> typer.Exit:
        terminal.notice(f"You left the job running. See it: crewlog jobs show {self._job_id}")
        return typer.Exit(130)


@app.command("list")
def list_(
    state: Annotated[
        str | None,
        typer.Option(metavar="STATES", help=f"Only in these states: {', '.join(STATES)}."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only with this label.")] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            "--search",
            metavar="TEXT",
            help="Only with this in the title, a label, the command, the template or the crew's "
            "name, or at the beginning of the id.",
        ),
    ] = None,
    owner: Owner = None,
    crew: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this crew: its id, or e.g. deploy#42.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 20,
    every: Annotated[bool, typer.Option("--all", help="All jobs.")] = False,
    web: Web = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List jobs, newest first."""
    chosen: dict[str, str | None] = {
        "state": states_given(state),
        "label": label,
        "text": text,
        "owner": owner,
        "created_after": moment_given(since, "--since"),
        "created_before": moment_given(until, "--until"),
    }
    with connect(url, token, data) as client:
        if web:
            open_page(client, "/jobs")
            return
        if crew is not None:
            chosen["crew"] = unquote(resolve_crew(client, crew))
        jobs = list(_listed(client, None if every else limit, **chosen))
    if as_json:
        terminal.print_json(jobs)
        return
    if not jobs:
        terminal.notice("No job matches." if any(chosen.values()) else "There are no jobs.")
        return
    terminal.print_table(
        ("ID", "STATE", "CREATED", "RAN", "LINES", "TITLE"),
        (
            (
                terminal.short_id(job["id"]),
                terminal.state_cell(state_of(job)),
                terminal.ago(job["createdAt"]),
                terminal.duration(job["runMs"] if rests(job) else None),
                str(job["lines"]),
                job["title"],
            )
            for job in jobs
        ),
        flexible=("TITLE",),
        optional=("LINES", "RAN", "CREATED"),
    )


def _listed(client: "Client", limit: int | None, **filters: Any) -> Iterator[dict[str, Any]]:
    cursor, left = None, limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = client.get(f"{API}/jobs", limit=size, cursor=cursor, **filters)
        yield from page["items"]
        cursor = page["cursor"]
        if cursor is None:
            return
        left = None if left is None else left - len(page["items"])


def resolve(client: "Client", given: str) -> str:
    """The full id of `given`, which is an id or its beginning."""
    exact = quote(given, safe="")
    if len(given) >= 36 or _is_there(client, exact):
        return exact
    beginning = given.lower()
    alike = _listed(client, _RECENT, text=beginning, fields="id") if beginning else iter(())
    found = [job for job in alike if job["id"].startswith(beginning)]
    if not found:
        raise NoSuchJob(f"No job has an id that begins with {given!r}.")
    if len(found) > 1:
        some = ", ".join(job["id"] for job in found[:3]) + ("…" if len(found) > 3 else "")
        raise NoSuchJob(f"{len(found)} jobs have ids that begin with {given!r}: {some}")
    return str(found[0]["id"])


def _is_there(client: "Client", job_id: str) -> bool:
    """Ids of jobs of a crew are short: a text that looks like a beginning may be a whole id."""
    from api.commands.client import Rejected

    try:
        client.get(f"{API}/jobs/{job_id}")
    except Rejected as refused:
        if refused.status == 404:
            return False
        raise
    return True


@app.command()
def show(
    job_id: JobId,
    web: Web = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show a job and what happened to it."""
    with connect(url, token, data) as client:
        found = resolve(client, job_id)
        if web:
            open_page(client, f"/jobs/{found}")
            return
        job = client.get(f"{API}/jobs/{found}")
        timeline = list(_timeline(client, found))
    if as_json:
        terminal.print_json({**job, "timeline": timeline})
        return
    terminal.print_fields(_details(job))
    terminal.console().print()
    print_timeline(timeline)


def _timeline(client: "Client", job_id: str) -> Iterator[dict[str, Any]]:
    return client.items(f"{API}/jobs/{job_id}/timeline", limit=1_000)


def print_timeline(timeline: list[dict[str, Any]]) -> None:
    """The events of a job, as a table."""
    terminal.print_table(
        ("POSITION", "TIME", "WHO", "WHAT"),
        (
            (
                str(entry["position"]),
                terminal.moment(entry["at"]),
                entry["actorId"],
                entry["sentence"],
            )
            for entry in timeline
        ),
        flexible=("WHAT", "WHO"),
    )


def _details(job: dict[str, Any]) -> Iterator[tuple[str, terminal.Cell]]:
    yield "Job", job["id"]
    yield "Title", job["title"]
    yield "State", terminal.state_cell(state_of(job))
    if reason := reason_of(job):
        yield "Reason", (reason, "red")
    if job["errorId"]:
        yield "Error id", job["errorId"]
    # While it waits for another attempt, the exit code of the last one says nothing about the job.
    if rests(job) and job["exitCode"] is not None:
        yield "Exit code", str(job["exitCode"])
    if job["result"] is not None:
        yield "Result", json.dumps(job["result"], ensure_ascii=False)
    yield "Command", shlex.join(job["argv"])
    yield "Directory", job["cwd"]
    if job["envNames"]:
        yield "Environment", ", ".join(job["envNames"])
    yield "Labels", ", ".join(job["labels"]) or job["label"]
    yield "Owner", job["ownerId"]
    yield "Created", terminal.moment(job["createdAt"])
    yield "Started", terminal.moment(job["startedAt"])
    yield "Ended", terminal.moment(job["endedAt"])
    yield "Ran", terminal.duration(job["runMs"] if rests(job) else None)
    size = terminal.counted(job["outputBytes"], "byte")
    yield "Output", f"{terminal.counted(job['lines'], 'line')}, {size}"
    if job["droppedBytes"]:
        yield "Dropped", (f"{job['droppedBytes']} bytes over the limit", "yellow")


@app.command()
def cancel(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Ask for a job's end. Asking again changes nothing."""
    with connect(url, token, data) as client:
        job = client.post(f"{API}/jobs/{resolve(client, job_id)}/cancel")
    if as_json:
        terminal.print_json(job)
    elif job["outcome"]:
        terminal.write_line(f"Cancelled {job['id']}.")
    else:
        terminal.write_line(f"Cancelling {job['id']}: its processes are told to end.")


@app.command()
def redo(
    job_id: JobId,
    feedback: Annotated[
        str | None,
        typer.Option(
            "--feedback",
            "-m",
            metavar="TEXT",
            help="What was wrong; the job's program can read it.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Redo an ended job; in a crew also every job that used its result."""
    with connect(url, token, data) as client:
        path = f"{API}/jobs/{resolve(client, job_id)}/redo"
        _sent_back(client.post(path, {"feedback": feedback or ""}), as_json)


@app.command()
def unblock(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Let a blocked job, or one that gave up, go on. Its retries are counted from 0 again."""
    with connect(url, token, data) as client:
        path = f"{API}/jobs/{resolve(client, job_id)}/retry"
        _sent_back(client.post(path), as_json)


@app.command()
def rerun(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Submit the same command as a new job, and print its id."""
    with connect(url, token, data) as client:
        job = client.post(f"{API}/jobs/{resolve(client, job_id)}/rerun")
    terminal.print_json(job) if as_json else terminal.write_line(job["id"])


@app.command()
def archive(
    job_ids: JobIds,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Archive jobs: take them off the board. Cancel running jobs first."""
    _to_each("archive", "Archived", job_ids, as_json, lambda: connect(url, token, data))


@app.command()
def delete(
    job_ids: JobIds,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Hide jobs for good. The log keeps what happened."""
    _to_each("delete", "Deleted", job_ids, as_json, lambda: connect(url, token, data))


def _to_each(
    action: str, done: str, given: list[str], as_json: bool, connect_now: "Callable[[], Client]"
) -> None:
    """Exits with 1 if one of them was refused."""
    with connect_now() as client:
        ids = [unquote(resolve(client, one)) for one in given]
        answer = client.post(f"{API}/jobs/actions", {"action": action, "ids": ids})
    if as_json:
        terminal.print_json(answer)
    else:
        for result in answer["items"]:
            if result["ok"]:
                terminal.write_line(f"{done} {result['id']}.")
            else:
                terminal.notice(f"{result['id']}: {terminal.plain(result['detail'])}")
    if answer["refused"]:
        raise typer.Exit(1)


def _sent_back(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.print_json(job)
    else:
        state = state_of(job).replace("_", " ")
        terminal.write_line(f"{terminal.plain(job['title'])} is to be done again; it is {state}.")


@app.command()
def artifacts(
    job_id: JobId,
    name: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write this file to stdout, unchanged.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List the files that a job left, or print one of them. Of several attempts: the last one."""
    with connect(url, token, data) as client:
        found = resolve(client, job_id)
        kept = client.get(f"{API}/jobs/{found}/artifacts")["items"]
        if name is not None:
            _print_file(client, kept, name)
            return
    if as_json:
        terminal.print_json(kept)
    elif not kept:
        terminal.notice("The job left no files.")
    else:
        terminal.print_table(
            ("NAME", "BYTES", "ATTEMPT", "TYPE"),
            (
                (file["name"], str(file["size"]), str(file["attempt"]), file["mime"])
                for file in kept
            ),
            flexible=("NAME",),
            optional=("TYPE",),
        )


def _print_file(client: "Client", kept: list[dict[str, Any]], name: str) -> None:
    named = [file for file in kept if file["name"] == name]
    if not named:
        raise NoSuchFile(terminal.unknown("file", name, {file["name"] for file in kept}))
    last = max(named, key=lambda file: int(file["attempt"]))
    with client.download(f"{API}/artifacts/{last['id']}/content") as chunks:
        terminal.write_bytes(chunks)


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new output until the job ends.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last N lines.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Print a job's output from its first line. With --json each line is an object."""
    with connect(url, token, data) as client:
        found = resolve(client, job_id)
        ended = client.get(f"{API}/jobs/{found}")["outcome"] is not None
        position = 0
        kept: deque[str] = deque(maxlen=tail)
        for position, lines in _written(client, found):  # noqa: B007 - where to go on from
            shown = [_as_shown(line, as_json) for line in lines]
            if tail is None:
                for line in shown:
                    terminal.write_line(line)
            else:
                kept.extend(shown)
        for line in kept:
            terminal.write_line(line)
        if follow and not ended:
            output = terminal.Lines()
            for line, whole in _followed(client, found, after=position):
                if whole:
                    output.write(_as_shown(line, as_json))
                elif not as_json:
                    output.begin(line)
            output.close()


def _as_shown(line: str, as_json: bool) -> str:
    return json.dumps({"line": line}, ensure_ascii=False) if as_json else line


def _written(client: "Client", job_id: str) -> Iterator[tuple[int, list[str]]]:
    """The output that is in the log so far: positions, and the lines at each."""
    subject = f"job-{job_id}"
    for event in client.items(f"{API}/log", subject=subject, type=_WRITTEN, limit=1_000):
        yield event["position"], _lines_of(event)


def _followed(client: "Client", job_id: str, after: int | None) -> Iterator[tuple[str, bool]]:
    """The job's lines as they come, each with whether it is whole; an unfinished line is given with
    its beginning first. Goes on until the stream says that there are no more: an end need not be
    the last one, because the job may be done again.
    """
    stream = client.follow(
        f"{API}/log/stream",
        subject=f"job-{job_id}",
        type=_FOLLOWED,
        after=after,
        partial="true",
    )
    for frame in stream:
        event = json.loads(frame.data)
        if event["type"] == "partial":
            yield event["text"], False
        elif event["type"] == "job.approval_requested":
            question = event["data"]
            terminal.notice(terminal.question(question["description"], question["approval"]))
        elif event["type"] != "job.finished":
            for line in _lines_of(event):
                yield line, True


def _lines_of(event: dict[str, Any]) -> list[str]:
    if event["type"] == "job.output":
        return list(event["data"]["lines"])
    return [f"[{event['data']['bytes']} bytes of output over the limit were dropped]"]
