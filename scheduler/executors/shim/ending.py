"""Writes the end of the attempt, complete or not at all."""

import os
import time

from scheduler.executors.passing import PASSING
from scheduler.executors.shim.directory import sync_directory
from scheduler.executors.shim.regular_file import NotRegular, open_regular
from scheduler.executors.shim.spool import RETRY_INTERVAL_S

DRAFT = "exit.json.new"


def reserve_exit() -> None:
    """Reserves room for the end, which must be written even if the job has filled the disk."""
    try:
        fd = open_draft()
        os.write(fd, b" " * 512)
        os.close(fd)
    except OSError:
        pass  # it is already full: the end will wait


def open_draft() -> int:
    """Raises OSError."""
    try:
        return open_regular(DRAFT, os.O_WRONLY | os.O_CREAT)
    except NotRegular:
        os.unlink(DRAFT)  # the job has put something else there
        return open_regular(DRAFT, os.O_WRONLY | os.O_CREAT)


def failure(stage: bytes, number: int, what: bytes) -> str:
    """Why nothing ran, as JSON. The server makes a sentence of it."""
    return f'{{"stage":{quoted(stage)},"errno":{number},"what":{quoted(what)}}}'


def write_exit(
    reason: str,
    code: int | None,
    written: int,
    kept: int,
    duration_ms: int,
    error: str = "null",
    others: str = "",
) -> None:
    """Keeps trying while the disk is full: an end counts only once it is on disk.

    `others` has, as members of a JSON object, what of the other channels was written and kept.
    """
    channels = f',"channels":{{{others}}}' if others else ""
    encoded = (
        f'{{"reason":"{reason}","exit_code":{"null" if code is None else code},'
        f'"output_bytes":{written},"kept_bytes":{kept},'
        f'"duration_ms":{duration_ms},"error":{error}{channels}}}\n'
    ).encode()
    while True:
        try:
            fd = open_draft()
            try:
                if os.write(fd, encoded) == len(encoded):
                    os.ftruncate(fd, len(encoded))
                    os.fsync(fd)
                    os.rename(DRAFT, "exit.json")
                    sync_directory()
                    return
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in PASSING:
                return  # the directory is gone or unusable: nobody can be told
        time.sleep(RETRY_INTERVAL_S)


def quoted(text: bytes) -> str:
    """A JSON string, in ASCII."""
    units = text.decode("utf-8", "backslashreplace").encode("utf-16-be")
    codes = (units[at] << 8 | units[at + 1] for at in range(0, len(units), 2))
    return '"' + "".join(map(escaped, codes)) + '"'


def escaped(code: int) -> str:
    return chr(code) if 32 <= code < 127 and code not in b'"\\' else f"\\u{code:04x}"
