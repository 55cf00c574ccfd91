"""How an event becomes a stored row and back, in the terms of the eventsourcing library."""

from typing import Any

import orjson
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from domain.log.envelope import NewEvent, encode_state
from domain.redaction import Redactor


class EventMapper(Mapper[str]):
    """Maps `NewEvent` to `StoredEvent` with a stable type name for its topic.

    Credentials are taken out here, on the only way into the log, so that no caller can forget to.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(JSONTranscoder())
        self.redactor = redactor

    def stored(self, new: NewEvent, version: int) -> StoredEvent:
        """The row of `new` as event number `version` of its stream, redacted and encoded."""
        redactor = self.redactor
        event = new.event
        data = event.__pydantic_serializer__.to_json(event)
        if not redactor.is_clean(data.decode()):
            data = orjson.dumps(redactor.value(orjson.loads(data)))
        request_id = new.context.request_id
        if request_id is not None and not redactor.is_clean(request_id):
            request_id = redactor.text(request_id)
        state = encode_state(new, data, request_id)
        return StoredEvent(new.stream, version, event.type, state)

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """Re-encode an event that is in the log already, as the library's own tools ask for it."""
        return StoredEvent(
            domain_event.stream, domain_event.version, domain_event.type, domain_event.state
        )
