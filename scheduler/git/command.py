"""The one place that runs git.

The configuration of a repository can name programs, and an agent can write to it. So every call
switches off what could run one: hooks, the file system monitor, external diffs, editors, pagers,
helpers for credentials, and every transport. Filters and merge drivers cannot be switched off by
name; calls that would meet them go through `objects.py`, where no configuration of the repository
is read.
"""

import asyncio
import os
import re
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from domain.errors import CrewlogError
from scheduler.git.locks import HELD

OLDEST = (2, 38)
"""The first version with ``merge-tree --write-tree``."""

_SENTENCE = 300  # characters of git's own words in an error
_STDERR = 16_384  # bytes of stderr that are kept
_LIMIT = 64 * 1024 * 1024  # bytes of stdout, unless the call says otherwise
_CHUNK = 65_536
_GRACE = 2.0  # seconds that git has to remove its locks
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/]*@")
_VERSION = re.compile(rb"git version (\d+)\.(\d+)")

_HARDENED = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=false",
    "core.sshCommand=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.quotePath=false",
    "credential.helper=",
    "protocol.ext.allow=never",
    "diff.external=",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "log.showSignature=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "color.ui=false",
)

_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false",
    "GIT_SSH_COMMAND": "false",
    "GIT_PROXY_COMMAND": "false",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
    "GIT_SEQUENCE_EDITOR": "false",
    "GIT_ALLOW_PROTOCOL": "none",  # none is no transport: nothing is fetched, not even when missing
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_PROGRESS_DELAY": "0",
}


class GitFailed(CrewlogError):
    """Git refused, in its own words: one sentence, without credentials of an URL.

    `code` is its exit status, or None if it did not end by itself.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class GitMissing(CrewlogError):
    """There is no git here, or only one that is too old."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who made a commit. Raises ValueError if git could not store it."""

    name: str
    email: str

    def __post_init__(self) -> None:
        for value in (self.name, self.email):
            if not value.strip(" .,:;\"'") or set("<>\n\0") & set(value):
                raise ValueError("A name and an address without '<', '>' and line breaks: needed.")

    def variables(self, role: str) -> dict[str, str]:
        """The environment that gives this identity to ``AUTHOR`` or ``COMMITTER``."""
        return {f"GIT_{role}_NAME": self.name, f"GIT_{role}_EMAIL": self.email}


CREWLOG = Identity("crewlog", "crewlog@localhost")
"""The committer of everything that crewlog commits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave: its exit status and its whole output."""

    code: int
    out: bytes

    @property
    def text(self) -> str:
        """The output without the line break at its end, decoded as names of files are."""
        return os.fsdecode(self.out).removesuffix("\n")

    @property
    def fields(self) -> list[bytes]:
        """The parts of an output in which NUL ends each."""
        return self.out.split(b"\0")[:-1]


