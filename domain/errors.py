"""What can go wrong, as types of the domain. HTTP statuses are given to them in one place,
`api/edge/errors.py`.
"""


class CrewlogError(Exception):
    """Base of every error whose text is written for the person who caused it."""


class NotFound(CrewlogError):
    """There is no such thing, or none that this principal may see."""


class JobNotFound(NotFound):
    def __init__(self, job_id: str) -> None:
        super().__init__("Job not found")
        self.job_id = job_id


class WrongState(CrewlogError):
    """The thing exists and is in a state in which this cannot be done."""


class JobAlreadyEnded(WrongState):
    def __init__(self, state: str) -> None:
        super().__init__(f"Job is already {state}")
        self.state = state


class StaleAttempt(WrongState):
    """A worker reported for an attempt that is no longer the current one: it is fenced off."""

    def __init__(self, attempt: int, current: int) -> None:
        super().__init__(f"Attempt {attempt} is not current: the job is at attempt {current}.")


class VersionConflict(CrewlogError):
    """Somebody else changed the stream first. Nothing of the append was written."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream} is at version {actual}, not {expected}.")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class PreconditionFailed(CrewlogError):
    """If-Match named a version that the thing has left (RFC 9110 section 13.1.1)."""


class IdempotencyMismatch(CrewlogError):
    """The key was used before with another body (draft-ietf-httpapi-idempotency-key-header)."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with a different request.")


class InvalidCursor(CrewlogError):
    """A cursor that this server can never have given out."""


class Invalid(CrewlogError):
    """A value that is well-formed and still not acceptable."""


class BadInput(CrewlogError):
    """What was sent cannot be used; `path` names the place of the mistake, as ``inputs.repo`` or
    ``jobs[2].parents[0]``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Unavailable(CrewlogError):
    """Something that this needs is not there at the moment: the same request may succeed later."""


class LogUnavailable(Unavailable):
    """The log could not be written or read: a full disk, a lost mount. Nothing was acknowledged."""


class LogRefused(CrewlogError):
    """This log must not be opened: another server owns it, or a newer version wrote it."""


class LogDamaged(CrewlogError):
    """A stored event breaks a rule of the log; the text names the first position that does."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"Position {position}: {reason}")
        self.position = position
        self.reason = reason
