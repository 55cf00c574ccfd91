"""Counts the rows of a live table while it is read and written."""

import threading
from collections.abc import Callable

from sqlalchemy import Engine

from projections.filling import Filling


class Counting:
    """One count on a thread of its own, at one moment: compares the stored digest of a filling with
    the digest of the rows in its table.
    """

    def __init__(self, engine: Engine, filling: Filling, over: Callable[[], None]) -> None:
        self.finished = False
        self.matched: bool | None = None
        """Whether the rows are those that were written; None if they could not be counted."""
        self.cause: str | None = None
        """Why they could not."""
        self._engine = engine
        self._filling = filling
        self._over = over
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="recount", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up, and wait until the connection is released."""
        self._stopped = True
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._engine.connect() as connection, connection.begin():
                remembered = self._filling.remembered(connection)
                counted = self._filling.recount(connection, unless=lambda: self._stopped)
            if not self._stopped:
                self.matched = counted == remembered
        except Exception as error:  # a row may hold anything, and whoever waits must go on
            self.cause = repr(error)
        finally:
            self.finished = True
            self._over()
