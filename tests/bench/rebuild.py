"""All projections over a log, against a scan of its raw rows with orjson."""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

import orjson

from domain.catalogue import CATALOGUE
from domain.log import open_sqlite_log
from domain.redaction import Redactor
from projections.engine import Views
from projections.views import PROJECTIONS
from tests.bench.histories import make_log
from tests.bench.measure import Ratio, ratio

EVENTS = 200_000
OUTPUTS = 16


def rebuild_vs_raw_scan() -> Ratio:
    """Events a second: 1 in 5 is of the job's own stream, the others are output of 5 lines."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        make_log(data, EVENTS, OUTPUTS)

        def ours() -> float:
            for file in data.glob("views.db*"):
                file.unlink()
            log = open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE)
            views = Views(data / "views.db", log, PROJECTIONS)
            began = time.perf_counter()
            views.start()
            asyncio.run(views.caught_up(300))
            rate = log.head / (time.perf_counter() - began)
            views.close()
            log.close()
            return rate

        return ratio(ours, lambda: _scan(data / "log.db"))


def _scan(path: Path) -> float:
    raw = sqlite3.connect(path)
    began = time.perf_counter()
    count = 0
    for row in raw.execute(
        "SELECT position, originator_id, originator_version, topic, state FROM events "
        "ORDER BY position"
    ):
        orjson.loads(row[4])
        count += 1
    rate = count / (time.perf_counter() - began)
    raw.close()
    return rate
