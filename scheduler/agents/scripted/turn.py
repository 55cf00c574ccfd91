"""One turn: the steps of a prompt, one after the other."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from scheduler.agents.scripted.peer import INTERNAL_ERROR, Peer, RpcError
from scheduler.agents.scripted.sessions import Session
from scheduler.agents.scripted.steps import Step

GREETING = (
    "I am the scripted agent of crewlog. There is no model behind me: "
    "I follow the steps of the prompt."
)
OUTPUT_SHOWN = 65_536
"""Most bytes of a command's output that are reported."""

CONTEXT_SIZE = 1_000_000
TERM_S = 1.0

OPTIONS = (
    {"optionId": "allow", "name": "Allow", "kind": "allow_once"},
    {"optionId": "always", "name": "Always allow", "kind": "allow_always"},
    {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
)


class Cancelled(Exception):
    """The client has cancelled a permission, and with that the turn."""


class Turn:
    """Follows steps and reports them."""

    def __init__(self, peer: Peer, session: Session) -> None:
        self._peer = peer
        self._session = session
        self._used = 0
        self.is_deaf = False
        """Whether it does not hear a cancel."""

    def begin(self, prompt: str) -> None:
        is_first = not self._session.updates
        # What the user said is repeated by `session/load`, but not said back now.
        self._session.updates.append(_chunk("user_message_chunk", prompt))
        if is_first:
            self._say(GREETING)

    async def follow(self, step: Step) -> None:
        """Raises RpcError, Cancelled."""
        match step.name:
            case "say":
                self._say(step.text)
            case "think":
                self._update(_chunk("agent_thought_chunk", step.text))
            case "plan":
                self._plan(step.text)
            case "edit":
                await self._edit(step.text, step.content)
            case "run":
                await self._run(step.text)
            case "ask":
                call = self._call("other", step.text, {})
                answer = await self._ask(call, "ask")
                self._end_call(call, "completed" if answer else "failed")
                self._say("I may." if answer else "I may not.")
            case "sleep":
                await asyncio.sleep(step.numbers[0])
            case "usage":
                self._use(*step.numbers)
            case "flood":
                for number in range(1, int(step.numbers[0]) + 1):
                    self._update(_chunk("agent_message_chunk", f"flood {number}"), keep=False)
                    if number % 100 == 0:
                        await asyncio.sleep(0)  # a cancel is heard
            case "fail":
                raise RpcError(INTERNAL_ERROR, step.text)
            case "crash":
                os._exit(int(step.numbers[0]))
            case "hang":
                self.is_deaf = step.text == "deaf"
                await asyncio.Event().wait()

    def result(self, stop: str) -> dict[str, Any]:
        """The answer to the prompt."""
        if not self._used:
            return {"stopReason": stop}
        usage = {"totalTokens": self._used, "inputTokens": self._used, "outputTokens": 0}
        return {"stopReason": stop, "usage": usage}

    def _say(self, text: str) -> None:
        self._update(_chunk("agent_message_chunk", text))

    def _plan(self, text: str) -> None:
        entries = [
            {"content": entry.strip(), "priority": "medium", "status": "pending"}
            for entry in text.split(";")
            if entry.strip()
        ]
        self._update({"sessionUpdate": "plan", "entries": entries})

    def _use(self, tokens: float, cost: float = 0.0) -> None:
        self._used += int(tokens)
        self._session.tokens += int(tokens)
        self._session.cost = round(self._session.cost + cost, 9)
        update: dict[str, Any] = {
            "sessionUpdate": "usage_update",
            "used": self._session.tokens,
            "size": CONTEXT_SIZE,
        }
        if self._session.cost:
            update["cost"] = {"amount": self._session.cost, "currency": "USD"}
        self._update(update)

    async def _edit(self, name: str, text: str) -> None:
        root, path = _resolved(self._session.cwd, name)
        old = _text_of(path)
        diff = {"type": "diff", "path": str(path), "oldText": old, "newText": text}
        call = self._call("edit", f"Edit {name}", {"path": str(path)}, [diff])
        if not path.is_relative_to(root):
            self._end_call(call, "failed", f"{name} is outside the worktree.")
        elif await self._may(call, "edit"):
            try:
                _write(path, text)
            except OSError as error:
                self._end_call(call, "failed", f"{name} could not be written: {error.strerror}.")
            else:
                self._end_call(call, "completed")

    async def _run(self, command: str) -> None:
        call = self._call("execute", command, {"command": command})
        if not await self._may(call, "run"):
            return
        self._progress(call, "in_progress")
        # A file, not a pipe: what the command leaves running may hold it.
        with tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_shell(
                command,
                cwd=self._session.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await _end(process)
                self._end_call(call, "failed", "Cancelled.")
                raise
            output.seek(0)
            text = output.read(OUTPUT_SHOWN).decode(errors="replace")
        self._end_call(call, "failed" if code else "completed", text, {"exitCode": code})

    async def _may(self, call: dict[str, Any], step: str) -> bool:
        """Whether the call may go on. Ends it if not."""
        mode = self._session.mode
        if mode == "full_auto" or step in self._session.always:
            return True
        if mode == "observe_only":
            self._end_call(call, "failed", "The mode is observe_only.")
            return False
        if await self._ask(call, step):
            return True
        self._end_call(call, "failed", "Rejected.")
        return False

    async def _ask(self, call: dict[str, Any], step: str) -> bool:
        """Raises Cancelled."""
        shown = {key: value for key, value in call.items() if key != "sessionUpdate"}
        try:
            answer = await self._peer.ask(
                "session/request_permission",
                {"sessionId": self._session.id, "toolCall": shown, "options": OPTIONS},
            )
        except asyncio.CancelledError:
            self._end_call(call, "failed", "Cancelled.")
            raise
        outcome = answer.get("outcome") or {}
        if outcome.get("outcome") != "selected":
            self._end_call(call, "failed", "Cancelled.")
            raise Cancelled
        if outcome.get("optionId") == "always" and step != "ask":
            self._session.always.append(step)
        return outcome.get("optionId") in ("allow", "always")

    def _call(
        self, kind: str, title: str, arguments: dict[str, Any], content: Any = ()
    ) -> dict[str, Any]:
        self._session.calls += 1
        call = {
            "sessionUpdate": "tool_call",
            "toolCallId": f"call-{self._session.calls}",
            "title": title,
            "kind": kind,
            "status": "pending",
            "content": list(content),
            "rawInput": arguments,
        }
        if "path" in arguments:
            call["locations"] = [{"path": arguments["path"]}]
        self._update(call)
        return call

    def _progress(self, call: dict[str, Any], status: str, **more: Any) -> None:
        number = call["toolCallId"]
        update = {"sessionUpdate": "tool_call_update", "toolCallId": number, "status": status}
        self._update({**update, **more})

    def _end_call(
        self, call: dict[str, Any], status: str, text: str = "", output: Any = None
    ) -> None:
        more: dict[str, Any] = {}
        if text:
            more["content"] = [{"type": "content", "content": {"type": "text", "text": text}}]
        if output is not None:
            more["rawOutput"] = output
        self._progress(call, status, **more)

    def _update(self, update: dict[str, Any], keep: bool = True) -> None:
        if keep:
            self._session.updates.append(update)
        self._peer.tell("session/update", {"sessionId": self._session.id, "update": update})


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            async with asyncio.timeout(TERM_S):
                await process.wait()
        except (ProcessLookupError, TimeoutError):
            continue


def _resolved(cwd: str, name: str) -> tuple[Path, Path]:
    root = Path(os.path.realpath(cwd))
    return root, Path(os.path.realpath(root / name))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _text_of(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.is_file() else None


def _chunk(kind: str, text: str) -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}}