class Git:
    """The git of this machine. `path` is where it is looked for, as in ``PATH``; `seconds` limits
    each call.
    """

    def __init__(self, path: str | None = None, *, seconds: float = 120.0) -> None:
        self._path = os.environ.get("PATH", os.defpath) if path is None else path
        self._seconds = seconds
        self._program = ""

    async def run(
        self,
        *args: str | bytes,
        git_dir: str | Path | None = None,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
        data: bytes = b"",
        ok: Collection[int] = (0,),
        limit: int = _LIMIT,
        seconds: float | None = None,
        config: Sequence[str] = (),
        progress: Callable[[str], None] | None = None,
    ) -> Answer:
        """Run one call, and return its whole output.

        `git_dir` is the repository's; without it git looks for one from `cwd` upwards. `data` is
        its input, `limit` the bytes that it may answer, `config` further ``NAME=VALUE``. `progress`
        gets each line of stderr as it comes.

        Raises GitFailed if it ends with a status that is not in `ok`, takes too long or answers
        too much; GitMissing. When it is cancelled, all processes of the call are killed.
        """
        async with self.start(*args, git_dir=git_dir, cwd=cwd, env=env, config=config) as process:
            try:
                async with asyncio.timeout(self._seconds if seconds is None else seconds):
                    _, out, words = await asyncio.gather(
                        _feed(process, data), _collect(process, limit), _listen(process, progress)
                    )
                    code = await process.wait()
            except TimeoutError:
                raise GitFailed(f"git {_verb(args)} took too long and was ended.") from None
        if code not in ok:
            raise GitFailed(_sentence(args, words, code), code)
        return Answer(code, out)

    @asynccontextmanager
    async def start(
        self,
        *args: str | bytes,
        git_dir: str | Path | None = None,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
    ) -> AsyncIterator[Process]:
        """The started call, with pipes for all its streams. If it still runs when the block is
        left, it is killed with its process group. Raises GitMissing, GitFailed if `cwd` is gone.
        """
        program = await self.program()
        options = [part for pair in (*_HARDENED, *config) for part in ("-c", pair)]
        if git_dir is not None:
            options.append(f"--git-dir={git_dir}")
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *options,
                *args,
                cwd=cwd,
                env={"PATH": self._path, **_ENVIRONMENT, **_identities(), **(env or {})},
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                pass_fds=HELD.get(),
            )
        except OSError as error:
            raise GitFailed(f"git cannot start in {os.fspath(cwd)}: {error.strerror}.") from error
        try:
            yield process
        finally:
            await _end(process)

    async def program(self) -> str:
        """The path of git, once its version has been seen. Raises GitMissing."""
        if not self._program:
            found = shutil.which("git", path=self._path)
            if found is None:
                raise GitMissing("Git is not installed here. Install git 2.38 or newer.")
            self._program = await self._checked(found)
        return self._program

    async def _checked(self, program: str) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                "version",
                env={"PATH": self._path, "LC_ALL": "C"},
                stdout=PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise GitMissing(f"{program} cannot be started: {error.strerror}.") from error
        try:
            async with asyncio.timeout(self._seconds):
                out, _ = await process.communicate()
        except TimeoutError:
            raise GitMissing(f"{program} does not say its version.") from None
        finally:
            await _end(process)
        version = _VERSION.match(out)
        if version is None:
            raise GitMissing(f"{program} does not say its version.")
        if (int(version[1]), int(version[2])) < OLDEST:
            raise GitMissing(
                f"Git {os.fsdecode(version[1])}.{os.fsdecode(version[2])} is too old. Install git "
                f"{OLDEST[0]}.{OLDEST[1]} or newer."
            )
        return program


def _identities() -> dict[str, str]:
    return {**CREWLOG.variables("AUTHOR"), **CREWLOG.variables("COMMITTER")}


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # it has read what it wanted
        for start in range(0, len(data), _CHUNK):
            process.stdin.write(data[start : start + _CHUNK])
            await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _collect(process: Process, limit: int) -> bytes:
    assert process.stdout is not None
    parts: list[bytes] = []
    size = 0
    while part := await process.stdout.read(_CHUNK):
        size += len(part)
        if size > limit:
            raise GitFailed(f"git answered more than {limit} bytes.")
        parts.append(part)
    return b"".join(parts)


async def _listen(process: Process, progress: Callable[[str], None] | None) -> bytes:
    """The beginning of stderr; the rest is read and dropped."""
    assert process.stderr is not None
    kept = bytearray()
    line = b""
    while part := await process.stderr.read(_CHUNK):
        kept += part[: _STDERR - len(kept)]
        if progress is not None:
            *lines, line = re.split(rb"[\r\n]", line + part)
            for each in lines:
                progress(each.decode(errors="replace"))
            line = line[-_STDERR:]
    return bytes(kept)


async def _end(process: Process) -> None:
    """Kill what is left of the process group, and wait for the process. Git is told first, and
    has a moment to remove its lock files.
    """
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await process.wait()
        _signal(process, signal.SIGKILL)
        await asyncio.shield(process.wait())
    # Without this, the pipes of a killed process would stay until the collector finds them.
    process._transport.close()  # type: ignore[attr-defined]


def _signal(process: Process, number: int) -> None:
    """Signal the process group, which may outlive its first process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _verb(args: Sequence[str | bytes]) -> str:
    return os.fsdecode(args[0]) if args else ""


def _sentence(args: Sequence[str | bytes], words: bytes, code: int) -> str:
    """Git's own words, on one line and bounded."""
    text = re.sub(r"\s+", " ", words.decode(errors="replace")).strip()
    text = _CREDENTIALS.sub(r"\1", re.sub(r"^(fatal|error): ", "", text))
    if len(text) > _SENTENCE:
        text = text[:_SENTENCE].rstrip() + "…"
    return f"git {_verb(args)}: {text}" if text else f"git {_verb(args)} ended with {code}."
