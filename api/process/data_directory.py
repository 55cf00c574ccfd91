"""The content of a data directory: which entries are files and which are directories."""

from pathlib import Path

from domain.errors import CrewlogError

DIRECTORIES = ("artifacts", "attempts", "credentials", "sealed", "spool", "templates")
FILES = (
    *(f"{name}{part}" for name in ("log.db", "views.db") for part in ("", "-wal", "-shm")),
    "owner.lock",
    "server.json",
    "session.key",
    "token",
    "worker.key",
)


class Misplaced(CrewlogError):
    """An entry of the data directory is not of the kind that the server needs."""

    exit_code = 2


def check_kinds(data: Path) -> None:
    """Raises Misplaced, with a sentence, if a file is in the place of a directory or the reverse,
    or if a link leads nowhere. Makes nothing.
    """
    if data.exists() and not data.is_dir():
        raise Misplaced(
            f"The data directory {data} is a file. Choose another with --data, or move it away."
        )
    for names, is_right, wanted in (
        (DIRECTORIES, Path.is_dir, "a directory"),
        (FILES, Path.is_file, "a file"),
    ):
        for name in names:
            path = data / name
            if path.is_symlink() and not path.exists():
                raise Misplaced(f"{path} is a link that leads nowhere. Repair it, or remove it.")
            if path.exists() and not is_right(path):
                raise Misplaced(
                    f"{path} must be {wanted}, but is not. Move it away, and start again."
                )
