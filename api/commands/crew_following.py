"""Follows a crew: its jobs' output and states, until nothing in it can go on by itself.

Each job has a stream of its own, which a thread of its own reads and resumes after lost connections
and restarts of the server. All threads write into one queue.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from api.commands import terminal
from api.commands.options import API
from api.commands.states import state_of
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client

_LOOK_S = 1.0
_PATIENCE_S = 300.0
_LEAVE_S = 1.0

Json = dict[str, Any]


_MOVING = ("queued", "running", "cancelling", "waiting_for_approval")


def moving(jobs: Collection[Json]) -> set[str]:
    """Ids of the jobs that will go on, by themselves or after an answer. `jobs` are in
    dependency order.
    """
    there = {job["id"] for job in jobs}
    done = {job["id"] for job in jobs if state_of(job) == "completed"}
    # A job that waits for one of these will soon be marked as stranded.
    failed = {
        job["id"] for job in jobs if job["gaveUp"] or (job["outcome"] and job["id"] not in done)
    }
    found: set[str] = set()
    for job in jobs:
        state, parents = state_of(job), there.intersection(job["parents"])
        waits = state == "held" and (parents <= done | found or parents & failed)
        if waits or state in _MOVING:
            found.add(job["id"])
    return found


class CrewFollowing:
    """Prints what happens in one crew: output to stdout, everything else to stderr. If `quiet`, it
    prints only questions. `connect` gives each reader a client of its own.
    """

    def __init__(
        self, client: "Client", connect: "Callable[[], Client]", crew_id: str, *, quiet: bool
    ) -> None:
        self._client = client
        self._connect = connect
        self._path = f"{API}/crews/{crew_id}"
        self._quiet = quiet
        self._said: Queue[Json | CrewlogError] = Queue()
        self._readers: dict[str, threading.Thread] = {}
        self._positions: dict[str, int] = {}
        """How far each job's stream was read. The next reader of a job goes on from there."""
        self._crew: Json | None = None
        self._jobs: list[Json] = []
        """The jobs at the last look."""
        self._versions: dict[str, int] = {}
        """How far each job's own stream was printed."""
        self._untold: list[Json] = []
        self._keys: dict[str, str] = {}
        self._width = 0
        self._lost_at: float | None = None

    def run(self) -> Json:
        """Returns the crew, once nothing in it can go on and everything was printed. Raises
        Unreachable, Rejected.
        """
        self._look()
        while self._crew is None or not self._is_over():
            events = self._next()
            self._untold += events
            if not events or any(event["type"] != "job.output" for event in events):
                self._look()
            self._tell_what_is_due()
        return self._crew

    def leave(self, code: int) -> NoReturn:
        """End the command with this exit code, now.

        A reader thread may still wait for the server. A normal end of the interpreter takes away
        what that thread uses, and has been seen to crash. So this leaves without one.
        """
        for reader in self._readers.values():
            reader.join(_LEAVE_S / len(self._readers))
        if any(reader.is_alive() for reader in self._readers.values()):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        raise typer.Exit(code)

    def _next(self) -> list[Json]:
        """What the readers have queued so far, in the order of the log. Empty after a while without
        anything.
        """
        heard: list[Json | CrewlogError] = []
        with suppress(Empty):
            heard.append(self._said.get(timeout=_LOOK_S))
            while True:
                heard.append(self._said.get_nowait())
        for one in heard:
            if isinstance(one, CrewlogError):
                raise one
        events = [one for one in heard if isinstance(one, dict)]
        return sorted(events, key=lambda event: int(event["position"]))

    def _is_over(self) -> bool:
        going = moving(self._jobs)
        behind = {job["id"] for job in self._jobs if self._is_behind(job)}
        for job_id in going | behind:
            self._read(job_id)
        return not (going or behind or self._untold)

    def _is_behind(self, job: Json) -> bool:
        """Whether something happened to the job that was not yet printed."""
        return self._versions.get(job["id"], 0) < int(job["version"])

    def _look(self) -> None:
        """Read the jobs' present state. Does nothing while the server does not answer."""
        from api.commands.client import Rejected, Unreachable

        try:
            crew = self._client.get(self._path)
        except (Unreachable, Rejected) as error:
            if isinstance(error, Rejected) and error.status < 500:
                raise
            self._wait_for_it(error)
            return
        self._crew = crew
        self._take(crew["jobs"])
        if self._lost_at is not None:
            terminal.notice("Connected again.")
            self._lost_at = None

    def _take(self, jobs: list[Json]) -> None:
        self._jobs = jobs
        self._keys |= {job["id"]: job["key"] for job in jobs}
        self._width = max((len(key) for key in self._keys.values()), default=0)

    def _wait_for_it(self, error: CrewlogError) -> None:
        """Raises the error if the server has been away for too long."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            terminal.notice("The connection was lost; trying to resume…")
        elif now - self._lost_at > _PATIENCE_S:
            raise error

    # Reading

    def _read(self, job_id: str) -> None:
        reader = self._readers.get(job_id)
        if reader is None or not reader.is_alive():
            self._readers[job_id] = threading.Thread(
                target=self._follow, args=(job_id,), name=f"reader of {job_id}", daemon=True
            )
            self._readers[job_id].start()

    def _follow(self, job_id: str) -> None:
        after = self._positions.get(job_id)
        try:
            with self._connect() as client:
                stream = client.follow(f"{API}/log/stream", subject=f"job-{job_id}", after=after)
                for frame in stream:
                    event = json.loads(frame.data)
                    self._positions[job_id] = event["position"]
                    self._said.put(event)
                    if event["type"] == "job.finished":
                        return
        except CrewlogError as error:
            self._said.put(error)

    # Telling

    def _tell_what_is_due(self) -> None:
        """Print in the order of the log. But print a job's events only after the events of its
        parents that led to them.
        """
        while True:
            behind = {job["id"] for job in self._jobs if self._is_behind(job)}
            waiting = {job["id"] for job in self._jobs if behind.intersection(job["parents"])}
            due = [event for event in self._untold if _job_of(event) not in waiting]
            if not due:
                return
            self._untold = [event for event in self._untold if _job_of(event) in waiting]
            for event in due:
                self._tell(event)

    def _tell(self, event: Json) -> None:
        job_id = _job_of(event)
        if "/" not in event["stream"]:
            self._versions[job_id] = event["version"]
        key = self._keys.get(job_id, job_id).ljust(self._width)
        if event["type"] == "job.approval_requested":
            terminal.notice(f"{key} ? {_question(event['data'])}")
        elif self._quiet:
            return
        elif event["type"] == "job.output":
            for line in event["data"]["lines"]:
                terminal.write_line(f"{key} | {line}")
        elif (tell := _SENTENCES.get(event["type"])) is not None:
            terminal.notice(f"{key} * {terminal.plain(tell(event['data']))}")


def _job_of(event: Json) -> str:
    return str(event["stream"]).partition("/")[0].removeprefix("job-")


def _question(data: Json) -> str:
    return terminal.question(data["description"], data["approval"])


def _with_reason(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


def _finished(data: Json) -> str:
    outcome = data["outcome"].replace("_", " ")
    if data["outcome"] == "failed" and not data["reason"] and data["exit_code"] is not None:
        return f"failed: exit code {data['exit_code']}"
    return _with_reason(outcome, data["reason"])


def _attempt_ended(data: Json) -> str:
    reason = data["reason"]
    if not reason and data["exit_code"] is not None:
        reason = f"exit code {data['exit_code']}"
    outcome = data["outcome"].replace("_", " ")
    return _with_reason(f"attempt {data['attempt']} {outcome}", reason)


_SENTENCES: dict[str, Callable[[Json], str]] = {
    "job.queued": lambda d: "queued" if d["attempt"] == 1 else f"queued, attempt {d['attempt']}",
    "job.started": lambda d: f"running, attempt {d['attempt']}",
    "job.output_dropped": lambda d: f"{d['bytes']} bytes of output over the limit were dropped",
    "job.progressed": lambda d: _with_reason(
        "progress" + (f" {float(d['fraction']):.0%}" if d["fraction"] is not None else ""),
        d["text"],
    ),
    "job.attempt_ended": _attempt_ended,
    "job.blocked": lambda d: f"{'gave up' if d['gave_up'] else 'blocked'}: {d['reason']}",
    "job.unblocked": lambda _: "unblocked",
    "job.redone": lambda d: _with_reason("to be done again", d["feedback"]),
    "job.made_stale": lambda _: "stale: a parent is done again",
    "job.stranded": lambda d: f"cannot start: {d['reason']}",
    "job.freed": lambda _: "can start after all",
    "job.approval_answered": lambda d: str(d["resolution"]),
    "job.cancel_requested": lambda _: "is to be cancelled",
    "job.artifact_stored": lambda d: f"left {d['name']}, {d['size']} bytes",
    "job.finished": _finished,
}
"""The text for each event, behind the job's key."""
