"""Jobs a second, committed in crews of ten, against single creates; both durable."""

import tempfile
from pathlib import Path

import orjson
import uvloop

from tests.bench.create import BODY, CLIENTS, JOBS, SECONDS
from tests.bench.http import Connection, rate, with_connections
from tests.bench.measure import Ratio, ratio
from tests.kit.server import Server

COUNT = 10

TEMPLATE = """\
name: Ten
inputs:
  folder: {type: string}
jobs:
""" + "".join(
    f"""\
  - id: job{n}
    title: Test part {n} of {{{{ folder }}}}
    body: Run part {n}.
    argv: [make, -C, "{{{{ folder }}}}", test-{n}]
    parents: [{"" if n == 0 else f"job{n - 1}"}]
"""
    for n in range(COUNT)
)


def crew_commit_vs_single_create() -> tuple[Ratio, dict[str, float]]:
    """Jobs accepted a second by 16 keep-alive clients."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        (data / "templates").mkdir(parents=True)
        (data / "templates" / "ten.job_workflow.yaml").write_text(TEMPLATE)
        held = Server.start(data, "--capacity", "0", "--log-level", "warning")
        crew = orjson.dumps({"template": "ten", "inputs": {"folder": "/srv/project"}})

        def measure(path: str, body: bytes) -> float:
            async def work(connections: list[Connection]) -> float:
                request = connections[0].encode("POST", path, body)
                return (await rate(connections, request, SECONDS, 201))[0]

            return uvloop.run(with_connections(CLIENTS, held.url, held.token, work))

        try:
            result = ratio(
                lambda: COUNT * measure("/crewlog/v1/crews", crew), lambda: measure(JOBS, BODY)
            )
        finally:
            held.stop()
    return result, {"crews_per_s": round(result.ours / COUNT, 1)}
