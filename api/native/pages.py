"""A page: the answer of every list of the native API."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A page of a list. A list may add fields about the list as a whole."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item]
    cursor: str | None = Field(
        description="Asks for the next page. Null on the last page, and if one page holds all."
    )


CursorOfPage = Annotated[str | None, Query(max_length=4_096, description="From the page before.")]
"""The parameter of a list whose pages end at an id."""


def page(items: Sequence[Any], cursor: str | None = None, **beside: Any) -> Response:
    """The answer of a list: one of its pages. Default: the only one."""
    return json_bytes({"items": items, "cursor": cursor, **beside})
