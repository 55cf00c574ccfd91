"""Passwords: hashed with Argon2id, each in a private file that an event names.

The log is exported and kept for ever, and a password can be guessed from its hash. So the hashes
are not in the log (`docs/adr/0012-passwords-outside-the-log.md`).
"""

import asyncio
import contextlib
import os
import secrets
import time
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from domain.errors import BadInput, CrewlogError
from scheduler.executors.shim.regular_file import NotRegular, read_regular

SHORTEST = 8
"""Fewest characters of a password (NIST SP 800-63B section 3.1.1.2 allows no other rule)."""
LONGEST = 1_024

_LONGEST_HASH = 4_096
_THREADS = 2
_MOST_WAITING = 32

T = TypeVar("T")


class TooBusy(CrewlogError):
    """Too many passwords wait to be checked."""


class PasswordStore:
    """One file for each credential under `root`, mode 0600. Hashing runs on two threads of its own,
    because each hash takes 64 MiB and a tenth of a second.

    Raises OSError if a file cannot be written.
    """

    def __init__(self, root: Path, hasher: PasswordHasher | None = None) -> None:
        self._root = root
        # The file system's clock is coarser than the system's.
        self._opened = time.time() - 1.0
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hasher = hasher or PasswordHasher()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._dummy = _unopenable(self._hasher)

    async def keep(self, password: str) -> str:
        """Hash and store a password, durably. Returns the id of the new credential. Raises
        BadInput, TooBusy.
        """
        if not SHORTEST <= len(password) <= LONGEST:
            raise BadInput("password", f"A password must have {SHORTEST} to {LONGEST} characters.")
        return await self._run(lambda: self._keep(str(uuid4()), password))

    async def check(self, credential: str | None, password: str) -> bool:
        """Whether the password belongs to this credential. Raises TooBusy.

        Without a credential, or without its file, it takes as long and returns false. So the time
        does not reveal which accounts exist.
        """
        if len(password) > LONGEST:
            return False
        return await self._run(lambda: self._check(credential, password))

    async def discard(self, credential: str | None) -> None:
        """Remove a password that was replaced."""
        if credential is not None:
            with contextlib.suppress(IsADirectoryError):
                await self._run(lambda: self._path(credential).unlink(missing_ok=True))

    def sweep(self, keep: Collection[str]) -> None:
        """Remove credentials that no account names: left by a crash between storing and
        appending.
        """
        for path in list(self._root.iterdir()):
            # What cannot be removed, such as a directory that somebody made, must not hold up
            # signing in.
            with contextlib.suppress(OSError):
                if path.name not in keep and path.lstat().st_mtime < self._opened:
                    path.unlink()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MOST_WAITING:
            raise TooBusy("Too many sign-ins at once. Try again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def _keep(self, credential: str, password: str) -> str:
        self._write(credential, self._hasher.hash(_normal(password)))
        return credential

    def _check(self, credential: str | None, password: str) -> bool:
        stored = self._read(credential) if credential is not None else None
        try:
            self._hasher.verify(stored or self._dummy, _normal(password))
        except (Argon2Error, InvalidHashError):
            return False
        if stored is None or credential is None:
            return False
        if self._hasher.check_needs_rehash(stored):
            # If the disk is full or read-only, the old hash stays valid.
            with contextlib.suppress(OSError):
                self._keep(credential, password)
        return True

    def _read(self, credential: str) -> str | None:
        try:
            # A job may have put a pipe there, which would hold up every other password.
            return read_regular(str(self._path(credential)), _LONGEST_HASH).decode().strip()
        except (FileNotFoundError, NotRegular, UnicodeDecodeError):
            return None

    def _write(self, credential: str, hashed: str) -> None:
        path = self._path(credential)
        draft = path.with_suffix(".draft")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, hashed.encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        draft.replace(path)
        directory = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, credential: str) -> Path:
        return self._root / credential


def _unopenable(hasher: PasswordHasher) -> str:
    """A hash that takes as long to check as any other, and of a password that nobody knows."""
    salt, digest = (
        b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _normal(password: str) -> bytes:
    """The bytes of a password, the same for every keyboard (RFC 8265)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
