"""Templates as people name them on the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

_NOT_FOUND = "Template not found"


@contextmanager
def naming(template: str) -> Iterator[None]:
    """Names this template if the server has none of that id. The server's answers never repeat what
    was sent; here the reader typed it, or a script did and the reader has only this line.
    """
    # The client takes longer to import than some commands take to run.
    from api.commands.client import Rejected

    try:
        yield
    except Rejected as refused:
        if refused.status != 404 or not str(refused).startswith(_NOT_FOUND):
            raise
        guess = str(refused).removeprefix(_NOT_FOUND).removeprefix(".")
        raise Rejected(404, f"There is no template {template!r}.{guess}") from None
