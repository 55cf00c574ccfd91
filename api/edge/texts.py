"""Types of request bodies: texts that every store, process and stream can carry."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function


def _carriable(text: str) -> str:
    if "\0" in text:
        raise ValueError("A NUL character is not allowed here.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("A lone surrogate is not a character.") from None
    return text


class _Carriable:
    """Put it last in `Annotated`, so that limits of length are checked and reported first."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(_carriable, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"pattern": r"^[^\x00]*$", **handler(schema)}


CARRIABLE = _Carriable()
"""Refuses NUL and lone surrogates in a text."""


class Body(BaseModel):
    """A request body. camelCase and snake_case both work; unknown keys are ignored
    (`contracts/codeplane.md` §1).
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)
