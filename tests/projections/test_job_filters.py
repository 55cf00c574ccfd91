"""Filters of job lists: which of them no event loop should wait for."""

from dataclasses import fields
from typing import Any

import pytest

from projections.job_filters import JobFilter

CHEAP: dict[str, Any] = {"ids": frozenset({"a"}), "owner": "operator", "crew": "c"}


def test_what_has_an_index_or_none_is_read_at_once() -> None:
    assert not JobFilter().rare
    assert not JobFilter(**CHEAP).rare


@pytest.mark.parametrize("name", [f.name for f in fields(JobFilter) if f.name not in CHEAP])
def test_every_other_filter_may_look_at_every_job(name: str) -> None:
    wanted: dict[str, Any] = {name: "anything"}
    assert JobFilter(**wanted).rare
