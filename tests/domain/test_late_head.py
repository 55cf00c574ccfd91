"""What is committed is found, even before the store counts it."""

import asyncio

from domain.catalogue import CATALOGUE
from domain.event import Event
from domain.job.events import JobMessaged
from domain.log import Context, MemoryStore, Recorded, new_events, open_log
from domain.redaction import Redactor


class Late(MemoryStore):
    """Has written, and has not counted it yet."""

    late = False

    async def head(self) -> int:
        return 0 if self.late else await super().head()

    def head_blocking(self) -> int:
        return 0 if self.late else super().head_blocking()


def test_a_walk_finds_what_is_committed_and_not_counted_yet() -> None:
    store = Late()
    log = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    events: list[Event] = [JobMessaged(text=text) for text in ("one", "two")]
    log.append_blocking(new_events("job-a", events, Context(actor="tester")), {"job-a": 0})
    store.late = True

    async def walked() -> list[Recorded]:
        return [event async for page in log.pages() for event in page]

    for found in (
        [event for page in log.blocking.pages(subject="job-a") for event in page],
        asyncio.run(walked()),
    ):
        assert [event.data["text"] for event in found] == ["one", "two"]
    log.close()
