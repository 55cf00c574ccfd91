"""Maps events to stored rows and back, in the terms of the eventsourcing library."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from domain.log.envelope import NewEvent, encode_state
from domain.redaction import Redactor


class EventMapper(Mapper[str]):
    """Maps `NewEvent` to `StoredEvent`, with a stable type name as its topic.

    Credentials are removed here. This is the only way into the log, so no caller can forget it.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(JSONTranscoder())
        self.redactor = redactor

    def stored(self, events: Sequence[NewEvent], versions: Iterable[int]) -> list[StoredEvent]:
        """The rows of `events`, redacted and encoded. The versions are those in their streams."""
        payloads = [new.event.__pydantic_serializer__.to_json(new.event) for new in events]
        request_ids = [new.context.request_id for new in events]
        if not self._are_clean(payloads, request_ids):
            payloads = list(map(self._redacted, payloads))
            request_ids = [i if i is None else self.redactor.text(i) for i in request_ids]
        return [
            StoredEvent(new.stream, version, new.event.type, encode_state(new, payload, request_id))
            for new, version, payload, request_id in zip(
                events, versions, payloads, request_ids, strict=True
            )
        ]

    def _are_clean(self, payloads: list[bytes], request_ids: list[str | None]) -> bool:
        """Whether there is nothing to hide: one look for all of an append, as there rarely is."""
        texts = {i for i in request_ids if i is not None}
        return self.redactor.is_clean("\n".join((b"\n".join(payloads).decode(), *texts)))

    def _redacted(self, payload: bytes) -> bytes:
        if self.redactor.is_clean(payload.decode()):
            return payload
        return orjson.dumps(self.redactor.value(orjson.loads(payload)))

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """Encode an event that is already in the log again, as the library's own tools need it."""
        return StoredEvent(
            domain_event.stream, domain_event.version, domain_event.type, domain_event.state
        )
