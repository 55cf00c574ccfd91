"""What a cut-off checkout left: which files git was about to write there, and which are not its.

A file is git's if it is missing, has the content of the index, or has a beginning of it: git writes
a file from its beginning, so a kill leaves nothing else. So nothing that only exists there is ever
taken for git's.
"""

import asyncio
import os
import stat
from pathlib import Path

from scheduler.git.objects import Objects


async def foreign(objects: Objects, index: Path, folder: Path) -> str | None:
    """A file in `folder` that is neither git's nor ignored, by its name; None if there is none.
    `index` has what is to be there. Raises GitFailed.
    """
    others = await objects.run("ls-files", "-z", "--others", index=index, work_tree=folder)
    for name in others.fields:
        return os.fsdecode(name)
    for name in await _modified(objects, index, folder):
        if not await is_beginning(objects, index, folder, name):
            return os.fsdecode(name)
    return None


async def unfinished(objects: Objects, index: Path, folder: Path) -> list[bytes]:
    """The names of files that are missing or not whole. Raises GitFailed."""
    told = await objects.run(
        "ls-files", "-z", "--modified", "--deleted", "--deduplicate", index=index, work_tree=folder
    )
    return told.fields


async def is_beginning(objects: Objects, index: Path, folder: Path, name: bytes) -> bool:
    """Whether the file is missing, or a beginning of the one in the index."""
    entry = await objects.run("ls-files", "-z", "--stage", "--", name, index=index)
    path = os.path.join(os.fsencode(folder), name)
    if not entry.fields:
        return not await asyncio.to_thread(os.path.lexists, path)
    _, blob, _ = entry.fields[0].partition(b"\t")[0].split(b" ")
    whole = await objects.run("cat-file", "blob", blob, ok=(0, 128))  # 128: a submodule
    return await asyncio.to_thread(_begins, path, whole.out)


async def _modified(objects: Objects, index: Path, folder: Path) -> list[bytes]:
    told = await objects.run(
        "ls-files", "-z", "--modified", "--deduplicate", index=index, work_tree=folder
    )
    return told.fields


def _begins(path: bytes, whole: bytes) -> bool:
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    if stat.S_ISLNK(facts.st_mode):
        return os.readlink(path) == whole
    if not stat.S_ISREG(facts.st_mode):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        return whole.startswith(file.read(len(whole) + 1))
