"""One filling of one projection: a table, its position, and the digest of its content.

The digest is the sum modulo 2**128 of the BLAKE2b hashes of all rows, each in canonical JSON. A sum
does not depend on the order or the batches of rows, so equal events give equal digests. It is
updated row by row.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import chain, takewhile
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Table, bindparam, delete, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from domain.log import Recorded
from projections.database import upsert
from projections.projection import Fold, Projection, Row

_MODULUS = 1 << 128
_CACHED_ROWS = 20_000
_CACHED_BYTES = 16 * 1024 * 1024
"""Rows are as large as what clients send, so their number is no bound."""
_LOOK_UP = 400
_AT_ONCE = (64, 8, 1)
"""Rows in one statement."""

_Values = tuple[Any, ...]


def row_hash(values: _Values) -> int:
    """The hash of one row: its column values in order, as one JSON array."""
    return _hashed(values)[0]


def _hashed(values: _Values) -> tuple[int, int]:
    """The hash of a row, and the bytes of its JSON."""
    row = orjson.dumps(values)
    return int.from_bytes(blake2b(row, digest_size=16).digest(), "big"), len(row)


def digest_of(rows: Iterable[_Values]) -> str:
    """The digest of a whole table, counted from its rows. The running digest must equal it."""
    return f"{sum(map(row_hash, rows)) % _MODULUS:032x}"


class Committed(NamedTuple):
    """The public state of a filling: all of it is in the database."""

    position: int
    digest: str
    unknown: int


def _at(event: Recorded) -> str:
    return f"at event {event.position}, a {event.type}"


class CannotFold(Exception):
    """A filling cannot fold an event."""

    def __init__(self, filling: "Filling", where: str, cause: Exception) -> None:
        super().__init__(f"{where}: {cause!r}")
        self.filling = filling
        self.what = f"{where} ({type(cause).__name__})"
        """The same without the text of the error, which may contain data of the event."""


class Work:
    """What one filling has to do for a page: the events that it folds, each with its row's key."""

    def __init__(self, filling: "Filling") -> None:
        self.filling = filling
        self.items: list[tuple[Any, Fold, Recorded]] = []
        self.unknown = 0

    def takes(self, event_type: str) -> "_Taking | None":
        projection = self.filling.projection
        fold = projection.folds.get(event_type)
        return fold and (self, self.items.append, projection.key, fold)


_Taking = tuple[Work, Callable[[tuple[Any, Fold, Recorded]], None], Callable[[Recorded], Any], Fold]


def works_of(page: list[Recorded], fillings: Sequence["Filling"]) -> list[Work]:
    """The work of each filling, found in one walk over the page. Raises CannotFold."""
    works = [Work(filling) for filling in fillings]
    taking: dict[str, list[_Taking]] = {}
    for event in page:
        takers = taking.get(event.type)
        if takers is None:
            found = (work.takes(event.type) for work in works)
            takers = taking[event.type] = [one for one in found if one is not None]
        for work, add, key_of, fold in takers:
            try:
                add((key_of(event), fold, event))
            except Exception as error:
                raise CannotFold(work.filling, _at(event), error) from error
        if not takers and event.type not in event.catalogue:
            for work in works:
                work.unknown += 1
    return works


class _Rows:
    """The rows that changed last, with their hashes and sizes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, tuple[Row, int, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Any) -> Row | None:
        kept = self._kept.get(key)
        return kept and kept[0]

    def add(self, key: Any, row: Row, hashed: int, size: int) -> None:
        self._kept[key] = (row, hashed, size)
        self._bytes += size

    def take(self, key: Any) -> int | None:
        """Remove a row. Its hash; None if it is not here."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        self._bytes -= kept[2]
        return kept[1]

    def trim(self) -> None:
        """Drop the rows that changed first, down to the bounds."""
        while len(self._kept) > _CACHED_ROWS or self._bytes > _CACHED_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1][2]

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


class DamagedState(Exception):
    """What the database says of a filling cannot be: all of it is made again from the log."""


