"""Readers get the same events from memory as from the disk."""

from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import CATALOGUE
from domain.job.events import (
    JobFinished,
    JobMessaged,
    JobOutput,
    JobSubmitted,
    Links,
    Outcome,
)
from domain.log import Context, new_events, open_sqlite_log
from domain.redaction import Redactor


def test_what_is_shared_in_memory_is_what_the_bytes_hold(tmp_path: Path) -> None:
    log = open_sqlite_log(tmp_path, redactor=Redactor(), catalogue=CATALOGUE)
    submitted = JobSubmitted(
        kind="command",
        label="l",
        title="t",
        owner="o",
        argv=["a", "https://u:p@h/x"],
        cwd="/",
        env_names=["A"],
        sealed=True,
        timeout_ms=5,
        labels=["x"],
        links=Links(parent="p"),
    )
    finished = JobFinished(
        attempt=1,
        outcome=Outcome.TIMED_OUT,
        exit_code=-9,
        reason="r",
        error_id=None,
        run_ms=1,
        lines=2,
        output_bytes=3,
    )
    context = Context(actor="somebody", request_id="r", cause="c")
    log.append_blocking(new_events("job-a", [submitted, finished], context), {"job-a": 0})
    near = log.blocking.read(0)
    far = log.blocking.stream("job-a")
    log.close()
    assert [event.decoded for event in near] == [event.decoded for event in far]
    assert [event.wire for event in near] == [event.wire for event in far]
    assert [event.event() for event in far][1] == finished
    assert near[0].data["argv"] == ["a", "https://REDACTED@h/x"]


@given(st.text(), st.lists(st.text(), max_size=3))
def test_an_event_is_encoded_as_its_json_value_would_be(text: str, lines: list[str]) -> None:
    """Two encoders write the log (pydantic's, and orjson where something was redacted): the same
    bytes.
    """
    for event in (
        JobMessaged(text=text),
        JobOutput(attempt=1, first_line=1, lines=lines, end_offset=2**40),
    ):
        value = event.model_dump(mode="json")
        assert event.__pydantic_serializer__.to_json(event) == orjson.dumps(value)
