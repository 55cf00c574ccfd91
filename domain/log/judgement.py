"""Decides which appends of a batch succeed, one after the other."""

from collections.abc import Callable, Sequence

from domain.errors import VersionConflict
from domain.log.store import Append


def judge(
    batch: Sequence[Append],
    version_of: Callable[[str], int],
    checkpoint_of: Callable[[str], int],
) -> list[VersionConflict | None]:
    """For each append its conflict, or None if it succeeds. Each is judged as if the successful
    ones before it were written.

    The functions return what is committed. Nothing may be committed between this call and the
    write.
    """
    versions: dict[str, int] = {}
    checkpoints: dict[str, int] = {}
    verdicts: list[VersionConflict | None] = []
    for append in batch:
        conflict = _conflict(append, versions, checkpoints, version_of, checkpoint_of)
        verdicts.append(conflict)
        if conflict is None:
            for event in append.events:
                versions[str(event.originator_id)] = event.originator_version
            if append.checkpoint is not None:
                checkpoints[append.checkpoint[0]] = append.checkpoint[1]
    return verdicts


def _conflict(
    append: Append,
    versions: dict[str, int],
    checkpoints: dict[str, int],
    version_of: Callable[[str], int],
    checkpoint_of: Callable[[str], int],
) -> VersionConflict | None:
    if append.checkpoint is not None:
        name, position = append.checkpoint
        reached = checkpoints.get(name)
        if reached is None:
            reached = checkpoint_of(name)
        if position <= reached:
            return VersionConflict(f"checkpoint {name}", position, reached)
    for stream, expected in append.expected.items():
        actual = versions.get(stream)
        if actual is None:
            actual = version_of(stream)
        if actual != expected:
            return VersionConflict(stream, expected, actual)
    return None
