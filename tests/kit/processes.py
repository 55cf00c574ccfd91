"""Processes of the machine, as ``/proc`` shows them."""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process with this number runs. A zombie does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_with(argument: str) -> list[int]:
    """The processes that have this argument."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            argv = (
                Path(entry.path, "cmdline").read_bytes().split(b"\0")
                if entry.name.isdigit()
                else []
            )
        except OSError:
            continue
        if argument.encode() in argv:
            found.append(int(entry.name))
    return found
