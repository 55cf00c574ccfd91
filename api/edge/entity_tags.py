"""Entity tags are versions of streams (RFC 9110 section 8.8.3). If-Match asks for one of them."""

from typing import Annotated

from fastapi import Header

from domain.errors import PreconditionFailed

IfMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=100,
        description="Only if the job has this version (its ETag).",
        json_schema_extra={"pattern": r'^(?:\*|(?:W/)?"[0-9]{1,18}")$'},
    ),
]


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def version_of(if_match: str | None) -> int | None:
    """The version that If-Match asks for; None for any version. Raises PreconditionFailed if the
    tag is not one that this server issues.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise PreconditionFailed("If-Match is not a version of this job: send its ETag, or '*'.")
    return int(text)
