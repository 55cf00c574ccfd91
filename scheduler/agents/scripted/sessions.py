"""The sessions of the scripted agent, each a JSON file in its state folder."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

_ID = re.compile(r"scripted-[0-9]{1,9}", re.ASCII)


class NoSession(Exception):
    """There is no such session."""


@dataclass(slots=True)
class Session:
    """What is known of a session."""

    id: str
    cwd: str
    mode: str = "review_and_approve"
    model: str = "none"
    tokens: int = 0
    cost: float = 0.0
    calls: int = 0  # tool calls so far
    always: list[str] = field(default_factory=list)  # steps that need no permission any more
    updates: list[dict[str, Any]] = field(default_factory=list)  # everything that was said


class Sessions:
    """Makes, loads and saves sessions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self, cwd: str) -> Session:
        """Ids are counted from `scripted-1`. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in count(1):
            path = self._path(f"scripted-{number}")
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                continue
            break
        session = Session(path.stem, cwd)
        self.save(session)
        return session

    def load(self, session_id: str, cwd: str) -> Session:
        """Raises NoSession."""
        if not _ID.fullmatch(session_id):
            raise NoSession
        try:
            found = json.loads(self._path(session_id).read_bytes())
            return Session(**{**found, "cwd": cwd})
        except (OSError, ValueError, TypeError):
            raise NoSession from None

    def save(self, session: Session) -> None:
        """The file is the old one or the new one, whenever this process is killed."""
        path = self._path(session.id)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(session)))
        draft.replace(path)

    def _path(self, session_id: str) -> Path:
        return self._folder / f"{session_id}.json"


def state_folder(environ: Mapping[str, str]) -> Path:
    if named := environ.get("CREWLOG_SCRIPTED_STATE"):
        return Path(named)
    base = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "crewlog-scripted"
