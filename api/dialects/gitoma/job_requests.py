"""The requests of gitoma's dispatches, and their validation."""

import re
from typing import Annotated

from fastapi import Path as PathParameter
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from api.edge.texts import CARRIABLE

REPOSITORY = re.compile(
    r"https://github\.com/[A-Za-z0-9][A-Za-z0-9._-]{0,38}/[A-Za-z0-9._-]{1,100}(?:\.git)?/?"
)
BRANCH = re.compile(r"(?!-)[A-Za-z0-9._/-]{1,255}")

_TRUE: list[JsonValue] = [True, 1, "1", "true", "t", "yes", "y", "on"]
_FALSE: list[JsonValue] = [False, 0, "0", "false", "f", "no", "n", "off"]
_EXCLUSIVE: dict[str, JsonValue] = {
    "not": {
        "properties": {"resume": {"enum": _TRUE}, "reset": {"enum": _TRUE}},
        "required": ["resume", "reset"],
    }
}

Flag = Annotated[bool, WithJsonSchema({"enum": [*_TRUE, *_FALSE]})]
"""A lax boolean (`contracts/gitoma.md` §2)."""

Slug = Annotated[
    str, PathParameter(json_schema_extra={"pattern": r"^(?!\.)[A-Za-z0-9._-]{1,100}$"})
]
"""A part of a repository's name, as `StateDirectory.delete` accepts it."""


class AnalyzeRequest(BaseModel):
    """A repository to analyze. Unknown fields are ignored."""

    repo_url: Annotated[
        str,
        Field(max_length=255, json_schema_extra={"pattern": f"^{REPOSITORY.pattern}$"}),
        CARRIABLE,
    ]

    @field_validator("repo_url")
    @classmethod
    def _is_github(cls, url: str) -> str:
        if not REPOSITORY.fullmatch(url):
            raise ValueError(
                "repo_url must be https://github.com/<owner>/<repo>, without credentials"
            )
        return url


class ReviewRequest(AnalyzeRequest):
    integrate: Flag = False


class RunRequest(AnalyzeRequest):
    model_config = ConfigDict(json_schema_extra=_EXCLUSIVE)

    branch: (
        Annotated[
            str,
            Field(max_length=255, json_schema_extra={"pattern": f"^(?:{BRANCH.pattern})?$"}),
            CARRIABLE,
        ]
        | None
    ) = None
    dry_run: Flag = False
    resume: Flag = False
    reset: Flag = False

    @field_validator("branch")
    @classmethod
    def _is_branch(cls, branch: str | None) -> str | None:
        if not branch:
            return None
        if not BRANCH.fullmatch(branch):
            raise ValueError("branch must be a plain branch name of at most 255 characters")
        return branch

    @field_validator("reset")
    @classmethod
    def _not_with_resume(cls, reset: bool, info: ValidationInfo) -> bool:
        if reset and info.data.get("resume"):
            raise ValueError("resume and reset are mutually exclusive")
        return reset
