"""The event log: append with expected versions, read, tail; one conformance
suite for every store.
"""

from domain.log.envelope import SYSTEM, Context, NewEvent, new_events, subject_of, uuid7
from domain.log.log import EventLog, Tail
from domain.log.memory import MemoryStore
from domain.log.opening import open_log, open_sqlite_log
from domain.log.recorded import Recorded

__all__ = [
    "SYSTEM",
    "Context",
    "EventLog",
    "MemoryStore",
    "NewEvent",
    "Recorded",
    "Tail",
    "new_events",
    "open_log",
    "open_sqlite_log",
    "subject_of",
    "uuid7",
]
