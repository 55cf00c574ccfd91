"""The ends of attempts: what a shim has written, or what is said of those that wrote nothing."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from scheduler.executors.contract import Exit, Kept
from scheduler.executors.shim.regular_file import read_regular

_LARGEST_EXIT = 4 * 1_048_576  # an end may name an argument of 128 KiB, escaped


def read_exit(directory: Path) -> Exit | None:
    """The written end; `lost` if no shim has written what is there. Raises NotRegular, OSError."""
    try:
        encoded = read_regular(str(directory / "exit.json"), _LARGEST_EXIT)
    except FileNotFoundError:
        return None
    try:
        return _decode_exit(json.loads(encoded))
    except (ValueError, RecursionError, OverflowError, TypeError, KeyError, AttributeError):
        return lost_exit(directory)


def _decode_exit(end: dict[str, Any]) -> Exit:
    """Raises ValueError, TypeError, KeyError or AttributeError if no shim has written it."""
    error = end["error"]
    others = tuple(Kept(name, *counts) for name, counts in end.pop("channels", {}).items())
    sentence = None if error is None else _sentence(error)
    made = Exit(**{**end, "error": sentence, "others": others})
    counted = [made.output_bytes, made.kept_bytes, made.duration_ms]
    counted += [count for other in others for count in (other.written, other.kept)]
    if made.reason not in _WRITTEN or not all(type(n) is int and 0 <= n <= _MOST for n in counted):
        raise ValueError("No shim ends so.")
    if made.exit_code is not None and not (
        type(made.exit_code) is int and abs(made.exit_code) < 256
    ):
        raise ValueError("No process exits so.")
    return made


def lost_exit(directory: Path) -> Exit:
    """The end of an attempt that began, and whose shim wrote no end. Raises OSError."""
    spool, started = (directory / "spool").stat(), (directory / "started").stat()
    return Exit(
        reason="lost",
        exit_code=None,
        output_bytes=spool.st_size,
        kept_bytes=spool.st_size,
        duration_ms=max(0, (spool.st_mtime_ns - started.st_mtime_ns) // 1_000_000),
        error="The process that watched the job is gone, so nobody knows how it ended.",
    )


def removed_exit() -> Exit:
    """The end of an attempt whose directory is gone."""
    return Exit("lost", None, 0, 0, 0, "Somebody removed the files of the running job.")


def never_began(error: str) -> Exit:
    """The end of an attempt without a process."""
    return Exit("spawn_failed", None, 0, 0, 0, error)


def _sentence(failure: dict[str, Any]) -> str:
    what, number = failure["what"], failure["errno"]
    known, otherwise = _SENTENCES[failure["stage"]]
    return known.get(number, otherwise).format(what=what, why=os.strerror(number))


_WRITTEN = ("exited", "cancelled", "timed_out", "spawn_failed")
_MOST = 2**63 - 1

_CWD_ERRORS = {
    errno.ENOENT: "No such working directory: {what!r}.",
    errno.ENOTDIR: "The working directory is not a directory: {what!r}.",
    errno.EACCES: "No permission to enter the working directory: {what!r}.",
}

_PROGRAM_ERRORS = {
    errno.ENOENT: "No such program: {what!r}.",
    errno.ENOTDIR: "No such program: {what!r}.",
    errno.EACCES: "No permission to run the program, or it is not executable: {what!r}.",
    errno.ENOEXEC: "Not a program that this system can run: {what!r}. A script needs a #! line.",
    errno.E2BIG: "The arguments and environment of the program are too long: {what!r}.",
}

_SENTENCES: dict[str, tuple[dict[int, str], str]] = {
    "process": ({}, "No process could be made for the program {what!r} ({why})."),
    "session": ({}, "No session could be made for the program {what!r} ({why})."),
    "cwd": (_CWD_ERRORS, "The working directory cannot be used: {what!r} ({why})."),
    "program": (_PROGRAM_ERRORS, "The program cannot be run: {what!r} ({why})."),
}
