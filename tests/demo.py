"""The demo: real jobs on this checkout, watched live, through a cut connection and a kill -9.

``python -m tests.demo`` ends with exit code 0, or with 1 and a red sentence that names the broken
promise. It leaves nothing behind.
"""

import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from api.commands.client import Client, Endpoint, Unreachable
from domain.errors import CrewlogError
from tests.demo_crew import crew
from tests.demo_table import table
from tests.kit.server import Server

ROOT = Path(__file__).resolve().parent.parent

_DEADLINE_S = 90.0
_SHOWN_LINES = 7
_CUT_AFTER = 12
_COUNT_TO = 60
_KILL_AT = 20
_COLOURS = ("cyan", "blue", "magenta", "yellow", "green", "bright_blue")
_MARKS = {"completed": "green", "failed": "red", "cancelled": "yellow", "timed_out": "red"}

_WORDS = """
import pathlib, time
files = sorted(p for r in ("domain", "projections", "scheduler", "api", "tests", "docs")
               for p in pathlib.Path(r).rglob("*") if p.suffix in (".py", ".md"))
total = 0
for n, file in enumerate(files, 1):
    words = len(file.read_text(errors="replace").split())
    total += words
    print(f"{n:3}/{len(files)} {words:6} words in {file}", flush=True)
    time.sleep(min(0.05, 4 / len(files)))
print(f"{total} words in {len(files)} files", flush=True)
"""

_COUNT = """
import sys, time
for n in range(1, int(sys.argv[1]) + 1):
    print("line", n, flush=True)
    time.sleep(0.06)
"""

_FAILS = """
import sys
print("looking for a file that is not there", flush=True)
sys.exit(3)
"""

_ENDLESS = """
import time
while True:
    print("still waiting for nothing", flush=True)
    time.sleep(0.4)
"""


class Broken(Exception):
    """A broken promise."""


def promise(kept: bool, sentence: str) -> None:
    if not kept:
        raise Broken(sentence)


@dataclass
class Job:
    """A job of the demo and what was seen of it. `lines` has its lines with their numbers."""

    name: str
    id: str
    colour: str
    lines: list[tuple[int, str]] = field(default_factory=list)
    outcome: str = ""

    @property
    def complete(self) -> bool:
        """Whether no line so far is missing or repeated."""
        return [number for number, _ in self.lines] == list(range(1, len(self.lines) + 1))


class Demo:
    """A server, a client, a terminal, and the jobs so far."""

    def __init__(self, server: Server, client: Client, screen: Console) -> None:
        self.server = server
        self.client = client
        self.screen = screen
        self.jobs: dict[str, Job] = {}
        self.position = ""
        """The id of the last event, to be sent as Last-Event-ID."""
        self.seen: Counter[int] = Counter()

    def say(self, sentence: str, style: str = "") -> None:
        self.screen.print(Text(f"  {sentence}", style))

    def promise(self, kept: bool, sentence: str) -> None:
        """Raises Broken unless the promise was kept."""
        promise(kept, sentence)

    def keep(self, sentence: str) -> None:
        self.screen.print(Text.assemble(("  ✓ ", "bold green"), sentence))

    def chapter(self, title: str) -> None:
        self.screen.print()
        self.screen.rule(Text(title, "bold"), style="dim", align="left")

    def start(self, name: str, argv: list[str], **request: Any) -> Job:
        """Dispatch a job."""
        body = {"argv": argv, "title": name, "labels": ["demo"], **request}
        made = self.client.post("/api/jobs", body)
        job = Job(name, made["id"], _COLOURS[len(self.jobs) % len(_COLOURS)])
        self.jobs[job.id] = job
        return job

    def watch(self, until: Callable[[dict[str, Any]], bool]) -> None:
        """Show one connection's events, from the end of the last one, until `until` is true for one
        of them or the server is gone.
        """
        deadline = time.monotonic() + _DEADLINE_S
        with self.client.stream("/crewlog/v1/log/stream", self.position, after=0) as frames:
            for frame in frames or ():
                promise(time.monotonic() < deadline, "The jobs did not end in time.")
                if not frame.data:
                    continue
                self.position = frame.id
                event = json.loads(frame.data)
                self.seen[event["position"]] += 1
                self._note(event)
                if until(event):
                    return

    def _note(self, event: dict[str, Any]) -> None:
        job = self.jobs.get(event["stream"].removeprefix("job-").partition("/")[0])
        if job is None:
            return
        data, at = event["data"], event["at"]
        if event["type"] == "job.started":
            self._print(job, at, "started", "dim")
        elif event["type"] == "job.cancel_requested":
            self._print(job, at, "cancellation requested", "yellow")
        elif event["type"] == "job.output":
            for number, line in enumerate(data["lines"], data["first_line"]):
                job.lines.append((number, line))
                self._print_line(job, at, number, line)
        elif event["type"] == "job.finished":
            job.outcome = data["outcome"]
            code = f", exit code {data['exit_code']}" if data["outcome"] == "failed" else ""
            ending = (
                f"{job.outcome} after {data['run_ms'] / 1000:.1f} s, {data['lines']} lines{code}"
            )
            self._print(job, at, ending, f"bold {_MARKS[job.outcome]}")

    def _print_line(self, job: Job, at: str, number: int, line: str) -> None:
        if number <= _SHOWN_LINES or number % 10 == 0:
            self._print(job, at, line)
        elif number == _SHOWN_LINES + 1:
            self._print(job, at, "… (from here every tenth line is shown)", "dim")

    def _print(self, job: Job, at: str, text: str, style: str = "") -> None:
        line = Text.assemble(
            (f"  {at[11:23]} ", "dim"),
            (f"{job.name:>8} │ ", job.colour),
            (text.expandtabs().rstrip(), style),
        )
        width = self.screen.width
        line.truncate(width, overflow="ellipsis")
        self.screen.print(line)

    def all_ended(self, _: dict[str, Any]) -> bool:
        return all(job.outcome for job in self.jobs.values())


