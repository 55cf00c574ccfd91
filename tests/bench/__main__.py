"""``make bench``: one JSON object on stdout. Each key is a ratio to a baseline; the raw figures are
under ``raw``.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from tests.bench.append import append_group_commit_vs_raw_sqlite
from tests.bench.create import http_create_vs_bare_fastapi_post, submit_to_start
from tests.bench.crews import crew_commit_vs_single_create
from tests.bench.fanout import sse_fanout_vs_bare_asgi
from tests.bench.lists import job_stream_1m_vs_1k, list_page_100k_vs_1k
from tests.bench.measure import Ratio, say
from tests.bench.processes import drain_processes_vs_spawn, submit_to_process
from tests.bench.rebuild import rebuild_vs_raw_scan
from tests.bench.schedules import schedule_lateness
from tests.bench.start import cold_start, idle_memory

REACH = {
    "append_group_commit_vs_raw_sqlite": 0.35,
    "http_create_vs_bare_fastapi_post": 0.35,
    "sse_fanout_vs_bare_asgi": 0.65,
    "rebuild_vs_raw_scan": 0.12,
    "list_page_100k_vs_1k": 0.8,
    "job_stream_1m_vs_1k": 0.8,
    "crew_commit_vs_single_create": 2.0,
    "drain_processes_vs_spawn": 0.2,
    "submit_to_process": 5.0,
    "cold_start": 1.9,
    "idle_memory": 95.0,
}

AT_MOST = frozenset({"submit_to_process", "cold_start", "idle_memory"})
"""Ratios whose goal is an upper bound."""

RATIOS: tuple[Callable[[], Any], ...] = (
    append_group_commit_vs_raw_sqlite,
    http_create_vs_bare_fastapi_post,
    sse_fanout_vs_bare_asgi,
    rebuild_vs_raw_scan,
    list_page_100k_vs_1k,
    job_stream_1m_vs_1k,
    crew_commit_vs_single_create,
    drain_processes_vs_spawn,
    submit_to_process,
    cold_start,
    idle_memory,
)


def main(names: list[str]) -> None:
    """Run the named ratios, or everything."""
    result: dict[str, Any] = {}
    raw: dict[str, Any] = {}
    for benchmark in RATIOS:
        name = benchmark.__name__
        if names and name not in names:
            continue
        say(name)
        begun = time.monotonic()
        found = benchmark()
        measured, more = found if isinstance(found, tuple) else (found, {})
        assert isinstance(measured, Ratio)
        result[name] = measured.value
        raw[name] = {"ours": measured.ours, "baseline": measured.baseline, "reach": REACH[name]}
        raw |= more
        over = measured.value - REACH[name]
        reached = "reached" if (over <= 0 if name in AT_MOST else over >= 0) else "NOT reached"
        took = round(time.monotonic() - begun)
        say(f"  {measured.value} ({reached}: {REACH[name]}), in {took} s")
    if not names or "schedule_lateness" in names:
        say("schedule_lateness")
        result["schedule_lateness"] = schedule_lateness()
    if not names:
        say("starts")
        raw |= submit_to_start()
    result["raw"] = raw
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
