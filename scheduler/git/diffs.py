"""Diffs between two trees: the list of files, and the hunks of one file a page at a time.

Names and lines are fit for JSON: a byte that is not UTF-8 is shown as an escape such as
``\\udce9``. Unidiff reads the lines of one page, not the whole patch, so a patch of any length
costs memory for its bytes only.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unidiff.patch import PatchSet

from domain.errors import CrewlogError, carriable
from scheduler.git.objects import Objects

SHOWN = 1_000_000
"""Bytes of the longest file whose lines are shown."""

_STATUS = {
    "A": "added",
    "C": "copied",
    "D": "deleted",
    "M": "modified",
    "R": "renamed",
    "T": "type_changed",
}
_NO_MODE = "000000"
_SUBMODULE = "160000"
_DIFF = (
    "diff-tree",
    "-r",
    "-z",
    "-M",
    "--no-ext-diff",
    "--no-textconv",
    "--full-index",
    "--no-abbrev",
)
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)", re.DOTALL)


class FileNotInDiff(CrewlogError):
    """The diff has no file of this name."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """What changed of one file."""

    path: str
    status: str
    """added, copied, deleted, modified, renamed or type_changed."""
    renamed_from: str | None
    added: int | None
    """Lines; None if the file is binary."""
    removed: int | None
    binary: bool
    old_mode: str | None
    """Such as ``100755``, ``120000`` for a symlink, ``160000`` for a submodule; None: no file."""
    new_mode: str | None
    size: int | None
    """Bytes of the file as it is now, or was before it was deleted; None for a submodule."""


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of the files in a diff, with sums over the whole diff."""

    files: tuple[FileChange, ...]
    total: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    """context, added or removed."""
    old: int | None
    """Its number in the old file, from 1."""
    new: int | None
    text: str
    """Without its line break."""
    ends: bool = True
    """False if the file ends here without a line break."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """A hunk, with those of its lines that are on the page. Its numbers are those of all of it."""

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    section: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """A page of the lines in the diff of one file."""

    hunks: tuple[Hunk, ...]
    total: int
    """Lines in all hunks."""
    next_offset: int | None
    """Where the next page begins; None: this is the last."""
    hidden: str | None = None
    """Why no lines are shown, as a sentence; None if they are."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of a diff, as git tells it."""

    path: bytes
    source: bytes | None
    status: str
    modes: tuple[str, str]
    blobs: tuple[str, str]
    added: int | None = None
    removed: int | None = None

    @property
    def newest(self) -> int:
        return 0 if self.modes[1] == _NO_MODE else 1


class Diffs:
    """The diffs of one repository. Trees and commits are given by their whole hashes."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def files(self, old: str, new: str, *, offset: int = 0, limit: int = 500) -> Changes:
        """The files from the one at `offset` on, at most `limit`, in git's order. GitFailed."""
        told = await self._objects.run(*_DIFF, "--raw", "--numstat", old, new)
        entries = await asyncio.to_thread(lambda: list(_entries(told.out)))
        page = entries[offset : offset + limit]
        sizes = await self._sizes([each.blobs[each.newest] for each in page])
        return Changes(
            tuple(_change(each, size) for each, size in zip(page, sizes, strict=True)),
            len(entries),
            sum(each.added or 0 for each in entries),
            sum(each.removed or 0 for each in entries),
        )

    async def hunks(
        self, old: str, new: str, path: str, *, offset: int = 0, limit: int = 1_000
    ) -> FileDiff:
        """The lines of the file at `path`, as `files` names it, from `offset` on.

        Files over 1 MB and binary ones are not shown. Raises FileNotInDiff, GitFailed.
        """
        told = await self._objects.run(*_DIFF, "--raw", old, new)
        entry = await asyncio.to_thread(_named, told.out, path)
        if entry is None:
            raise FileNotInDiff(f"{path} is not in this diff.")
        sizes = await self._sizes(entry.blobs)
        if max(size or 0 for size in sizes) > SHOWN:
            return FileDiff((), 0, None, "The file is larger than 1 MB.")
        patch = await self._patch(entry)
        if b"\nBinary files " in b"\n" + patch:
            return FileDiff((), 0, None, "The file is binary.")
        return await asyncio.to_thread(_page, patch, offset, limit)

    async def _patch(self, entry: _Entry) -> bytes:
        """The patch of the two files. They are given a name of ours, so that no name of theirs can
        be taken for a line of the patch. What comes before the first hunk is left out.
        """
        trees = [
            await self._objects.run(
                "mktree",
                "--missing",
                "-z",
                keep_objects=False,
                data=b"" if mode == _NO_MODE else _leaf(mode, blob),
            )
            for mode, blob in zip(entry.modes, entry.blobs, strict=True)
        ]
        told = await self._objects.run(
            "diff-tree",
            "-p",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-renames",
            trees[0].text,
            trees[1].text,
            keep_objects=False,
        )
        start = told.out.find(b"\n@@ ")
        return told.out[start + 1 :] if start >= 0 else told.out

    async def _sizes(self, blobs: Sequence[str]) -> list[int | None]:
        """The sizes in bytes; None for what is no blob of this repository."""
        if not blobs:
            return []
        told = await self._objects.run(
            "cat-file",
            "--batch-check=%(objecttype) %(objectsize)",
            data="".join(f"{blob}\n" for blob in blobs).encode(),
        )
        lines = told.text.split("\n")
        return [int(line[5:]) if line.startswith("blob ") else None for line in lines]


