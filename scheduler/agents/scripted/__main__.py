"""Runs the scripted agent. See `scheduler.agents.scripted`."""

import asyncio
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scheduler.agents.scripted.peer import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Peer,
    RpcError,
)
from scheduler.agents.scripted.sessions import NoSession, Session, Sessions, state_folder
from scheduler.agents.scripted.steps import BadScript, read_steps
from scheduler.agents.scripted.turn import Cancelled, Turn

PROTOCOL_VERSION = 1
RESOURCE_NOT_FOUND = -32002
MODES = {
    "review_and_approve": "Asks before it edits or runs",
    "full_auto": "Does not ask",
    "observe_only": "Neither edits nor runs",
}
MODELS = {"none": "No model", "none-2": "No model either"}


class ScriptedAgent:
    """The methods of the protocol."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._known: dict[str, Session] = {}
        self._turns: dict[str, tuple[Turn, asyncio.Task[dict[str, Any]]]] = {}
        self.peer = Peer(self._handle, self._hear)

    async def _handle(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Raises RpcError."""
        match method:
            case "initialize":
                return _introduction()
            case "session/new":
                session = self._sessions.new(str(params.get("cwd") or os.getcwd()))
                self._known[session.id] = session
                return {"sessionId": session.id, **_choices(session)}
            case "session/load" | "session/resume":
                session = self._load(params)
                if method == "session/load":
                    for update in session.updates:
                        self.peer.tell(
                            "session/update", {"sessionId": session.id, "update": update}
                        )
                return _choices(session)
            case "session/set_mode":
                session = self._session(params)
                session.mode = _chosen(params.get("modeId"), MODES, "mode")
                self._sessions.save(session)
                return {}
            case "session/set_config_option":
                session = self._session(params)
                _chosen(params.get("configId"), {"model": ""}, "option")
                session.model = _chosen(params.get("value"), MODELS, "model")
                self._sessions.save(session)
                return {"configOptions": _choices(session)["configOptions"]}
            case "session/prompt":
                return await self._prompt(self._session(params), _text_of(params.get("prompt")))
        raise RpcError(METHOD_NOT_FOUND, f"This agent has no method {method!r}.")

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        turn = self._turns.get(str(params.get("sessionId")))
        if method == "session/cancel" and turn is not None and not turn[0].is_deaf:
            turn[1].cancel()

    async def _prompt(self, session: Session, text: str) -> dict[str, Any]:
        if session.id in self._turns:
            raise RpcError(INVALID_REQUEST, "The session is in a turn.")
        turn = Turn(self.peer, session)
        task = asyncio.create_task(self._follow(turn, session, text))
        self._turns[session.id] = turn, task
        try:
            return await task
        except (asyncio.CancelledError, Cancelled):
            return turn.result("cancelled")
        finally:
            del self._turns[session.id]
            self._sessions.save(session)

    async def _follow(self, turn: Turn, session: Session, text: str) -> dict[str, Any]:
        turn.begin(text)
        try:
            steps = read_steps(text, Path(session.cwd))
        except BadScript as error:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        for step in steps:
            self._sessions.save(session)  # what was said is there also after a crash
            await turn.follow(step)
        return turn.result("end_turn")

    def _load(self, params: dict[str, Any]) -> Session:
        session_id = str(params.get("sessionId"))
        try:
            session = self._sessions.load(session_id, str(params.get("cwd") or os.getcwd()))
        except NoSession:
            raise RpcError(RESOURCE_NOT_FOUND, f"There is no session {session_id!r}.") from None
        self._known[session.id] = session
        return session

    def _session(self, params: dict[str, Any]) -> Session:
        session_id = str(params.get("sessionId"))
        if session_id not in self._known:
            raise RpcError(RESOURCE_NOT_FOUND, f"There is no session {session_id!r}.")
        return self._known[session_id]


def _introduction() -> dict[str, Any]:
    try:
        number = version("crewlog")
    except PackageNotFoundError:
        number = "0"
    title = "Scripted agent (no model: it follows the steps of its prompt)"
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "agentInfo": {"name": "crewlog-scripted", "title": title, "version": number},
        "agentCapabilities": {
            "loadSession": True,
            "sessionCapabilities": {"resume": {}},
            "promptCapabilities": {},
        },
        "authMethods": [],
    }


def _choices(session: Session) -> dict[str, Any]:
    return {
        "modes": {
            "currentModeId": session.mode,
            "availableModes": [{"id": mode, "name": name} for mode, name in MODES.items()],
        },
        "configOptions": [
            {
                "id": "model",
                "name": "Model",
                "category": "model",
                "type": "select",
                "currentValue": session.model,
                "options": [{"value": model, "name": name} for model, name in MODELS.items()],
            }
        ],
    }


def _chosen(value: Any, known: dict[str, str], what: str) -> str:
    """Raises RpcError."""
    if value not in known:
        names = ", ".join(known)
        raise RpcError(INVALID_PARAMS, f"There is no {what} {value!r}. Known: {names}.")
    return str(value)


def _text_of(blocks: Any) -> str:
    texts = (block.get("text") for block in blocks or () if isinstance(block, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def main() -> int:
    asyncio.run(ScriptedAgent(Sessions(state_folder(os.environ))).peer.run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
