"""What lies in a data directory, and which of it is a file and which a directory."""

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
    """Something in the data directory is not of the kind that the server needs there."""

    exit_code = 2


def check_kinds(data: Path) -> None:
    """Misplaced, with a sentence, where a file is in the place of a directory, or the reverse, or a
    link leads nowhere. Looks only: nothing is made.
    """
    if data.exists() and not data.is_dir():
        raise Misplaced(
            f"The data directory {data} is a file. Name another with --data, or move it away."
        )
    for names, is_right, wanted in (
        (DIRECTORIES, Path.is_dir, "a directory"),
        (FILES, Path.is_file, "a file"),
    ):
        for name in names:
            path = data / name
            if path.is_symlink() and not path.exists():
                raise Misplaced(f"{path} is a link that leads nowhere. Mend it, or remove it.")
            if path.exists() and not is_right(path):
                raise Misplaced(
                    f"{path} must be {wanted}, and is none. Move it away, and start again."
                )
