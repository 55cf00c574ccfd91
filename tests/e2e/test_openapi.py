"""The OpenAPI document and the server agree: schemathesis searches for differences."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.kit.server import Server, environment
from tests.kit.waiting import DEADLINE_S

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))

AUTHORIZATION = """
[auth.openapi.bearer]
bearer = "{token}"
"""

DIALECTS = """
[[operations]]
include-path = [
    "/api/jobs", "/api/v1/jobs", "/api/v1/fix-ci", "/api/approvals",
    "/api/jobs/clear", "/api/templates/render", "/api/templates/{template_id}",
    "/api/schedules/preview",
]
# A cursor that names nothing, fix-ci without a branch, a template or a rule that does not exist:
# well-formed, and still not acceptable.
checks.positive_data_acceptance.expected-statuses = [200, 201, 202, 400, 401, 403, 404, 429]

[[operations]]
include-path-regex = "^/api/jobs/{job_id}(/cancel|/archive|/redo|/unblock)?$"
# If-Match of another version, or of none.
checks.positive_data_acceptance.expected-statuses = [200, 204, 401, 403, 404, 409, 412]
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 422]

[[operations]]
include-path-regex = "^/api/schedules"
# Rules, zones and templates are looked at one by one, and the mistake is named with its path.
checks.positive_data_acceptance.expected-statuses = [200, 201, 400, 401, 403, 404, 409, 412]
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 422]
"""

NATIVE = """
[[operations]]
include-path = [
    "/jobs", "/jobs/actions", "/crews", "/approvals", "/templates/render",
    "/templates/{template_id}", "/schedules/preview",
]
# A word, a time or a cursor that names nothing: well-formed, and still not acceptable.
checks.positive_data_acceptance.expected-statuses = [200, 201, 400, 401, 403, 404, 422]

[[operations]]
include-path = ["/users"]
# An address whose domain is none of IDNA 2008, which no schema can say.
checks.positive_data_acceptance.expected-statuses = [200, 201, 400, 401, 403, 404, 409]

[[operations]]
include-path-regex = "^/schedules"
# Rules, zones and templates are looked at one by one, and the mistake is named with its path.
checks.positive_data_acceptance.expected-statuses = [200, 201, 400, 401, 403, 404, 409, 412]
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 422]

[[operations]]
include-path-regex = "^/crews/|^/approvals/|^/artifacts/"
checks.positive_data_acceptance.expected-statuses = [200, 201, 400, 401, 403, 404, 406, 409, 413]

[[operations]]
include-path-regex = "^/jobs/{job_id}"
# If-Match of another version, or of none; a comment of control characters; a cursor that names
# nothing.
checks.positive_data_acceptance.expected-statuses = [
    200, 201, 204, 400, 401, 403, 404, 409, 412, 422,
]
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 422]
"""

HOOKS = Path(__file__).with_name("openapi_hooks.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that accepts jobs but runs none."""
    directory = tmp_path_factory.mktemp("openapi")
    with Server.start(
        directory / "data",
        "--capacity=0",
        *(f"--listen={name}=127.0.0.1:0" for name in ("gitoma", "codeplane", "board")),
        CREWLOG_GITOMA_RATE_LIMIT="1000000",
        CREWLOG_GITOMA_STATE_DIR=str(directory / "state"),
        LM_STUDIO_BASE_URL="http://127.0.0.1:9/v1",
    ) as running:
        yield running


def document_at(server: Server, path: str) -> dict[str, Any]:
    """The OpenAPI document. It is made at its first request, which is slow on a busy machine."""
    answer = httpx2.get(f"{server.url}{path}", trust_env=False, timeout=DEADLINE_S)
    document: dict[str, Any] = answer.json()
    return document


def test_the_documents_name_every_api_route_its_token_and_its_streams(server: Server) -> None:
    def read(path: str) -> dict[str, Any]:
        document: dict[str, Any] = document_at(server, path)
        assert document["openapi"].startswith("3.1")
        assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
        assert named <= set(document["components"]["schemas"])
        return document

    native = read("/crewlog/v1/openapi.json")
    for operation in (o for item in native["paths"].values() for o in item.values()):
        assert operation["security"] == [{"bearer": []}]
    for path, streamed in (
        ("/openapi/gitoma.json", "/api/v1/stream/{job_id}"),
        ("/openapi/codeplane.json", "/api/events"),
        ("/openapi/board.json", "/api/jobs/{job_id}/stream"),
    ):
        paths = read(path)["paths"]
        answers = paths[streamed]["get"]["responses"]["200"]["content"]
        assert list(answers) == ["text/event-stream"]
        for named, operations in paths.items():
            for operation in operations.values():
                secured = operation.get("security") == [{"bearer": []}]
                assert secured == named.startswith("/api/"), named
    streamed = native["paths"]["/log/stream"]["get"]["responses"]["200"]["content"]
    assert list(streamed) == ["text/event-stream"]


def test_gitomas_clients_find_its_document_where_it_always_was(server: Server) -> None:
    paths = document_at(server, "/openapi.json")["paths"]
    head = httpx2.head(f"{server.url}/openapi.json", trust_env=False, timeout=DEADLINE_S)
    assert (head.status_code, head.content) == (200, b"")

    tags = {t for operations in paths.values() for o in operations.values() for t in o["tags"]}
    assert tags == {"system", "jobs", "state"}
    assert all(path.startswith("/api/v1/") for path in paths)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("dialect", "configured"),
    [("gitoma", DIALECTS), ("codeplane", DIALECTS), ("board", DIALECTS), (None, NATIVE)],
)
def test_schemathesis_finds_nothing(
    server: Server, tmp_path: Path, dialect: str | None, configured: str
) -> None:
    """Each dialect at its own address, because others share some paths at the main address."""
    listening = json.loads((server.data / "server.json").read_text())["listen"]
    alone = {one["dialect"]: one["url"] for one in listening}
    native = f"{server.url}/crewlog/v1/openapi.json"
    document = native if dialect is None else f"{alone[dialect]}/openapi.json"
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(AUTHORIZATION.format(token=server.token) + configured)
    run = subprocess.run(
        [
            *(
                SCHEMATHESIS,
                f"--config-file={configuration}",
                "run",
                document,
            ),
            *("--checks=all", "--max-examples=10", "--generation-deterministic"),
            *("--continue-on-failure", "--no-shrink"),
            # The time to make data depends on the load of the machine.
            "--suppress-health-check=too_slow",
            # These streams never end. Streams of jobs are requested for jobs that do not exist.
            *(
                "--exclude-path-regex=/log/stream|/repositories/stream|/events",
                "--request-timeout=60",
            ),
        ],
        cwd=tmp_path,
        env=environment(SCHEMATHESIS_HOOKS=str(HOOKS), NO_PROXY="*", PYTHONWARNINGS="ignore"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert server.running
    assert "Traceback" not in server.output.read_text()
