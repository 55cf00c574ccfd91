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
    """A log over a store. The log closes the store. Raises LogRefused if a newer version
    wrote it.
    """
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
    """Open (or make) the log in `directory` and own it until it is closed. A log of an older format
    is upgraded first; the server's log reports the progress.

    Raises LogRefused if another process owns it or a newer version wrote it. The file is then not
    changed.
    """
    store = open_sqlite_store(directory, catalogue=catalogue, purpose=purpose)
    return open_log(store, redactor=redactor, catalogue=catalogue, name=str(directory / "log.db"))
