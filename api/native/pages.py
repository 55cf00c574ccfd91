"""A page: what every list of the native API answers with."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A page of a list. A list may say more beside it, of the list as a whole."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item]
    cursor: str | None = Field(
        description="Asks for the next page. Null on the last one, and where one page has all."
    )


def page(items: Sequence[Any], cursor: str | None = None, **beside: Any) -> Response:
    """The answer of a list: one of its pages, by itself the only one."""
    return json_bytes({"items": items, "cursor": cursor, **beside})
