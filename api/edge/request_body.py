"""A request body that is read to find out who answers, and then given to that application."""

from starlette.types import Message, Receive


async def whole_body(receive: Receive) -> bytes | None:
    """The whole body; None if the client has gone."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


def given_again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body once more, and then passes on what follows."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
