"""The session with the agent: how it begins, and its mode and model."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from acp import PROTOCOL_VERSION, RequestError
from acp.schema import (
    ClientCapabilities,
    FileSystemCapabilities,
    Implementation,
    InitializeRequest,
    LoadSessionRequest,
    NewSessionRequest,
    ResumeSessionRequest,
    SetSessionConfigOptionSelectRequest,
    SetSessionModeRequest,
)

from scheduler.agents.host.configuration import Begin
from scheduler.agents.host.endings import Ended, ExitCode
from scheduler.agents.host.journal import Journal
from scheduler.agents.host.wire import Wire

AUTHENTICATION_REQUIRED = -32000
NAMES_SHOWN = 20


class Refused(Exception):
    """The agent refuses, or has no such mode or model. The message is for a person."""


@dataclass(frozen=True, slots=True)
class Agent:
    """What the agent said of itself."""

    name: str
    can_load: bool
    can_resume: bool
    logins: tuple[str, ...]


async def initialize(wire: Wire, journal: Journal) -> Agent:
    """Raises RequestError, and Ended if the agent speaks another version of the protocol."""
    result = await wire.ask(
        "initialize",
        InitializeRequest(
            protocol_version=PROTOCOL_VERSION,
            # Agents edit and run by themselves, in their sandbox, and report it.
            client_capabilities=ClientCapabilities(
                fs=FileSystemCapabilities(read_text_file=False, write_text_file=False),
                terminal=False,
            ),
            client_info=Implementation(name="crewlog", version=version("crewlog")),
        ),
    )
    spoken = result.get("protocolVersion")
    info, can = _object(result.get("agentInfo")), _object(result.get("agentCapabilities"))
    agent = Agent(
        name=str(info.get("name") or "The agent"),
        can_load=can.get("loadSession") is True,
        can_resume=_object(can.get("sessionCapabilities")).get("resume") is not None,
        logins=tuple(
            str(method.get("name") or method.get("id"))
            for method in _objects(result.get("authMethods"))
        ),
    )
    journal.note(
        "initialized",
        agent={"name": info.get("name"), "version": info.get("version")},
        load=agent.can_load,
        resume=agent.can_resume,
        auth=agent.logins,
    )
    if spoken != PROTOCOL_VERSION:
        sentence = f"The agent speaks version {spoken!r} of the protocol, not {PROTOCOL_VERSION}."
        raise Ended(ExitCode.REFUSED, sentence)
    return agent


class Session:
    """A session that has begun."""

    def __init__(self, wire: Wire, session_id: str, result: dict[str, Any]) -> None:
        self._wire = wire
        self.id = session_id
        """From the answer to our request: what messages say later is not asked."""
        self._modes = _object(result.get("modes"))
        self._options = _objects(result.get("configOptions"))

    async def set_mode(self, mode: str) -> None:
        """Raises Refused, and ConnectionError if the agent is gone."""
        known = _ids(self._modes.get("availableModes"), "id")
        option = self._option("mode")
        if mode in known:
            request = SetSessionModeRequest(session_id=self.id, mode_id=mode)
            await self._set("session/set_mode", request, f"the mode {mode!r}")
        elif option is not None:
            await self._choose(option, mode, "mode")
        elif known:
            raise Refused(f"The agent has no mode {mode!r}. Known: {_listed(known)}.")
        else:
            raise Refused(f"The agent has no modes, so {mode!r} cannot be set.")

    async def set_model(self, model: str, option_id: str | None) -> None:
        """Raises Refused, and ConnectionError if the agent is gone."""
        option = self._option("model", option_id)
        if option is None:
            raise Refused(f"The agent has no option for the model, so {model!r} cannot be set.")
        await self._choose(option, model, "model")

    def _option(self, category: str, option_id: str | None = None) -> dict[str, Any] | None:
        for option in self._options:
            if option.get("id") == option_id or (
                option_id is None and option.get("category") == category
            ):
                return option
        return None

    async def _choose(self, option: dict[str, Any], value: str, what: str) -> None:
        known = list(_values(option))
        if value not in known:
            raise Refused(f"The agent has no {what} {value!r}. Known: {_listed(known)}.")
        request = SetSessionConfigOptionSelectRequest(
            session_id=self.id, config_id=str(option.get("id")), value=value
        )
        result = await self._set("session/set_config_option", request, f"the {what} {value!r}")
        self._options = _objects(result.get("configOptions")) or self._options

    async def _set(self, method: str, request: Any, what: str) -> dict[str, Any]:
        try:
            return await self._wire.ask(method, request)
        except RequestError as error:
            raise Refused(f"The agent refused {what}: {error}.") from None


async def begin_session(
    wire: Wire, journal: Journal, agent: Agent, begin: Begin, cwd: str
) -> Session:
    """Raises Refused, and ConnectionError if the agent is gone."""
    how = begin.how
    if how == "continue":
        how = "resume" if agent.can_resume else "load"
    if (how == "load" and not agent.can_load) or (how == "resume" and not agent.can_resume):
        raise Refused(f"{agent.name} cannot {how} a session.")
    try:
        if how == "load":
            load = LoadSessionRequest(cwd=cwd, session_id=begin.session, mcp_servers=[])
            result = await wire.ask("session/load", load)
        elif how == "resume":
            resume = ResumeSessionRequest(cwd=cwd, session_id=begin.session, mcp_servers=[])
            result = await wire.ask("session/resume", resume)
        else:
            new = NewSessionRequest(cwd=cwd, mcp_servers=[])
            result = await wire.ask("session/new", new)
    except RequestError as error:
        raise Refused(_refusal(agent, how, begin.session, error)) from None
    session_id = begin.session if how != "new" else result.get("sessionId")
    if not isinstance(session_id, str) or not session_id:
        raise Refused("The agent gave its session no id.")
    journal.note("session", session=session_id, how=how)
    return Session(wire, session_id, result)


def _refusal(agent: Agent, how: str, session: str, error: RequestError) -> str:
    if error.code == AUTHENTICATION_REQUIRED:
        ways = f" Ways: {', '.join(agent.logins)}." if agent.logins else ""
        return f"{agent.name} wants a login first.{ways}"
    if how == "new":
        return f"{agent.name} did not begin a session: {error}."
    return f"{agent.name} did not {how} the session {session!r}: {error}."


def _values(option: dict[str, Any]) -> Iterator[str]:
    """The values of an option, which may be in groups."""
    for entry in _objects(option.get("options")):
        if isinstance(value := entry.get("value"), str):
            yield value
        yield from _ids(entry.get("options"), "value")


def _ids(entries: Any, key: str) -> list[str]:
    found = (entry.get(key) for entry in _objects(entries))
    return [value for value in found if isinstance(value, str)]


def _listed(names: list[str]) -> str:
    more = ["…"] if len(names) > NAMES_SHOWN else []
    return ", ".join([*names[:NAMES_SHOWN], *more]) or "none"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
