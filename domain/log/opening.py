"""Opening a log over a store."""

from pathlib import Path

from domain.errors import LogRefused
from domain.event import Catalogue
from domain.log.description import refuse_newer
from domain.log.log import EventLog
from domain.log.sqlite.store import open_sqlite_store
from domain.log.store import Store, StoreFailed
from domain.redaction import Redactor


def open_log(
    store: Store, *, redactor: Redactor, catalogue: Catalogue, name: str = "here"
) -> EventLog:
    """A log over a store, which is closed with it. LogRefused when a newer version wrote it."""
    try:
        refuse_newer(store.meta(), catalogue, name)
        return EventLog(store, redactor, catalogue)
    except StoreFailed as error:
        store.close()
        raise LogRefused(f"The log {name} cannot be opened: {error}") from error
    except BaseException:
        store.close()
        raise


def open_sqlite_log(
    directory: Path, *, redactor: Redactor, catalogue: Catalogue, purpose: str = "crewlog"
) -> EventLog:
    """Open (or make) the log in `directory` and own it until closed. One of an older format is
    brought to today's first, which the server's log tells of.

    Raises LogRefused when another process owns it or a newer version wrote it; the file is then
    untouched.
    """
    store = open_sqlite_store(directory, catalogue=catalogue, purpose=purpose)
    return open_log(store, redactor=redactor, catalogue=catalogue, name=str(directory / "log.db"))
