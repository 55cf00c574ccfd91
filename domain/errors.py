"""Errors of the domain. `api/edge/errors.py` is the one place that maps them to HTTP statuses."""

import re

_UNCARRIABLE = re.compile(r"[\0\ud800-\udfff]")


def carriable(text: str) -> str:
    """The text with NUL and surrogates written as escapes. It equals `text` if there are none.

    No answer, file or terminal can carry them, and an error often names what somebody sent.
    """
    return _UNCARRIABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class CrewlogError(Exception):
    """Base of every error whose text is written for the person who caused it."""

    def __init__(self, text: str = "") -> None:
        super().__init__(carriable(text))


class DamagedFile(CrewlogError):
    """A file of the data directory holds something that the server has not written there. A command
    that meets it exits with 2.
    """

    exit_code = 2


class NotFound(CrewlogError):
    """The thing does not exist, or this principal may not see it."""


class JobNotFound(NotFound):
    def __init__(self, job_id: str) -> None:
        super().__init__("Job not found")
        self.job_id = job_id


class WrongState(CrewlogError):
    """The thing's state does not allow this."""


class JobAlreadyEnded(WrongState):
    def __init__(self, state: str) -> None:
        super().__init__(f"Job is already {state}")
        self.state = state


class StaleAttempt(WrongState):
    """A worker reported for an attempt that is no longer the job's current one."""

    def __init__(self, attempt: int, current: int) -> None:
        super().__init__(f"Attempt {attempt} is not current: the job is at attempt {current}.")


class VersionConflict(CrewlogError):
    """Another writer changed the stream first. Nothing of the append was written."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream} is at version {actual}, not {expected}.")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class PreconditionFailed(CrewlogError):
    """If-Match named a version that is not the present one (RFC 9110 section 13.1.1)."""


class IdempotencyMismatch(CrewlogError):
    """The key was used before for another request (draft-ietf-httpapi-idempotency-key-header)."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with a different request.")


class InvalidCursor(CrewlogError):
    """A cursor that this server cannot have issued."""


class Invalid(CrewlogError):
    """A well-formed value that is not acceptable."""


class BadInput(CrewlogError):
    """The request's data cannot be used. `path` names the place of the mistake, such as
    ``inputs.repo`` or ``jobs[2].parents[0]``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = carriable(path)
        self.reason = carriable(reason)


class Unavailable(CrewlogError):
    """Something that this needs is not available now. The same request may succeed later."""


class LogUnavailable(Unavailable):
    """The log cannot be written or read, because of a full disk or a lost mount. Nothing was
    acknowledged.
    """


class LogRefused(CrewlogError):
    """This log must not be opened: another server owns it, or a newer version wrote it."""


class LogDamaged(CrewlogError):
    """A stored event breaks a rule of the log. The text names the first such position. Without
    one, the damage is beside the events.
    """

    def __init__(self, position: int | None, reason: str) -> None:
        super().__init__(reason if position is None else f"Position {position}: {reason}")
        self.position = position
        self.reason = reason
