"""The command that runs gitoma."""

import shlex


def command_of(text: str) -> tuple[str, ...]:
    """The configured program and its first arguments, split as a shell does."""
    return tuple(shlex.split(text)) or ("gitoma",)
