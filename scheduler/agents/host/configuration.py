"""What the host is told when it starts: CREWLOG_AGENT, CREWLOG_CHANNELS and CREWLOG_INBOX."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

How = Literal["new", "load", "resume", "continue"]

_OWN = ("CREWLOG_AGENT", "CREWLOG_CHANNELS", "CREWLOG_INBOX")
"""Variables that the agent does not get: they lead to the journal and the inbox."""

_KEYS = ("argv", "env", "cwd", "mode", "model", "model_option", "begin", "limits")


class Unusable(Exception):
    """The configuration cannot be used. The message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Begin:
    """How the session begins."""

    how: How = "new"
    session: str = ""  # its id; empty with `new`


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    initialize_s: float = 60.0  # from the question to the answer
    silence_warn_s: float = 300.0  # while the agent owes an answer; 0 = never
    silence_fail_s: float = 900.0  # likewise
    cancel_grace_s: float = 5.0  # for the agent to end a turn, and to exit


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration. Its representation shows no values of the environment."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(repr=False)  # the complete environment of the agent
    mode: str | None = None
    model: str | None = None
    model_option: str | None = None
    begin: Begin = Begin()
    limits: Limits = Limits()


def read_configuration(environ: Mapping[str, str]) -> Configuration:
    """Raises Unusable."""
    try:
        found = json.loads(environ["CREWLOG_AGENT"])
    except KeyError:
        raise Unusable("CREWLOG_AGENT is not set: it says which agent to run.") from None
    except ValueError:
        raise Unusable("CREWLOG_AGENT is not JSON.") from None
    if not isinstance(found, dict):
        raise Unusable("CREWLOG_AGENT is not a JSON object.")
    unknown = sorted(found.keys() - set(_KEYS))
    if unknown:
        raise Unusable(f"CREWLOG_AGENT: unknown: {', '.join(unknown)}. Known: {', '.join(_KEYS)}.")
    argv = found.get("argv")
    if not (isinstance(argv, list) and argv and all(isinstance(part, str) for part in argv)):
        raise Unusable("CREWLOG_AGENT: argv must be a list of texts, the program first.")
    cwd = _text(found, "cwd") or os.getcwd()
    if not os.path.isabs(cwd):
        raise Unusable("CREWLOG_AGENT: cwd must be an absolute path.")
    return Configuration(
        argv=tuple(argv),
        cwd=cwd,
        env=_env(environ, found.get("env") or {}),
        mode=_text(found, "mode"),
        model=_text(found, "model"),
        model_option=_text(found, "model_option"),
        begin=_begin(found.get("begin") or {}),
        limits=_limits(found.get("limits") or {}),
    )


def journal_descriptor(environ: Mapping[str, str]) -> int:
    """The descriptor of the channel `journal`. Raises Unusable."""
    entries = environ.get("CREWLOG_CHANNELS", "").split()
    found = {name: fd for name, _, fd in (entry.partition(":") for entry in entries)}
    try:
        return int(found["journal"])
    except (KeyError, ValueError):
        raise Unusable("CREWLOG_CHANNELS names no channel 'journal'.") from None


def inbox_path(environ: Mapping[str, str]) -> Path:
    """Raises Unusable."""
    try:
        return Path(environ["CREWLOG_INBOX"])
    except KeyError:
        raise Unusable("CREWLOG_INBOX is not set: the host needs an inbox.") from None


def _text(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not (isinstance(value, str) and value):
        raise Unusable(f"CREWLOG_AGENT: {key} must be a text or null.")
    return value


def _env(environ: Mapping[str, str], changes: Any) -> dict[str, str]:
    if not isinstance(changes, dict) or not all(
        value is None or isinstance(value, str) for value in changes.values()
    ):
        raise Unusable("CREWLOG_AGENT: env must hold texts, or null for what is to be removed.")
    merged = {name: value for name, value in environ.items() if name not in _OWN} | changes
    return {name: value for name, value in merged.items() if value is not None}


def _begin(found: Any) -> Begin:
    how = found.get("how", "new") if isinstance(found, dict) else None
    if how == "new":
        return Begin()
    session = found.get("session") if isinstance(found, dict) else None
    if how not in ("load", "resume", "continue"):
        raise Unusable("CREWLOG_AGENT: begin.how must be one of: new, load, resume, continue.")
    if not isinstance(session, str) or not session:
        raise Unusable(f"CREWLOG_AGENT: begin.session is missing: which session is it to {how}?")
    return Begin(how, session)


def _limits(found: Any) -> Limits:
    known = [entry.name for entry in fields(Limits)]
    if not isinstance(found, dict) or found.keys() - set(known):
        raise Unusable(f"CREWLOG_AGENT: limits may hold: {', '.join(known)}.")
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise Unusable(f"CREWLOG_AGENT: limits.{name} must be a number of seconds.")
    return Limits(**found)
