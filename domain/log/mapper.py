"""Maps events to stored rows and back, in the terms of the eventsourcing library."""

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
        self._clean_id: str | None = None
        """The last request id that has nothing to hide: a request often causes several events."""

    def stored(self, new: NewEvent, version: int) -> StoredEvent:
        """The row of `new` as event number `version` of its stream, redacted and encoded."""
        redactor = self.redactor
        event = new.event
        data = event.__pydantic_serializer__.to_json(event)
        if not redactor.is_clean(data.decode()):
            data = orjson.dumps(redactor.value(orjson.loads(data)))
        request_id = new.context.request_id
        if request_id is not None and request_id != self._clean_id:
            if redactor.is_clean(request_id):
                self._clean_id = request_id
            else:
                request_id = redactor.text(request_id)
        state = encode_state(new, data, request_id)
        return StoredEvent(new.stream, version, event.type, state)

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """Encode an event that is already in the log again, as the library's own tools need it."""
        return StoredEvent(
            domain_event.stream, domain_event.version, domain_event.type, domain_event.state
        )