def run(demo: Demo) -> None:
    """The demo from beginning to end. Raises Broken for a broken promise."""
    five_jobs(demo)
    kill_the_server(demo)
    look_back(demo)
    rebuild(demo)
    crew(demo, str(ROOT))
    where_to_go(demo)


def five_jobs(demo: Demo) -> None:
    demo.chapter("1  Five jobs on this checkout, and a connection that is cut")
    python = sys.executable
    with_git = (ROOT / ".git").exists() and shutil.which("git") is not None
    walk = (
        ["git", "--no-pager", "log", "--stat", "--format=%h %s", "-n", "30"]
        if with_git
        else ["ls", "-l", *_PACKAGES]
    )
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    demo.start("history", walk, env={**trusted, "GIT_CONFIG_VALUE_0": str(ROOT)})
    bytecode = str(demo.server.data / "bytecode")
    compiling = [python, "-m", "compileall", "-f", *_PACKAGES]
    demo.start("compile", compiling, env={"PYTHONPYCACHEPREFIX": bytecode})
    words = demo.start("words", [python, "-c", _WORDS])
    fails = demo.start("fails", [python, "-c", _FAILS])
    endless = demo.start("endless", [python, "-c", _ENDLESS])

    demo.watch(lambda _: len(words.lines) >= _CUT_AFTER)
    before = demo.position
    demo.say(
        f"✂ the connection is cut after event {before}; a job is cancelled meanwhile", "bold red"
    )
    demo.client.post(f"/api/jobs/{endless.id}/cancel")
    lines_before = sum(len(job.lines) for job in demo.jobs.values())
    demo.say(f"⟳ connecting again with Last-Event-ID: {before}", "bold green")
    demo.watch(demo.all_ended)

    lines = sum(len(job.lines) for job in demo.jobs.values())
    check_all_seen(demo)
    demo.keep(
        f"{lines_before} lines before the cut and {lines - lines_before} after it: "
        "none is missing, none came twice"
    )
    promise(fails.outcome == "failed", "The job that fails did not fail.")
    promise(endless.outcome == "cancelled", "The cancelled job was not cancelled.")
    for job in demo.jobs.values():
        if job not in (fails, endless):
            last = job.lines[-1][1] if job.lines else ""
            promise(job.outcome == "completed", f"The job {job.name} {job.outcome}: {last}")
    demo.keep(
        "three completed, one failed with its exit code, one was cancelled with its processes"
    )


_PACKAGES = ["domain", "projections", "scheduler", "api"]


def check_all_seen(demo: Demo) -> None:
    """Check that every event was seen once, and all lines that the server counted."""
    expected = range(1, int(demo.position) + 1)
    promise(demo.seen == Counter(expected), "Events were missing from the stream, or came twice.")
    for job in demo.jobs.values():
        counted = demo.client.get(f"/api/jobs/{job.id}")["lines"]
        promise(
            job.complete and len(job.lines) == counted,
            f"Of {job.name}, which wrote {counted} lines, {len(job.lines)} were seen.",
        )


def kill_the_server(demo: Demo) -> None:
    demo.chapter("2  kill -9 on the server while a job runs")
    count = demo.start("count", [sys.executable, "-c", _COUNT, str(_COUNT_TO)])
    demo.watch(lambda _: len(count.lines) >= _KILL_AT)
    pid = demo.server.pid
    demo.server.kill()
    demo.say(f"✗ the server (process {pid}) was killed after line {len(count.lines)}", "bold red")
    try:
        demo.client.get("/healthz")
    except Unreachable:
        demo.say("nobody answers; the job does not know and goes on", "dim")
    began = time.monotonic()
    demo.server.restart()
    took = time.monotonic() - began
    demo.say(f"⟳ started again on the same data; it answers after {took:.1f} s", "bold green")
    demo.watch(demo.all_ended)
    check_all_seen(demo)
    wanted = [(n, f"line {n}") for n in range(1, _COUNT_TO + 1)]
    promise(count.lines == wanted, "Lines of the job were lost or doubled by the crash.")
    promise(count.outcome == "completed", f"The job {count.outcome} through the crash.")
    demo.keep(f"lines 1 to {_COUNT_TO} are all there, each once: the new server took the job over")


