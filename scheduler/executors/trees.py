"""Removes what jobs leave, whatever it is and however deep."""

import os
import stat
from pathlib import Path
from secrets import token_hex

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Removes whatever has this name, and all that is in it. Nothing there is opened except
    directories: a pipe would wait. No link is followed. Raises OSError if something stays.
    """
    try:
        if _unlinked(path, None):
            return
        top = _open_folder(path, None)
        try:
            trouble = _emptied(top)
        finally:
            os.close(top)
        if trouble is not None:
            raise trouble
        os.rmdir(path)
    except FileNotFoundError:
        return


def _emptied(top: int) -> OSError | None:
    """Empties an open directory as far as possible. The first error, if any.

    Directories are moved up to it, one after the other: so the depth costs no memory and no
    descriptors, and no process can lead the walk elsewhere.
    """
    trouble = None
    waiting = os.listdir(top)
    while waiting:
        try:
            _remove_entry(top, waiting.pop(), waiting)
        except FileNotFoundError:
            continue
        except OSError as error:
            trouble = trouble or error
    return trouble


def _remove_entry(top: int, name: str, waiting: list[str]) -> None:
    if _unlinked(name, top):
        return
    folder = _open_folder(name, top)
    try:
        for entry in os.listdir(folder):
            if not _unlinked(entry, folder):
                # A directory that may not be written may not be moved.
                _allow(entry, folder)
                moved = token_hex(16)
                os.rename(entry, moved, src_dir_fd=folder, dst_dir_fd=top)
                waiting.append(moved)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _unlinked(name: str | Path, dir_fd: int | None) -> bool:
    """False: it is a directory, or must not be removed."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except (IsADirectoryError, PermissionError):
        return False
    return True


def _open_folder(name: str | Path, dir_fd: int | None) -> int:
    _allow(name, dir_fd)
    return os.open(name, _FOLDER, dir_fd=dir_fd)


def _allow(name: str | Path, dir_fd: int | None) -> None:
    """Trees without write permission are common, such as the caches of compilers."""
    mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
        os.chmod(name, 0o700, dir_fd=dir_fd)