def _leaf(mode: str, blob: str) -> bytes:
    kind = "commit" if mode == _SUBMODULE else "blob"
    return f"{mode} {kind} {blob}\tfile\0".encode()


def _entries(out: bytes) -> Iterator[_Entry]:
    """The files of an answer with ``--raw``, and ``--numstat`` after it if that was asked for."""
    fields = iter(out.split(b"\0")[:-1])
    raw: list[tuple[str, tuple[str, str], tuple[str, str], bytes | None, bytes]] = []
    counts: dict[bytes, tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(b":"):
            old_mode, new_mode, old, new, status = field[1:].decode().split(" ")
            source = next(fields) if status[0] in "RC" else None
            raw.append((status[0], (old_mode, new_mode), (old, new), source, next(fields)))
        else:
            added, removed, name = field.split(b"\t", 2)
            if not name:
                next(fields)  # where it was renamed from
                name = next(fields)
            counts[name] = (_count(added), _count(removed))
    for status, modes, blobs, source, path in raw:
        yield _Entry(path, source, status, modes, blobs, *counts.get(path, (None, None)))


def _count(number: bytes) -> int | None:
    return None if number == b"-" else int(number)


def _named(out: bytes, path: str) -> _Entry | None:
    return next((each for each in _entries(out) if _text(each.path) == path), None)


def _change(entry: _Entry, size: int | None) -> FileChange:
    old, new = (None if mode == _NO_MODE else mode for mode in entry.modes)
    return FileChange(
        path=_text(entry.path),
        status=_STATUS.get(entry.status, "modified"),
        renamed_from=None if entry.source is None else _text(entry.source),
        added=entry.added,
        removed=entry.removed,
        binary=entry.added is None,
        old_mode=old,
        new_mode=new,
        size=size,
    )


def _text(name: bytes) -> str:
    return carriable(name.decode(errors="surrogateescape"))


def _page(patch: bytes, offset: int, limit: int) -> FileDiff:
    """The hunks of a patch that begins with its first one."""
    hunks: list[Hunk] = []
    position = 0  # of the next line among those of all hunks
    lines = patch.split(b"\n")[:-1]
    at = 0
    while at < len(lines) and (header := _HUNK.match(lines[at])):
        at += 1
        first, old, new = at, int(header[1]), int(header[3])
        left = [int(count or b"1") for count in (header[2], header[4])]
        whole = (old, left[0], new, left[1], _text(header[5]))
        begin, start = None, (old, new)
        end = at
        while at < len(lines) and (any(left) or lines[at].startswith(b"\\")):
            kind = lines[at][:1]
            if kind != b"\\":
                if position == offset or (position > offset and at == first):
                    begin, start = at, (old, new)
                old, new = old + (kind != b"+"), new + (kind != b"-")
                left = [left[0] - (kind != b"+"), left[1] - (kind != b"-")]
                position += 1
            at += 1
            if position <= offset + limit:
                end = at
        if begin is not None and begin < end:
            hunks.append(Hunk(*whole, _read(lines[begin:end], start)))
    after = offset + limit
    return FileDiff(tuple(hunks), position, after if after < position else None)


def _read(lines: Sequence[bytes], start: tuple[int, int]) -> tuple[Line, ...]:
    """The lines of a hunk, or of a part that begins at these numbers."""
    old = sum(line[:1] in (b" ", b"-") for line in lines)
    new = sum(line[:1] in (b" ", b"+") for line in lines)
    body = b"\n".join(lines).decode(errors="surrogateescape")
    head = f"--- a/file\n+++ b/file\n@@ -{start[0]},{old} +{start[1]},{new} @@\n"
    kinds = {" ": "context", "+": "added", "-": "removed"}
    read: list[Line] = []
    for line in PatchSet(f"{head}{body}\n")[0][0]:
        if line.line_type == "\\":
            before = read[-1]
            read[-1] = Line(before.kind, before.old, before.new, before.text, ends=False)
        else:
            text = carriable(line.value.removesuffix("\n"))
            read.append(Line(kinds[line.line_type], line.source_line_no, line.target_line_no, text))
    return tuple(read)
