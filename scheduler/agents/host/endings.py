"""How a host ends: an exit code, and a sentence for a person."""

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the host. In the journal each is named by its name in lower case."""

    DONE = 0  # `end`: every prompt has had its turn
    FAULT = 1  # a fault in the host itself: there is a traceback in the channel `stderr`
    UNUSABLE = 10  # the configuration cannot be used
    NOT_STARTED = 11  # the agent's program cannot be run
    LEFT_EARLY = 12  # the agent exited before it answered `initialize`, with whatever code
    NO_ANSWER = 13  # the agent did not answer `initialize` in time
    REFUSED = 14  # the agent refused the protocol, the session, the mode or the model
    CRASHED = 15  # the agent exited, or closed its output, although it was needed
    SILENT = 16  # the agent owed an answer and wrote nothing for too long
    CANCELLED = 17  # `cancel`
    STOPPED = 18  # the host got a SIGTERM


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the host ends."""

    code: ExitCode
    sentence: str

    @property
    def why(self) -> str:
        return self.code.name.lower()

    @property
    def note(self) -> str:
        """The name of the journal's last line."""
        return "done" if self.code in (ExitCode.DONE, ExitCode.CANCELLED) else "failed"


class Ended(Exception):
    """The host cannot go on."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.ending = Ending(code, sentence)
