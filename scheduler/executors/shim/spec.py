"""The spec: what to run."""

# ruff: noqa: SIM105

import os

from scheduler.executors.shim.regular_file import read_regular

LARGEST_SPEC = 64 * 1_048_576  # far more than a system lets a program have


class Spec:
    """The spec, as the server wrote it."""

    __slots__ = ("argv", "cwd", "env", "grace_s", "output_limit", "timeout_s")

    def __init__(self, encoded: bytes) -> None:
        timeout_ms, output_limit, grace_ms, cwd, count, *rest = encoded.split(b"\0")
        self.timeout_s = int(timeout_ms) / 1000
        self.output_limit = int(output_limit)
        self.grace_s = int(grace_ms) / 1000
        self.cwd = cwd
        self.argv = rest[: int(count)]
        self.env = dict(variable.split(b"=", 1) for variable in rest[int(count) :])


def read_spec() -> Spec | None:
    try:
        return Spec(read_regular("spec", LARGEST_SPEC))
    except FileNotFoundError:
        return None


def forget_spec() -> None:
    try:
        os.unlink("spec")
    except FileNotFoundError:
        pass
