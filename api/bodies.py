"""What request bodies are made of: texts that every store, process and stream can carry."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


def _carriable(text: str) -> str:
    if "\0" in text:
        raise ValueError("A NUL character cannot be part of this.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("A lone surrogate is not a character.") from None
    return text


Text = Annotated[str, AfterValidator(_carriable)]
"""Text without NUL and lone surrogates."""


class Body(BaseModel):
    """A request body: camelCase and snake_case both work, unknown keys are passed over
    (`contracts/codeplane.md` §1).
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)
