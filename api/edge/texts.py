"""What request bodies are made of: texts that every store, process and stream can carry."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function


def _carriable(text: str) -> str:
    if "\0" in text:
        raise ValueError("A NUL character cannot be part of this.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("A lone surrogate is not a character.") from None
    return text


class _Carriable:
    """Stands last in `Annotated`, so that limits of length are checked, and named, first."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(_carriable, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"pattern": r"^[^\x00]*$", **handler(schema)}


CARRIABLE = _Carriable()
"""Makes a text one without NUL and lone surrogates."""


class Body(BaseModel):
    """A request body: camelCase and snake_case both work, unknown keys are passed over
    (`contracts/codeplane.md` §1).
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)
