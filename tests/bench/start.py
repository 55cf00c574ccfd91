"""The time of a start, and the memory of an idle server."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx2

from tests.bench.lists import resident_mb
from tests.bench.measure import Ratio
from tests.kit.server import Server
from tests.kit.waiting import until

STARTS = 7
_LIBRARIES = "import fastapi, sqlalchemy"
_WAITING = f"{_LIBRARIES}; print(flush=True); input()"


def cold_start() -> tuple[Ratio, dict[str, float]]:
    """The time from the command to its first ``/healthz``, as a multiple of the time in which an
    interpreter imports the two largest libraries and exits; in turn, medians.
    """
    ours, baseline = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter()
            server = Server.start(Path(directory) / "data", "--log-level", "warning")
            ours.append(time.perf_counter() - began)
            server.stop()
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _LIBRARIES], check=True)
        baseline.append(time.perf_counter() - began)
    mine, bare = median(ours), median(baseline)
    return Ratio(round(mine / bare, 3), round(mine, 2), round(bare, 2)), {}


def idle_memory() -> tuple[Ratio, dict[str, float]]:
    """MB of a server that served only ``/healthz``, the median; and MB of an interpreter that has
    imported the two largest libraries.
    """
    ours = [_at_rest_mb() for _ in range(3)]
    baseline = [_imported_mb() for _ in range(3)]
    return Ratio(median(ours), median(ours), median(baseline)), {}


def _at_rest_mb() -> float:
    with (
        tempfile.TemporaryDirectory() as directory,
        Server.start(Path(directory) / "data", "--log-level", "warning") as server,
    ):
        until(lambda: _is_ready(server), "the server is ready")
        return resident_mb(server.pid)


def _is_ready(server: Server) -> bool:
    return httpx2.get(f"{server.url}/readyz", headers=server.headers, trust_env=False).is_success


def _imported_mb() -> float:
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = resident_mb(process.pid)
        process.communicate(b"\n")
        return taken
