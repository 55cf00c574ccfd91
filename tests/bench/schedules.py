"""The lateness of a thousand schedules that are due within one minute."""

import random
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.bench.crews import TEMPLATE
from tests.bench.measure import percentile, say
from tests.kit.client import Native
from tests.kit.server import Server

COUNT = 1_000
MINUTE_S = 60
REACH_P99_MS = 50


def schedule_lateness() -> dict[str, Any]:
    """Milliseconds from a schedule's time to its ``schedule.fired``, as p50 and p99; the numbers of
    missed times, double firings, and crews made.
    """
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        (data / "templates").mkdir(parents=True)
        (data / "templates" / "ten.job_workflow.yaml").write_text(TEMPLATE)
        held = Server.start(data, "--capacity", "0", "--log-level", "warning")
        try:
            with Native(held) as http:
                return _measure(http)
        finally:
            held.stop()


def _measure(http: Native) -> dict[str, Any]:
    dice = random.Random(7)
    begin = datetime.now(UTC) + timedelta(seconds=20)
    times = [begin + timedelta(seconds=dice.uniform(0, MINUTE_S)) for _ in range(COUNT)]
    for number, at in enumerate(times):
        answer = http.post(
            "/crewlog/v1/schedules",
            json={
                "name": f"number {number}",
                "template": "ten",
                "inputs": {"folder": "/srv/project"},
                "rule": {"once": at.isoformat()},
                "timezone": "UTC",
            },
        )
        if answer.status_code != 201:
            raise RuntimeError(answer.text)
    if datetime.now(UTC) >= begin:
        raise RuntimeError("The schedules could not be made in time.")
    say(f"  {COUNT} schedules wait for their minute")
    time.sleep((begin - datetime.now(UTC)).total_seconds() + MINUTE_S + 3)
    fired = http.items("/log", type="schedule.fired", cursor=0, limit=1000)
    spawned = http.items("/log", type="schedule.spawned", cursor=0, limit=1000)
    seen = Counter(event["stream"].partition("/")[0] for event in fired)
    late = [_late_ms(event) for event in fired]
    p99 = percentile(late, 0.99)
    found = {
        "p50_ms": round(percentile(late, 0.5), 2),
        "p99_ms": round(p99, 2),
        "missed": COUNT - len(seen),
        "doubled": sum(count - 1 for count in seen.values()),
        "crews": len(spawned),
        "reach": {"p99_ms": REACH_P99_MS, "missed": 0, "doubled": 0},
    }
    reached = p99 <= REACH_P99_MS and not found["missed"] and not found["doubled"]
    say(f"  p99 {found['p99_ms']} ms ({'reached' if reached else 'NOT reached'}: {REACH_P99_MS})")
    return found


def _late_ms(event: dict[str, Any]) -> float:
    """From the times of the events, which are finer than the milliseconds in their data."""
    at = datetime.fromisoformat(event["at"])
    return max(0.0, (at - datetime.fromisoformat(event["data"]["due_at"])).total_seconds() * 1000)
