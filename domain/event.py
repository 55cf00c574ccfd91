"""The base of every event: a frozen pydantic model with a stable type name and a schema number.

A type name is ``noun.past_tense`` and is what the log stores; no Python path ever is, so code can
move.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

TYPE_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")

Json = dict[str, Any]
"""A JSON object as orjson gives it."""


class Event(BaseModel):
    """A fact. Fields are JSON-native; times are ISO text in UTC, durations whole milliseconds.

    Unknown fields are refused when an event is made and tolerated when one is read.
    """

    # Built when first used: a server that starts needs few of them at once.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    type: ClassVar[str]
    schema_number: ClassVar[int]
    essential: ClassVar[bool]
    """It is written also when hardly any room is left: such are few, and they let go of room."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, type: str = "", schema: int = 1, essential: bool = False, **_: Any
    ) -> None:
        if not type:
            return
        if not TYPE_NAME.fullmatch(type):
            raise TypeError(f"{type!r} is not a noun.past_tense name.")
        cls.type = type
        cls.schema_number = schema
        cls.essential = essential

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        """Turn the data of an older schema into today's. Pure; overridden where a schema has
        changed.
        """
        return data

    @classmethod
    def read(cls, data: Json) -> Self:
        """Build from stored data of today's schema, passing over fields this
        version does not know.
        """
        known = cls.model_fields
        return cls.model_validate({k: v for k, v in data.items() if k in known}, strict=False)


Catalogue = Mapping[str, type[Event]]
"""Event classes by the names under which they are stored: what a reader of a log knows."""


def schemas(catalogue: Catalogue) -> dict[str, int]:
    """The newest schema number that can be read, by type name."""
    return {name: kind.schema_number for name, kind in catalogue.items()}
