"""An event of the log."""

import orjson

from domain.event import Catalogue, Event, Json
from domain.log.envelope import subject_of


class Recorded:
    """An event of the log. The stored bytes are decoded at first use, once for all readers that
    share it.

    `position` counts from 1 without gaps, and `version` does so within the stream. `data` is a JSON
    object of the present schema; the classes of `catalogue` upcast older ones here.
    """

    __slots__ = (
        "_data",
        "_state",
        "_subject",
        "catalogue",
        "position",
        "state",
        "stream",
        "type",
        "version",
    )

    def __init__(
        self,
        position: int,
        stream: str,
        version: int,
        type: str,
        state: bytes,
        catalogue: Catalogue,
    ) -> None:
        self.position = position
        self.stream = stream
        self.version = version
        self.type = type
        self.state = state
        self.catalogue = catalogue
        self._state: Json | None = None
        self._data: Json | None = None
        self._subject: str | None = None

    def __repr__(self) -> str:
        return f"<{self.position} {self.type} {self.stream}@{self.version}>"

    @property
    def subject(self) -> str:
        subject = self._subject
        if subject is None:
            subject = self._subject = subject_of(self.stream)
        return subject

    @property
    def decoded(self) -> Json:
        """The stored state with `data` upcast."""
        state = self._state  # another thread may let go of it at any moment
        if state is None:
            state = orjson.loads(self.state)
            event_class = self.catalogue.get(self.type)
            if event_class is not None and state["schema"] < event_class.schema_number:
                state["data"] = event_class.upcast(state["data"], state["schema"])
            self._state = state
        return state

    def let_go(self) -> None:
        """Keep the stored bytes alone: decoded, an event is a dozen objects that the garbage
        collector walks. The next reader decodes it anew. Thread-safe.
        """
        self._state = self._data = None

    @property
    def data(self) -> Json:
        data = self._data
        if data is None:
            data = self._data = self.decoded["data"]
        return data

    @property
    def schema(self) -> int:
        return int(self.decoded["schema"])

    @property
    def id(self) -> str:
        return str(self.decoded["id"])

    @property
    def at(self) -> str:
        return str(self.decoded["at"])

    @property
    def actor(self) -> str:
        return str(self.decoded["actor"])

    @property
    def request_id(self) -> str | None:
        value: str | None = self.decoded["request_id"]
        return value

    @property
    def cause(self) -> str | None:
        value: str | None = self.decoded["cause"]
        return value

    def event(self) -> Event:
        """The typed event. Raises KeyError for a type that this version does not know."""
        return self.catalogue[self.type].read(self.data)

    @property
    def wire(self) -> bytes:
        """The whole envelope as one line of JSON, made from the stored bytes.

        Stream and type names hold no character that JSON escapes, so they are inserted as they are.
        """
        return (
            b'{"position":%d,"stream":"%s","version":%d,"type":"%s",'
            % (self.position, self.stream.encode(), self.version, self.type.encode())
            + self.state[1:]
        )

    def as_json(self) -> Json:
        """The envelope as a JSON object, with its fields in the order of the wire."""
        value: Json = orjson.loads(self.wire)
        return value