def look_back(demo: Demo) -> None:
    demo.chapter("3  What happened to that job, from the log")
    job = list(demo.jobs.values())[-1]
    items = demo.client.get(f"/crewlog/v1/jobs/{job.id}/timeline")["items"]
    rows = [
        (str(item["position"]), item["at"][11:23], item["actor"], item["sentence"])
        for item in items
    ]
    demo.screen.print(table(("position", "time", "who", "what"), rows))


def rebuild(demo: Demo) -> None:
    demo.chapter("4  All views filled again from the log, beside the live ones")
    before = _views(demo)
    for name in before:
        demo.client.post(f"/crewlog/v1/projections/{name}/rebuild")
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        after = _views(demo)
        if all(
            view["status"] == "live" and view["rebuildMatched"] is not None
            for view in after.values()
        ):
            break
        promise(time.monotonic() < deadline, "The views were not rebuilt in time.")
        time.sleep(0.05)
    rows = [
        (name, str(view["position"]), before[name]["digest"], after[name]["digest"])
        for name, view in after.items()
    ]
    demo.screen.print(table(("view", "position", "digest before", "digest after"), rows))
    for name, view in after.items():
        same = view["rebuildMatched"] and view["digest"] == before[name]["digest"]
        promise(bool(same), f"The rebuilt view of {name} differs from the one before.")
    demo.keep("the same digests: what is seen follows from the log and from nothing else")


def _views(demo: Demo) -> dict[str, dict[str, Any]]:
    return {view["name"]: view for view in demo.client.get("/crewlog/v1/projections")["items"]}


def where_to_go(demo: Demo) -> None:
    demo.chapter("Where to go next")
    for command, what in (
        ("make serve", "your own server, on http://127.0.0.1:8080"),
        (".venv/bin/crewlog jobs run -- make test", "a job, followed to its end"),
        (".venv/bin/crewlog jobs list", "what there is"),
        (".venv/bin/crewlog log tail", "everything, as it happens"),
        (".venv/bin/crewlog templates list", "crews that are ready to be started"),
        (".venv/bin/crewlog doctor", "is all well?"),
        ("README.md", "the tour with curl, and the promises"),
    ):
        demo.screen.print(Text.assemble(f"  {command:<42}", (what, "dim")))
    demo.screen.print()


@contextmanager
def staged(screen: Console) -> Iterator[Demo]:
    """A server in a temporary directory. Neither the server nor its jobs outlive the demo."""
    directory = Path(tempfile.mkdtemp(prefix="crewlog-demo-"))
    # If the demo breaks off, the server cancels the running jobs as it stops.
    server = Server(directory / "data", "--stop-jobs", cwd=ROOT, CREWLOG_LOG_LEVEL="warning")
    try:
        began = time.monotonic()
        with server:
            took = time.monotonic() - began
            with Client(lambda: Endpoint(server.url, server.token)) as client:
                demo = Demo(server, client, screen)
                demo.say(
                    f"A server in a temporary directory answers at {server.url} after {took:.1f} s."
                )
                try:
                    yield demo
                finally:
                    _end_jobs(demo)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _end_jobs(demo: Demo) -> None:
    if demo.all_ended({}):
        return
    # Only a server can end its jobs, so a killed server is started once more.
    with suppress(CrewlogError, RuntimeError):
        if not demo.server.running:
            demo.server.restart()
        for job in demo.jobs.values():
            with suppress(CrewlogError):
                demo.client.post(f"/api/jobs/{job.id}/cancel")
        deadline = time.monotonic() + _DEADLINE_S / 2
        while time.monotonic() < deadline:
            if not demo.client.get("/api/jobs", state="queued,running", limit=1)["items"]:
                return
            time.sleep(0.1)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    screen = Console(highlight=False, markup=False, emoji=False)
    if not screen.is_terminal:
        screen = Console(highlight=False, markup=False, emoji=False, width=110)
    signal.signal(signal.SIGTERM, _interrupted)
    screen.print(
        Text("crewlog", "bold")
        + Text("  one log of immutable events, and jobs that outlive", "dim")
    )
    try:
        with staged(screen) as demo:
            run(demo)
    except (Broken, CrewlogError, RuntimeError) as error:
        screen.print(Text(f"  ✗ {error}", "bold red"))
        return 1
    except KeyboardInterrupt:
        screen.print(Text("  Interrupted; everything was cleaned up.", "yellow"))
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
