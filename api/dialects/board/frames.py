"""A job as the frames of the board's stream (`contracts/board.md` §3, §5.3).

A frame is one ``data:`` line of JSON with a ``type``: ``user_message`` once, ``chunk`` for each
step, ``final_result`` at the end. In addition to the board's own form, each frame has an id, and
one stream covers all attempts.
"""

from collections.abc import Callable
from typing import Any

import orjson

from api.edge.sse import WireForm
from domain.coverage import types
from domain.log import Recorded

Frame = dict[str, Any]


def _chunk(step: Frame) -> Frame:
    return {"type": "chunk", "stepResult": step}


def _said(text: str) -> Frame:
    """An event as a step that is only text, and not a line of output."""
    return _chunk({"type": "text", "text": text, "note": True})


def _submitted(event: Recorded) -> list[Frame]:
    plan = event.data["plan"]
    text = plan["body"] if plan is not None and plan["body"] else event.data["title"]
    return [{"type": "user_message", "userInput": text}]


def _started(event: Recorded) -> list[Frame]:
    return [_chunk({"type": "agent_start", "agentName": f"attempt {event.data['attempt']}"})]


def _output(event: Recorded) -> list[Frame]:
    return [_chunk({"type": "text", "text": line + "\n"}) for line in event.data["lines"]]


def _attempt_ended(event: Recorded) -> list[Frame]:
    data = event.data
    step = {
        "type": "agent_end",
        "agentName": f"attempt {data['attempt']}",
        "result": data["reason"] or data["outcome"],
    }
    return [_chunk(step)]


def _finished(event: Recorded) -> list[Frame]:
    data = event.data
    frames: list[Frame] = []
    if data["attempt"]:
        frames = _attempt_ended(event)
    text = data["reason"] or data["outcome"]
    result = {"text": text, "outcome": data["outcome"], "exitCode": data["exit_code"]}
    return [*frames, {"type": "final_result", "finalResult": result}]


def _ended_once(event: Recorded) -> list[Frame]:
    """The frames of an end after which the job was done again: as many as for a last end."""
    *before, result = _finished(event)
    return [*before, _said(f"Ended: {result['finalResult']['text']}\n")]


def _blocked(event: Recorded) -> list[Frame]:
    data = event.data
    return [_said(f"{'Gave up' if data['gave_up'] else 'Blocked'}: {data['reason']}\n")]


def _asked(event: Recorded) -> list[Frame]:
    data = event.data
    step = {
        "type": "agent_tool_start",
        "agentName": f"attempt {data['attempt']}",
        "toolName": "approval",
        "toolArgumentsStr": data["description"],
    }
    return [_chunk(step)]


def _answered(event: Recorded) -> list[Frame]:
    data = event.data
    step = {
        "type": "agent_tool_end",
        "agentName": f"attempt {data['attempt']}",
        "toolName": "approval",
        "result": data["resolution"],
    }
    return [_chunk(step)]


_FRAMES: dict[str, Callable[[Recorded], list[Frame]]] = {
    "job.submitted": _submitted,
    "job.started": _started,
    "job.output": _output,
    "job.attempt_ended": _attempt_ended,
    "job.finished": _finished,
    "job.approval_requested": _asked,
    "job.approval_answered": _answered,
    "job.blocked": _blocked,
    "job.commented": lambda e: [_said(f"Comment by {e.actor}: {e.data['text']}\n")],
    "job.redone": lambda _: [_said("To be done again.\n")],
    "job.made_stale": lambda _: [_said("A parent is done again.\n")],
}

_PASSED_OVER = types(
    "approval crew delivery email identity operator request schedule token user",
    job=(
        "archived artifact_stored artifacts_dropped attempt_lost block_asked cancel_requested "
        "deleted freed lease_expired messaged output_dropped paused progressed queued "
        "result_given resumed stranded trusted unarchived unblocked"
    ),
)


def _encode(event: Recorded) -> list[bytes]:
    make = _FRAMES.get(event.type)
    return [] if make is None else _with_ids(event, make(event))


def _with_ids(event: Recorded, frames: list[Frame]) -> list[bytes]:
    last = len(frames) - 1
    return [
        b"id: %s\ndata: %s\n\n" % (_id(event.position, index, last), orjson.dumps(frame))
        for index, frame in enumerate(frames)
    ]


def _id(position: int, index: int, last: int) -> bytes:
    return b"%d" % position if index == last else b"%d:%d" % (position, index)


def _encode_interim(event: Recorded) -> list[bytes]:
    if event.type != "job.finished":
        return _encode(event)
    return _with_ids(event, _ended_once(event))


BOARD = WireForm("board", _encode, _encode_interim, _PASSED_OVER)
"""Frames of the job board."""