class Filling:
    """Folds pages of events into its table. Each page and its position are in the caller's
    transaction.
    """

    def __init__(self, projection: Projection, generation: int, table: Table) -> None:
        self.projection = projection
        self.generation = generation
        self.table = table
        self.position = 0
        self.unknown = 0
        self.committed = Committed(0, "0" * 32, 0)
        self.failure: CannotFold | None = None
        self._sum = 0
        self._rows = _Rows()
        self._numbers: dict[Any, int] = {}
        self._columns = [column.name for column in table.columns]
        self._values: Callable[[Row], _Values] = itemgetter(*self._columns)
        self._key_name = self._columns[0]
        self._upserts: dict[int, str] = {}

    @property
    def digest(self) -> str:
        return f"{self._sum:032x}"

    def resume(self, position: int, digest: str, unknown: int) -> None:
        """Go on from the state in the database. Also used after a failed transaction: nothing
        cached is trusted. Raises DamagedState.
        """
        try:
            self._sum = int(digest, 16)
        except (TypeError, ValueError):
            raise DamagedState(f"the digest of {self.projection.name} is none") from None
        self.position = position
        self.unknown = unknown
        self._rows.clear()
        self._numbers.clear()
        self.publish()

    def publish(self) -> None:
        """Let other threads see the position. Call it when the transaction of the last
        `fold` is committed.
        """
        self.committed = Committed(self.position, self.digest, self.unknown)

    def fold(self, connection: Connection, work: Work, covered: int) -> None:
        """Fold a page in order and write the changed rows. `covered` is the position after it.

        After any error the caller rolls the transaction back and calls `resume`. CannotFold names
        the event that caused it.
        """
        self.unknown += work.unknown
        changed = self._apply(connection, work.items)
        if changed:
            try:
                self._write(connection, changed)
            except SQLAlchemyError:
                raise
            except Exception as error:
                # An event of this page has a value that no column can store.
                raise CannotFold(self, f"by event {covered}", error) from error
        self.position = covered

    def _apply(
        self, connection: Connection, work: list[tuple[Any, Fold, Recorded]]
    ) -> dict[Any, Row | None]:
        try:
            before = self._load(connection, work)
        except SQLAlchemyError:
            raise
        except Exception as error:
            # A stored row has a value that was never written to it.
            where = f"in a stored row, after event {self.position}"
            raise CannotFold(self, where, error) from error
        now: dict[Any, Row | None] = {}
        for key, fold, event in work:
            row = now[key] if key in now else before.get(key)
            try:
                after = fold(row, event)
            except Exception as error:
                raise CannotFold(self, _at(event), error) from error
            if row is None and after is not None and self.projection.numbered is not None:
                after = self._numbered(connection, after, *self.projection.numbered)
            now[key] = after
        return now

    def _numbered(self, connection: Connection, row: Row, name: str, of: str) -> Row:
        """The new row with its number among the rows with the same value."""
        last = self._numbers.get(row[of])
        if last is None:
            columns = self.table.c
            newest = select(func.max(columns[name])).where(columns[of] == row[of])
            last = connection.execute(newest).scalar() or 0
            if len(self._numbers) >= _CACHED_ROWS:
                self._numbers.clear()
        self._numbers[row[of]] = last + 1
        return {**row, name: last + 1}

    def _load(
        self, connection: Connection, work: list[tuple[Any, Fold, Recorded]]
    ) -> dict[Any, Row]:
        births = self.projection.births
        rows: dict[Any, Row] = {}
        missing: dict[Any, None] = {}
        seen: set[Any] = set()
        for key, _, event in work:
            if key in seen:
                continue
            seen.add(key)
            cached = self._rows.get(key)
            if cached is not None:
                rows[key] = cached
            elif event.type not in births:
                missing[key] = None
        wanted = list(missing)
        for start in range(0, len(wanted), _LOOK_UP):
            statement = select(self.table).where(
                self.table.c[self._key_name].in_(bindparam("keys", expanding=True))
            )
            for found in connection.execute(statement, {"keys": wanted[start : start + _LOOK_UP]}):
                values = tuple(found)
                row = dict(zip(self._columns, values, strict=True))
                rows[row[self._key_name]] = row
                self._rows.add(row[self._key_name], row, *_hashed(values))
        return rows

    def _write(self, connection: Connection, changed: dict[Any, Row | None]) -> None:
        gone: list[Any] = []
        written: list[_Values] = []
        total = self._sum
        cache, values_of = self._rows, self._values
        for key, row in changed.items():
            old = cache.take(key)
            if old is not None:
                total -= old
            if row is None:
                if old is not None:
                    gone.append(key)
                continue
            values = values_of(row)
            hashed, size = _hashed(values)
            total += hashed
            cache.add(key, row, hashed, size)
            written.append(values)
        self._sum = total % _MODULUS
        if written:
            self._upsert(connection, written)
        if gone:
            statement = delete(self.table).where(self.table.c[self._key_name] == bindparam("gone"))
            connection.execute(statement, [{"gone": key} for key in gone])
        cache.trim()

    def _upsert(self, connection: Connection, rows: list[_Values]) -> None:
        """Write rows with as few statements as possible. The driver lets other threads run at each
        statement, and to come back takes longer than to write a row.
        """
        start = 0
        for count in _AT_ONCE:
            while len(rows) - start >= count:
                statement = self._upserts.get(count)
                if statement is None:
                    statement = self._upserts[count] = upsert(
                        connection,
                        self.table.name,
                        self._columns,
                        keys=self._columns[:1],
                        replaced=self._columns[1:],
                        rows=count,
                    )
                some = rows[start : start + count]
                connection.exec_driver_sql(statement, tuple(chain.from_iterable(some)))
                start += count

    def remembered(self, connection: Connection) -> str | None:
        """The digest of this filling that the database stores."""
        statement = text("SELECT digest FROM fillings WHERE name = :name AND generation = :number")
        named = {"name": self.projection.name, "number": self.generation}
        found: str | None = connection.execute(statement, named).scalar()
        return found

    def recount(self, connection: Connection, unless: Callable[[], bool] = lambda: False) -> str:
        """The digest counted from the table itself, or from a part of it once `unless`
        returns true.
        """
        # A cursor that is left open, also by an error, would hinder the removal of the table.
        with connection.execute(select(self.table)) as rows:
            return digest_of(tuple(row) for row in takewhile(lambda _: not unless(), rows))
