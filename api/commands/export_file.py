"""Where `crewlog log export` writes to: a file that is there as a whole or not at all, or whatever
else a name stands for.
"""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from domain.errors import CrewlogError

STDIO = Path("-")

_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/self/fd/(\d+)|/dev/std(in|out|err)")
_NUMBERS = {"in": 0, "out": 1, "err": 2}


class FileTrouble(CrewlogError):
    """A file that cannot be read or written."""


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Where to write what is to be at `path`; stdout for ``-``.

    A regular file gets its name, or gives its place, only when all of it is there; so does the one
    that a link leads to. Into a device, a pipe, or what the shell holds open, it is written.
    """
    if path == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = _open_as_it_is(path)
        if descriptor is not None:
            with open(descriptor, "wb") as file:
                yield file
            return
        with _drafted(Path(os.path.realpath(path))) as file:
            yield file
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror}.") from error


def _open_as_it_is(path: Path) -> int | None:
    """What is no regular file, opened for writing; None for one, and for a name that is free."""
    held = _DESCRIPTOR.fullmatch(str(path))
    if held is not None:
        # Opened by its name it would begin at its start, whatever was written to it before.
        number = held[1] or held[2]
        return os.dup(int(number) if number is not None else _NUMBERS[held[3]])
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


@contextmanager
def _drafted(target: Path) -> Iterator[IO[bytes]]:
    # The name is nobody else's and short, whatever the target's is; the mode is 0600: the log tells
    # all that jobs said.
    descriptor, draft = tempfile.mkstemp(prefix=".crewlog-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            yield file
        # A name that is too long is found here at the latest.
        os.replace(draft, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
