"""Every list of the native API is a page: `items`, `cursor` and few fields beside them."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_app
from api.parts import build
from api.settings import Settings
from tests.routes import applications, documented

Json = dict[str, Any]

ONE_THING = {
    "/analytics/overview",
    "/board",
    "/dispatcher",
    "/health",
    "/schedules/{schedule_id}/preview",
    "/system",
    "/worker",
}
"""Paths that answer with one object, although they name a collection."""

BESIDE = {
    "/approvals": {"count"},
    "/jobs/{job_id}/events": {"head"},
    "/log": {"head"},
    "/projections": {"head"},
    "/templates": {"faults"},
}
"""Fields of a list that describe the whole list."""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The JSON schema of each GET's answer, by its path below the prefix."""
    parts = build(Settings(data=tmp_path_factory.mktemp("lists") / "data", token="t" * 40))
    try:
        main = create_app(parts)
        return dict(_answers(main))
    finally:
        parts.close()


def _answers(main: Any) -> Iterator[tuple[str, Json]]:
    (native,) = applications(main.native)
    schemas = native.openapi()["components"]["schemas"]
    for method, path, operation in documented(native):
        content = operation["responses"].get("200", {}).get("content", {})
        if method == "GET" and "application/json" in content:
            schema = content["application/json"]["schema"]
            name = schema.get("$ref", "").rpartition("/")[2]
            yield path, schemas.get(name, schema)


def _is_of_one(path: str) -> bool:
    return path.endswith("}") or path in ONE_THING


def test_every_list_is_described_as_a_page(read: Json) -> None:
    lists = {path: schema for path, schema in read.items() if not _is_of_one(path)}

    assert len(lists) > 15
    assert ONE_THING | BESIDE.keys() <= read.keys()
    for path, schema in lists.items():
        assert {"items", "cursor"} <= set(schema.get("required", ())), path
        fields = schema["properties"]
        assert fields.keys() - {"items", "cursor"} == BESIDE.get(path, set()), path
        assert fields["items"]["type"] == "array", path
        assert {"type": "null"} in fields["cursor"]["anyOf"], path
        assert schema["additionalProperties"] is False, path


def test_what_is_no_list_is_no_page_and_no_bare_array(read: Json) -> None:
    for path, schema in read.items():
        if _is_of_one(path):
            assert schema.get("type", "object") == "object", path
            assert not schema.get("properties", {}).keys() & {"items", "cursor"}, path
