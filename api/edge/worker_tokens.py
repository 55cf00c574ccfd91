"""Worker tokens: how a running attempt identifies itself to the worker API.

A token names its job and attempt and has an HMAC-SHA256 (RFC 2104) over both. So none is stored,
and a token is valid exactly as long as its attempt is the job's current one.
"""

import hashlib
import hmac
import os
import re
import secrets
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from api.edge.security import WORKER_TOKEN_PREFIX, WRITE, Principal
from domain.errors import DamagedFile

_KEY_BYTES = 32
_TOKEN = re.compile(rf"{WORKER_TOKEN_PREFIX}(.{{1,200}})\.([1-9][0-9]{{0,9}})\.(.{{43}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class WorkerPrincipal(Principal):
    """A running attempt. It owns nothing and sees only its own job."""

    job_id: str = ""
    attempt: int = 0


class WorkerTokens:
    """Issues and checks tokens under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError("The key of the worker tokens must have 32 bytes.")
        self._key = key

    def issue(self, job_id: str, attempt: int) -> str:
        """``crewlog_w_JOB.ATTEMPT.MAC``. The redactor recognises its beginning."""
        return f"{WORKER_TOKEN_PREFIX}{job_id}.{attempt}.{self._mac(job_id, attempt)}"

    def check(self, token: str) -> tuple[str, int] | None:
        """The job id and attempt of a token that was issued with this key; None for any
        other token.
        """
        found = _TOKEN.fullmatch(token)
        if found is None:
            return None
        job_id, attempt, mac = found[1], int(found[2]), found[3]
        expected = self._mac(job_id, attempt)
        if not hmac.compare_digest(mac.encode("utf-8", "replace"), expected.encode()):
            return None
        return job_id, attempt

    def principal(self, token: str) -> WorkerPrincipal | None:
        """The principal of a token, for `Security.worker`."""
        found = self.check(token)
        if found is None:
            return None
        actor = f"worker:{found[0]}"
        scopes = frozenset({WRITE})
        return WorkerPrincipal(actor, actor, scopes=scopes, job_id=found[0], attempt=found[1])

    def _mac(self, job_id: str, attempt: int) -> str:
        claim = f"{job_id}.{attempt}".encode("utf-8", "surrogatepass")
        mac = hmac.digest(self._key, claim, hashlib.sha256)
        return urlsafe_b64encode(mac).rstrip(b"=").decode()


def load_key(path: Path) -> bytes:
    """The key in the file. At first it is made with mode 0600, and is durable before it is used.

    Raises DamagedFile if the file holds something else, OSError if it cannot be read or made.
    """
    with suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise DamagedFile(
                f"{path} is damaged. Remove it while no job runs; a new one is made at the start."
            )
        return key
    key = secrets.token_bytes(_KEY_BYTES)
    draft = path.with_name(f"{path.name}.draft")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, key)
        os.fsync(file)
    finally:
        os.close(file)
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key
