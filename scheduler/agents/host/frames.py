"""The frames of the inbox: what people want of the agent."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from scheduler.executors.inbox import Frame


class BadFrame(Exception):
    """The frame cannot be read. The message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Prompt:
    id: str
    text: str
    when: Literal["after", "interrupt"]
    frame: int


@dataclass(frozen=True, slots=True)
class Answer:
    request: int
    option: str | None
    frame: int


@dataclass(frozen=True, slots=True)
class Change:
    """Of the mode or the model. `frame` is None if the configuration wants it."""

    what: Literal["mode", "model"]
    value: str
    frame: int | None


@dataclass(frozen=True, slots=True)
class Order:
    what: Literal["cancel", "pause", "resume", "end"]
    frame: int


Message = Prompt | Answer | Change | Order


def what_of(frame: Frame) -> str | None:
    """What the frame says is to be done, as far as it can be read."""
    found = _object(frame)
    what = None if found is None else found.get("do")
    return what[:100] if isinstance(what, str) else None


def read_frame(frame: Frame) -> Message:
    """Raises BadFrame."""
    found = _object(frame)
    if found is None:
        raise BadFrame("The frame is not a JSON object.")
    match found.get("do"):
        case "prompt":
            when = found.get("when", "after")
            if when not in ("after", "interrupt"):
                raise BadFrame("when must be one of: after, interrupt.")
            return Prompt(_text(found, "id"), _text(found, "text"), when, frame.number)
        case "answer":
            request, option = found.get("request"), found.get("option")
            if not isinstance(request, int) or not isinstance(option, str | None):
                raise BadFrame("An answer needs the number of a request, and an option or null.")
            return Answer(request, option, frame.number)
        case "mode" | "model" as what:
            return Change(what, _text(found, what), frame.number)
        case "cancel" | "pause" | "resume" | "end" as what:
            return Order(what, frame.number)
    known = "answer, cancel, end, mode, model, pause, prompt, resume"
    raise BadFrame(f"do must be one of: {known}.")


def _object(frame: Frame) -> dict[str, Any] | None:
    try:
        found = json.loads(frame.data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise BadFrame(f"{key} must be a text.")
    return value
