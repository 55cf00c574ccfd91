"""The command that runs gitoma."""

import shlex


def command_of(text: str) -> tuple[str, ...]:
    """The configured program and its own first arguments, split as a shell would split them."""
    return tuple(shlex.split(text)) or ("gitoma",)
