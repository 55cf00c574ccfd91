"""A job as the lines of gitoma's stream (`contracts/gitoma.md` §6)."""

import json
from typing import Any

from api.dialects.gitoma.job_json import STATUSES
from api.edge.sse import WireForm
from domain.coverage import types
from domain.job.events import JobState
from domain.log import Recorded

_LINE_BYTES = 4096
_SENTINEL = "__END__"


def _frame(position: int, index: int, line: str) -> bytes:
    return b"id: %d:%d\nevent: line\ndata: %s\n\n" % (
        position,
        index,
        json.dumps({"line": line}).encode(),
    )


def shown_line(line: str) -> str:
    """An output line as the stream shows it: at most 4,096 bytes of UTF-8, and never
    mistaken for the end.
    """
    if len(line) * 4 > _LINE_BYTES:
        encoded = line.encode("utf-8", "surrogatepass")
        if len(encoded) > _LINE_BYTES:
            line = encoded[:_LINE_BYTES].decode("utf-8", "ignore") + "…(truncated)"
    return "\\" + line if line.startswith(_SENTINEL) else line


def stream_lines(event: Recorded) -> list[str]:
    """The stream's lines for one event. The very last line of a job is its sentinel."""
    data = event.data
    if event.type == "job.submitted":
        return [shown_line("$ " + " ".join(data["argv"]))]
    if event.type == "job.output":
        return [shown_line(line) for line in data["lines"]]
    if event.type == "job.output_dropped":
        return [f"[warn] {data['bytes']} bytes of output over the limit were dropped"]
    if event.type == "job.finished":
        sentinel = f"{_SENTINEL}:{STATUSES[JobState(data['outcome'])]}"
        return [*last_words(data), sentinel]
    return []


def interim_lines(event: Recorded) -> list[str]:
    """As `stream_lines`, for an end after which the job was done again: a client stops reading at a
    sentinel.
    """
    lines = stream_lines(event)
    if event.type == "job.finished":
        status = lines[-1].removeprefix(f"{_SENTINEL}:")
        lines[-1] = f"[info] ended as {status}; the job was done again"
    return lines


def last_words(data: dict[str, Any]) -> list[str]:
    if data["outcome"] == "timed_out":
        return ["[error] the time limit passed: the job was killed"]
    if data["outcome"] == "failed" and data["reason"]:
        return [shown_line(f"[error] {data['reason']}")]
    return []


def _framed(event: Recorded, lines: list[str]) -> list[bytes]:
    return [_frame(event.position, index, line) for index, line in enumerate(lines)]


LINES = WireForm(
    "gitoma",
    lambda event: _framed(event, stream_lines(event)),
    lambda event: _framed(event, interim_lines(event)),
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifact_stored artifacts_dropped "
            "attempt_ended attempt_lost block_asked blocked cancel_requested commented deleted "
            "freed lease_expired made_stale messaged paused progressed queued redone result_given "
            "resumed started stranded trusted unarchived unblocked"
        ),
    ),
)
"""``event: line`` frames as gitoma's cockpit parses them, with ids that it ignores."""
