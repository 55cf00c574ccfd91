"""The base of every event: a frozen pydantic model with a stable type name and a schema number.

A type name is ``noun.past_tense``. The log stores this name and never a Python path, so code can be
moved.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

TYPE_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")

Json = dict[str, Any]
"""A JSON object as orjson returns it."""


class Event(BaseModel):
    """A fact. Fields are JSON-native; times are ISO text in UTC, durations whole milliseconds.

    Unknown fields are refused when an event is made, and ignored when it is read.
    """

    # Built at first use: a server needs only a few of them at its start.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    type: ClassVar[str]
    schema_number: ClassVar[int]
    essential: ClassVar[bool]
    """Written even if the disk has hardly any room left. Such events are few, and they free
    room.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, type: str = "", schema: int = 1, essential: bool = False, **_: Any
    ) -> None:
        if not type:
            return
        if not TYPE_NAME.fullmatch(type):
            raise TypeError(f"{type!r} is not a name of the form noun.past_tense.")
        cls.type = type
        cls.schema_number = schema
        cls.essential = essential

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        """Turn the data of an older schema into that of the present one. Pure. Overridden by
        classes whose schema has changed.
        """
        return data

    @classmethod
    def read(cls, data: Json) -> Self:
        """Build from stored data of the present schema. Fields that this version does not
        know are ignored.
        """
        known = cls.model_fields
        return cls.model_validate({k: v for k, v in data.items() if k in known}, strict=False)


Catalogue = Mapping[str, type[Event]]
"""Event classes by their stored names: the types that a reader of a log knows."""


def schemas(catalogue: Catalogue) -> dict[str, int]:
    """The newest schema number that this version can read, by type name."""
    return {name: kind.schema_number for name, kind in catalogue.items()}
