"""The conversation with an agent: turns, one at a time, and what people say in between."""

import asyncio
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from acp import RequestError
from acp.schema import CancelNotification, PromptRequest, TextContentBlock

from scheduler.agents.host.agent_process import AgentProcess
from scheduler.agents.host.configuration import Configuration
from scheduler.agents.host.endings import Ended, Ending, ExitCode
from scheduler.agents.host.frames import (
    Answer,
    BadFrame,
    Change,
    Message,
    Order,
    Prompt,
    read_frame,
    what_of,
)
from scheduler.agents.host.journal import Journal
from scheduler.agents.host.permissions import NotOpen, Permissions
from scheduler.agents.host.session import Refused, Session, begin_session, initialize
from scheduler.agents.host.wire import Request, Wire
from scheduler.agents.host.worktree import NotAllowed, Worktree
from scheduler.executors.inbox import LOOK_INTERVAL_S, Frame, Inbox

T = TypeVar("T")

DRAIN_S = 1.0
"""After the agent's exit: a process that it left behind may hold its output for ever."""


class Conversation:
    """From `initialize` to the end of the host."""

    def __init__(
        self, configuration: Configuration, journal: Journal, inbox: Inbox, process: AgentProcess
    ) -> None:
        self._configuration = configuration
        self._limits = configuration.limits
        self._journal = journal
        self._inbox = inbox
        self._process = process
        self._worktree = Worktree(configuration.cwd)
        self._permissions = Permissions(journal)
        self._wire = Wire(journal, self._notice, self._answer)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._news: asyncio.Future[None] | None = None
        self._session: Session | None = None
        self._prompts: deque[Prompt] = deque()
        self._known_prompts: set[str] = set()
        self._changes: deque[Change] = deque()
        self._held: dict[int, Answer] = {}
        self._turn = 0
        self._in_turn = False
        self._is_initialized = False
        self._is_interrupting = False
        self._is_cancelling = False
        self._is_paused = False
        self._is_last = False
        self._is_stopped = False

    async def run(self) -> tuple[Ending, list[str]]:
        """The ending, and the ids of the prompts that the agent never got."""
        signal.signal(signal.SIGTERM, self._stop)
        self._watch_task(await self._wire.open(self._process))
        exit_task = self._begin(self._watch_exit())
        self._begin(self._talk())
        self._begin(self._change())
        self._begin(self._listen())
        self._begin(self._watch_silence())
        ending = await self._ending
        if self._is_stopped:
            ending = Ending(ExitCode.STOPPED, "The agent's host was asked to stop.")
        self._permissions.close("cancelled" if self._is_cancelling else "ended")
        if ending.note == "done" and not self._in_turn:
            self._wire.hang_up()
            await asyncio.wait({exit_task}, timeout=self._limits.cancel_grace_s)
        return ending, [prompt.id for prompt in self._prompts]

    def _end(self, code: ExitCode, sentence: str) -> None:
        """The first ending counts."""
        if not self._ending.done():
            self._ending.set_result(Ending(code, sentence))

    def _stop(self, number: int, frame: object) -> None:
        """SIGTERM. It goes to the agent too, and the exit of that must not look like a crash."""
        self._is_stopped = True
        loop = self._ending.get_loop()
        loop.call_soon_threadsafe(self._end, ExitCode.STOPPED, "")

    async def _watch_exit(self) -> None:
        exited = self._process.exited
        closed = asyncio.ensure_future(self._wire.closed.wait())
        either: set[asyncio.Future[Any]] = {exited, closed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            await asyncio.wait({closed}, timeout=DRAIN_S)
        else:
            await asyncio.wait({exited}, timeout=self._limits.cancel_grace_s)
        if not exited.done():
            self._end(ExitCode.CRASHED, "The agent closed its output, but did not exit.")
            return
        code = exited.result()
        self._journal.note("agent_exited", code=code)
        how = _exit_words(code)
        if self._is_cancelling:
            self._end(ExitCode.CANCELLED, f"Cancelled: the agent {how}.")
        elif not self._is_initialized:
            output = f" Its output: {self._wire.noise}" if self._wire.noise else ""
            sentence = f"The agent {how} before it answered 'initialize'.{output}"
            self._end(ExitCode.LEFT_EARLY, sentence)
        elif self._is_finished():
            self._end(ExitCode.DONE, "Every prompt has had its turn.")
        else:
            where = f"in turn {self._turn}" if self._in_turn else "between turns"
            self._end(ExitCode.CRASHED, f"The agent {how} {where}.")

    async def _watch_silence(self) -> None:
        """The agent is silent while it owes an answer and does not itself wait for one."""
        warn, fail = self._limits.silence_warn_s, self._limits.silence_fail_s
        limits = [limit for limit in (warn, fail) if limit]
        if not limits:
            return
        warned = False
        waited_until = time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, min(limits) / 4))
            now = time.monotonic()
            owed_since = self._wire.owed_since if self._is_initialized else None
            if owed_since is None or self._permissions:
                waited_until = now
                continue
            since = max(owed_since, self._wire.heard_at, waited_until)
            silent = now - since
            if fail and silent >= fail:
                self._end(ExitCode.SILENT, f"The agent wrote nothing for {fail:g} s.")
                return
            if warn and silent >= warn and not warned:
                sentence = f"The agent has written nothing for {warn:g} s."
                self._journal.note("warned", why="silent", sentence=sentence)
            warned = bool(warn and silent >= warn)

    def _notice(self, request: Request) -> None:
        if request.method != "session/request_permission":
            return
        self._permissions.notice(request, self._turn if self._in_turn else None)
        if self._is_cancelling:
            self._permissions.close("cancelled")
        elif self._is_interrupting:
            self._permissions.close("interrupted")

    async def _answer(self, request: Request) -> dict[str, Any] | None:
        match request.method:
            case "session/request_permission":
                return await self._permissions.outcome(request)
            case "fs/read_text_file":
                return {"content": _in_worktree(lambda: self._read(request.params))}
            case "fs/write_text_file":
                _in_worktree(lambda: self._write(request.params))
                return {}
        raise RequestError.method_not_found(request.method)

    def _read(self, params: dict[str, Any]) -> str:
        line, limit = params.get("line"), params.get("limit")
        if not isinstance(line, int | None) or not isinstance(limit, int | None):
            raise NotAllowed("line and limit must be numbers.")
        return self._worktree.read(str(params.get("path") or ""), line, limit)

    def _write(self, params: dict[str, Any]) -> None:
        content = params.get("content")
        if not isinstance(content, str):
            raise NotAllowed("content must be a text.")
        self._worktree.write(str(params.get("path") or ""), content)

    async def _talk(self) -> None:
        try:
            await self._set_up()
            while True:
                while not self._may_begin_turn():
                    if self._is_finished():
                        self._end(ExitCode.DONE, "Every prompt has had its turn.")
                    await self._next_news()
                await self._take_turn(self._prompts.popleft())
        except ConnectionError:
            return  # `_watch_exit` says what has happened

    async def _set_up(self) -> None:
        """Raises ConnectionError if the agent is gone, Ended if it refuses."""
        seconds = self._limits.initialize_s
        try:
            async with asyncio.timeout(seconds or None):
                agent = await initialize(self._wire, self._journal)
        except TimeoutError:
            sentence = f"The agent did not answer 'initialize' within {seconds:g} s."
            raise Ended(ExitCode.NO_ANSWER, sentence) from None
        except RequestError as error:
            raise Ended(ExitCode.REFUSED, f"The agent refused 'initialize': {error}.") from None
        self._is_initialized = True
        wanted = self._configuration
        try:
            session = await begin_session(
                self._wire, self._journal, agent, wanted.begin, wanted.cwd
            )
            # The agent's own mode may allow anything, so no turn begins before this.
            if wanted.mode is not None:
                await self._apply(session, Change("mode", wanted.mode, None))
            if wanted.model is not None:
                await self._apply(session, Change("model", wanted.model, None))
        except Refused as refusal:
            raise Ended(ExitCode.REFUSED, str(refusal)) from None
        self._session = session
        self._tell_news()

    def _may_begin_turn(self) -> bool:
        return bool(self._prompts) and not (self._changes or self._is_paused or self._ending.done())

    def _is_finished(self) -> bool:
        return self._is_last and not (self._prompts or self._changes or self._in_turn)

    async def _take_turn(self, prompt: Prompt) -> None:
        """Raises ConnectionError if the agent is gone."""
        assert self._session is not None
        self._turn += 1
        self._in_turn = True
        turn = {"turn": self._turn, "prompt": prompt.id}
        self._journal.note("turn_started", **turn, frame=prompt.frame)
        block = TextContentBlock(type="text", text=prompt.text)
        stop, error = None, None
        try:
            result = await self._wire.ask(
                "session/prompt", PromptRequest(session_id=self._session.id, prompt=[block])
            )
            stop = result.get("stopReason")
        except RequestError as refusal:
            error = f"The agent answered with an error: {_error_words(refusal)}"
        self._permissions.close("turn_ended")
        self._held.clear()
        self._in_turn = self._is_interrupting = False
        self._journal.note("turn_ended", **turn, stop=stop, error=error)
        if self._is_cancelling:
            self._end(ExitCode.CANCELLED, "Cancelled: the agent has ended its turn.")

    def _cancel_turn(self) -> None:
        """Ask the agent to end its turn. It answers its prompt when it has."""
        assert self._session is not None
        cancel = CancelNotification(session_id=self._session.id)
        self._begin(self._wire.tell("session/cancel", cancel))

    def _interrupt(self) -> None:
        if not self._in_turn or self._is_interrupting:
            return
        self._is_interrupting = True
        self._cancel_turn()
        self._permissions.close("interrupted")
        self._later(partial(self._warn_if_busy, self._turn))

    def _warn_if_busy(self, turn: int) -> None:
        if self._in_turn and self._turn == turn and not self._is_cancelling:
            sentence = "The agent was asked to stop its turn and goes on: the next prompt waits."
            self._journal.note("warned", why="busy", sentence=sentence)

    def _cancel(self) -> None:
        if self._is_cancelling:
            return
        self._is_cancelling = True
        if not self._in_turn:
            self._end(ExitCode.CANCELLED, "Cancelled: the agent was in no turn.")
            return
        self._cancel_turn()
        self._permissions.close("cancelled")
        seconds = self._limits.cancel_grace_s
        sentence = f"Cancelled: the agent did not end its turn within {seconds:g} s."
        self._later(lambda: self._end(ExitCode.CANCELLED, sentence))

    async def _listen(self) -> None:
        bell = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._inbox.fileno(), bell.set)
        while True:
            bell.clear()
            while (frame := self._inbox.take()) is not None:
                self._act(frame)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await bell.wait()

    def _act(self, frame: Frame) -> None:
        self._journal.note("frame", number=frame.number, do=what_of(frame))
        try:
            self._do(read_frame(frame))
        except (BadFrame, NotOpen) as error:
            self._journal.note("refused", frame=frame.number, sentence=str(error))
        self._tell_news()

    def _do(self, message: Message) -> None:
        """Raises BadFrame, NotOpen."""
        match message:
            case Prompt():
                self._queue(message)
            case Answer():
                self._pass_on(message)
            case Change():
                self._changes.append(message)
            case Order("cancel"):
                self._cancel()
            case Order("pause"):
                self._is_paused = True
                self._journal.note("paused", frame=message.frame)
            case Order("resume"):
                self._is_paused = False
                self._journal.note("resumed", frame=message.frame)
                self._release()
            case Order("end"):
                self._is_last = True

    def _queue(self, prompt: Prompt) -> None:
        if self._is_last or self._is_cancelling:
            raise BadFrame("The conversation is about to end: no prompt is taken any more.")
        if prompt.id in self._known_prompts:
            raise BadFrame(f"The prompt {prompt.id!r} was given before.")
        self._known_prompts.add(prompt.id)
        if prompt.when == "after":
            self._prompts.append(prompt)
            return
        before = sum(1 for queued in self._prompts if queued.when == "interrupt")
        self._prompts.insert(before, prompt)
        self._interrupt()

    def _pass_on(self, answer: Answer) -> None:
        self._permissions.check(answer.request, answer.option)
        if answer.request in self._held:
            raise NotOpen(f"The permission request {answer.request} has an answer already.")
        if self._is_paused:
            self._held[answer.request] = answer
        else:
            self._permissions.answer(answer.request, answer.option, answer.frame)

    def _release(self) -> None:
        """Pass on the answers that were held."""
        for answer in self._held.values():
            # An interrupted turn has closed its requests.
            with suppress(NotOpen):
                self._permissions.answer(answer.request, answer.option, answer.frame)
        self._held.clear()

    async def _change(self) -> None:
        """Sets modes and models, one after the other, also in a turn."""
        while True:
            while self._session is None or not self._changes:
                await self._next_news()
            change = self._changes[0]
            try:
                await self._apply(self._session, change)
            except Refused as refusal:
                self._journal.note("refused", frame=change.frame, sentence=str(refusal))
            except ConnectionError:
                return  # `_watch_exit` says what has happened
            self._changes.popleft()
            self._tell_news()

    async def _apply(self, session: Session, change: Change) -> None:
        """Raises Refused, ConnectionError."""
        if change.what == "mode":
            await session.set_mode(change.value)
            self._journal.note("mode", mode=change.value, frame=change.frame)
        else:
            await session.set_model(change.value, self._configuration.model_option)
            self._journal.note("model", model=change.value, frame=change.frame)

    async def _next_news(self) -> None:
        """Returns when something has changed, for each task that waits."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def _tell_news(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._watch_task(task)
        return task

    def _watch_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._look_at)

    def _look_at(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Ended):
            self._end(error.ending.code, error.ending.sentence)
        elif error is not None:
            traceback.print_exception(error)
            self._end(ExitCode.FAULT, "The agent's host has a fault: see its error output.")

    def _later(self, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._limits.cancel_grace_s, work)


def _in_worktree(work: Callable[[], T]) -> T:
    """What the work returns. Raises RequestError with a sentence for the agent."""
    try:
        return work()
    except NotAllowed as refusal:
        raise RequestError.invalid_params({"details": str(refusal)}) from None
    except FileNotFoundError as error:
        raise RequestError.resource_not_found(str(error.filename)) from None
    except OSError as error:
        raise RequestError.internal_error({"details": error.strerror}) from None


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _error_words(error: RequestError) -> str:
    details = error.data.get("details") if isinstance(error.data, dict) else None
    return f"{error}: {details}" if isinstance(details, str) else str(error)
