"""The header that marks repeated requests as one."""

from typing import Annotated

from fastapi import Header

from domain.idempotency import fingerprint
from domain.job.commands import IdempotencyKey

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key and body give the same answer and no second job.",
    ),
]


def key_of(principal: str, key: str | None, *parts: bytes) -> IdempotencyKey | None:
    """The idempotency key of a request, with the fingerprint of the request; None if it has
    no key.
    """
    return None if key is None else IdempotencyKey(principal, key, fingerprint(*parts))
