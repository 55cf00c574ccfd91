"""Every route with malformed requests: at worst a plain refusal, never a 500."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.dialects import DIALECTS
from tests.e2e.crews import write_template
from tests.e2e.people import add_user
from tests.e2e.test_every_route import TABLE
from tests.kit.client import Native
from tests.kit.server import Server

Json = dict[str, Any]

ODD = {
    "lone surrogate": r'"cut \ud83d"',
    "surrogates in the wrong order": r'"\ude80\ud83d"',
    "surrogate as a key": r'{"\udfff": 1}',
    "NUL": r'"a\u0000b"',
    "NUL as a key": r'{"\u0000": 1}',
    "900 deep": "[" * 900 + "]" * 900,
    "900 deep objects": '{"a":' * 900 + "1" + "}" * 900,
    "200,000 deep": "[" * 200_000 + "]" * 200_000,
    "5,000 digits": "9" * 5_000,
    "minus 5,000 digits": "-" + "9" * 5_000,
    "beyond 64 bits": "18446744073709551617",
    "an exponent": "1e400",
    "a small exponent": "1e-400",
    "not a number": "NaN",
    "infinity": "-Infinity",
    "long": '"' + "x" * 300_000 + '"',
    "many": "[" + "1," * 50_000 + "1]",
    "null": "null",
    "a list": "[]",
    "an object": "{}",
    "a truth": "true",
    "a fraction": "0.5",
    "nothing": '""',
    "lines": r'"a\r\nb: c"',
}

TEXTS = {
    "5,000 digits": "9" * 5_000,
    "a position and 5,000 digits": "1:" + "9" * 5_000,
    "minus": "-1",
    "a fraction": "1.5",
    "encoded surrogate": "%ED%A0%BD",
    "NUL": "%00",
    "bytes": "%FF%FE",
    "percent": "%25%_'\"",
    "other digits": "%D9%A3",
    "long": "x" * 3_000,
    "nothing": "",
    "line": "%0D%0A",
    "dots": "..%2F..%2Fetc",
}

HEADERS = ("Last-Event-ID", "If-Match", "Idempotency-Key", "x-request-id", "Range", "Accept")

NATIVE = "/crewlog/v1"

KEYS = {
    ("POST", "/api/jobs"): {
        "argv": '["true"]',
        "env": "{}",
        "title": '"t"',
        "labels": "[]",
        "cwd": '"."',
        "timeoutS": "1",
        "kind": '"command"',
    },
    ("POST", "/crewlog/v1/jobs"): {
        "argv": '["true"]',
        "env": "{}",
        "title": '"t"',
        "labels": "[]",
        "cwd": '"."',
        "timeoutS": "1",
        "kind": '"command"',
    },
    ("POST", "/crewlog/v1/jobs/actions"): {
        "action": '"archive"',
        "ids": '["none"]',
        "filter": '{"text": "none"}',
    },
    ("POST", "/crewlog/v1/crews"): {
        "template": '"odd"',
        "inputs": "{}",
        "timezone": '"UTC"',
        "notBefore": '"2100-01-01T00:00:00Z"',
    },
    ("POST", "/crewlog/v1/templates/render"): {"template": '"odd"', "inputs": "{}"},
    ("POST", "/crewlog/v1/schedules"): {
        "name": '"n"',
        "template": '"odd"',
        "rule": '{"cron": "0 7 * * *"}',
        "inputs": "{}",
        "timezone": '"UTC"',
        "jitterS": "1",
        "catchUp": '"none"',
        "endsAt": "null",
        "maxFirings": "1",
    },
    ("POST", "/crewlog/v1/schedules/preview"): {
        "rule": '{"cron": "0 7 * * *"}',
        "n": "1",
    },
    ("POST", "/api/templates/render"): {"templateId": '"odd"', "inputs": "{}"},
    ("POST", "/api/schedules"): {
        "name": '"n"',
        "templateId": '"odd"',
        "rule": '{"cron": "0 7 * * *"}',
        "inputs": "{}",
        "timezone": '"UTC"',
        "jitterS": "1",
        "catchUp": '"none"',
        "endsAt": "null",
        "maxFirings": "1",
    },
    ("POST", "/api/schedules/preview"): {"rule": '{"cron": "0 7 * * *"}', "n": "1"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("odd") / "data"
    with Server.start(
        data, "--capacity=0", "--log-level=warning", CREWLOG_GITOMA_RATE_LIMIT="1000000"
    ) as started:
        inputs = {
            "text": {"type": "string", "default": ""},
            "number": {"type": "integer", "default": 1},
            "any": {"default": 0},
        }
        write_template(data, "odd", {"id": "a", "title": "A", "argv": ["true"]}, inputs=inputs)
        yield started


@pytest.fixture(scope="module")
def known(server: Server) -> dict[str, str]:
    """The id of an existing object for each parameter of a path."""
    user = add_user(server, "a@example.org", name="A")["id"]
    with Native(server) as http:
        job = http.submit("true")
        schedule = http.post(
            "/crewlog/v1/schedules",
            json={"name": "n", "template": "odd", "rule": {"cron": "0 7 * * *"}},
        ).json()["id"]
    return {"job_id": job, "schedule_id": schedule, "user_id": user, "template_id:path": "odd"}


def filled(path: str, known: dict[str, str]) -> str:
    return re.sub(r"\{([^}]+)\}", lambda m: known.get(m[1], "1"), path)


def status(server: Server, method: str, path: str, headers: dict[str, str], body: bytes) -> int:
    """The status of an answer that may never end. HTTP clients cannot send such requests."""
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += [f"{name}: {value}" for name, value in {**server.headers, **headers}.items()]
    if method not in ("GET", "DELETE"):
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode("latin-1") + b"\r\n\r\n")
        connection.sendall(body)
        answered = connection.recv(64)
    return int(answered.split()[1]) if answered else 0


WRITES = sorted(key for key in TABLE if key[0] not in ("GET", "DELETE"))


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_odd_bodies_are_refused_or_taken(
    server: Server, known: dict[str, str], method: str, path: str
) -> None:
    sound = KEYS.get((method, path)) or {
        name: json.dumps(value) for name, value in (TABLE[method, path].body or {}).items()
    }
    for name, odd in ODD.items():
        bodies = [odd]
        for key in sound:
            members = {**sound, key: odd}
            bodies.append("{" + ",".join(f'"{k}":{v}' for k, v in members.items()) + "}")
        if "inputs" in sound:
            for key in ("text", "number", "any", "unknown"):
                inputs = f'{{"{key}":{odd}}}'
                members = {**sound, "inputs": inputs}
                bodies.append("{" + ",".join(f'"{k}":{v}' for k, v in members.items()) + "}")
        if (method, path) == ("POST", "/api/jobs"):
            for key in ("text", "number", "any"):
                bodies.append(f'{{"templateId":"odd","inputs":{{"{key}":{odd}}}}}')
            bodies.append(f'{{"argv":["true",{odd}]}}')
            bodies.append(f'{{"argv":["true"],"env":{{"A":{odd}}}}}')
            bodies.append(f'{{"argv":["true"],"ignored":{odd}}}')
        for body in bodies:
            code = status(server, method, filled(path, known), {}, body.encode())
            assert code in range(200, 500), (name, body[:200])
    assert server.running


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_odd_headers_are_refused_or_passed_over(
    server: Server, known: dict[str, str], method: str, path: str
) -> None:
    for header in HEADERS:
        for name, text in TEXTS.items():
            value = text.replace("%0D%0A", "").replace("%00", "")
            code = status(server, method, filled(path, known), {header: value}, b"{}")
            assert code in range(200, 500), (header, name)


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_odd_queries_and_paths_are_refused(
    server: Server, http: Native, known: dict[str, str], method: str, path: str
) -> None:
    native = path.startswith(NATIVE)
    documents = [f"{NATIVE}/openapi.json"] if native else [f"/openapi/{d}.json" for d in DIALECTS]
    within = (path.removeprefix(NATIVE) if native else path).replace(":path", "")
    operations = [
        http.get(d).json()["paths"].get(within, {}).get(method.lower(), {}) for d in documents
    ]
    described = [one for operation in operations for one in operation.get("parameters", [])]
    queries = {one["name"] for one in described if one["in"] == "query"}
    for name, text in TEXTS.items():
        for query in (*queries, "last_event_id", "unheard"):
            code = status(server, method, f"{filled(path, known)}?{query}={text}", {}, b"{}")
            assert code in range(200, 500), (query, name)
        if "{" in path:
            odd = re.sub(r"\{[^}]+\}", text, path)
            code = status(server, method, odd, {}, b"{}")
            assert code in range(200, 500), (odd[:100], name)
