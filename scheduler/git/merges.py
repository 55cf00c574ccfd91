"""Merges beside every checkout.

The merge is a tree, then a commit, then one compare-and-swap of the branch: a crash before the swap
leaves the old state and some objects that git collects later, and after it the new one.

If the target branch is checked out, its files must move with it. Then the swap is prepared first:
git holds the lock of the branch, so no push can come between. The files move next, and the swap is
committed last. So a crash leaves either

* the new state: the branch has moved, and files and index did before it; or
* the old branch with files on their way. What was intended was written down before, with the index
  as it was. `settle` then puts the old files back. It touches only files that have their old
  content, or the new one or a beginning of it, so it takes away nothing that was made since.

Nothing is reset. A file of the checkout that is not as the old commit has it stops the merge before
anything is written.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from domain.errors import CrewlogError, carriable
from scheduler.git.command import GitFailed, Identity
from scheduler.git.leftovers import is_beginning
from scheduler.git.locks import locked
from scheduler.git.objects import REFRESH, Objects
from scheduler.git.worktrees import Checkout, checked_job, checkouts

_HEADS = "refs/heads/"
_TRIES = 3
_SHOWN = 1_000_000  # bytes of the longest file whose conflicts are shown
_HUNKS = 200  # conflicts that are shown of one file
_BUSY = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "BISECT_LOG": "a bisect",
}


class Method(StrEnum):
    MERGE = "merge"
    """A commit with two parents."""
    SQUASH = "squash"
    """One commit with all changes."""


@dataclass(frozen=True, slots=True)
class ConflictHunk:
    """One place that both sides changed. `line` is the first line of the conflict, from 1, in the
    file with markers; the texts end with a line break.
    """

    line: int
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file that cannot be merged."""

    path: str
    kind: str
    """As git names it, such as ``CONFLICT (contents)``."""
    hunks: tuple[ConflictHunk, ...]
    """Empty for a binary or large file, and for one that a side deleted or renamed."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a merge would give."""

    target: str
    """The commit of the target branch that was looked at."""
    source: str
    tree: str
    conflicts: tuple[Conflict, ...]
    nothing_new: bool = False
    """The target has all commits of the source already."""

    @property
    def clean(self) -> bool:
        return not self.conflicts


@dataclass(frozen=True, slots=True)
class Merged:
    """The target branch has the changes."""

    commit: str
    before: str
    """The commit that the branch was at; equal to `commit` if there was nothing to merge."""
    checkout: str | None = None
    """The folder whose files have moved on with the branch."""


class MergeConflict(CrewlogError):
    """The changes contradict each other; nothing was changed."""

    def __init__(self, prediction: Prediction) -> None:
        names = [conflict.path for conflict in prediction.conflicts]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        super().__init__(f"There are conflicts in {', '.join(names[:3])}{more}.")
        self.prediction = prediction


class MergeRefused(CrewlogError):
    """The merge is not safe to make; the text says why, and what to do. Nothing was changed."""


class Settled(StrEnum):
    """What became of a merge that was cut off."""

    NOTHING = "nothing"
    """It had not begun, or had ended."""
    FINISHED = "finished"
    UNDONE = "undone"
    LEFT = "left"
    """Somebody has worked in the checkout since, and it stays as it is."""


class _Moved(Exception):
    """Somebody else moved the branch first."""


@dataclass(frozen=True, slots=True)
class _Intent:
    """What is about to happen to a checkout."""

    job: str
    branch: str
    old: str
    new: str
    path: str
    git_dir: str

    @property
    def lock(self) -> Path:
        return Path(self.git_dir) / "index.lock"

    @property
    def mark(self) -> bytes:
        """The content of our lock of the index, by which it is known as ours."""
        return f"crewlog: merge of job {self.job}\n".encode()


@dataclass(frozen=True, slots=True)
class _Moving:
    """A file that differs between two commits."""

    name: bytes
    old_mode: str
    new_mode: str
    new_blob: str

    @property
    def comes(self) -> bool:
        return self.old_mode == "000000"

    @property
    def goes(self) -> bool:
        return self.new_mode == "000000"


class Merges:
    """The merges into the branches of one repository."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._git = objects.git
        self._repository = objects.repository
        self._folder = objects.folder / "jobs"

    async def predict(self, target: str, source: str) -> Prediction:
        """What merging `source`, any revision, into the branch `target` would give. Changes
        nothing. Raises MergeRefused if one of them does not exist, GitFailed.
        """
        old = await self._commit(_HEADS + target, f"The branch '{target}'")
        return await self._predict(old, await self._commit(source, f"'{source}'"))

    async def merge(
        self,
        job: str,
        target: str,
        source: str,
        *,
        message: str,
        author: Identity,
        method: Method = Method.MERGE,
    ) -> Merged:
        """Merge `source`, any revision, into the branch `target`.

        Raises MergeConflict, MergeRefused, GitFailed. After each of them everything is as before.
        """
        async with locked(self._objects.folder / "lock"):
            await self._settle(job)
            for _ in range(_TRIES):
                with suppress(_Moved):
                    return await self._merge(job, target, source, message, author, method)
        raise MergeRefused(f"The branch '{target}' moves all the time. Try again later.")

    async def settle(self, job: str) -> Settled:
        """Finish or undo a merge of this job that was cut off; to be called at start.

        Raises MergeRefused if a file was changed since so that neither can be done, GitFailed.
        """
        async with locked(self._objects.folder / "lock"):
            return await self._settle(job)

    async def _merge(
        self,
        job: str,
        target: str,
        source: str,
        message: str,
        author: Identity,
        method: Method,
    ) -> Merged:
        prediction = await self.predict(target, source)
        old = prediction.target
        if prediction.nothing_new:
            return Merged(old, old)
        if not prediction.clean:
            raise MergeConflict(prediction)
        if method is Method.SQUASH and prediction.tree == await self._objects.tree(old):
            return Merged(old, old)
        places = [each for each in await checkouts(self._git, self._repository) if not each.bare]
        places = [each for each in places if each.branch == target]
        # The tree again, now among the repository's own objects.
        tree = (await self._merge_tree(old, prediction.source, keep_objects=True)).split(b"\0")[0]
        parents = [old] if method is Method.SQUASH else [old, prediction.source]
        commit = await self._objects.run(
            "commit-tree",
            tree,
            *(part for parent in parents for part in ("-p", parent)),
            author=author,
            durable=True,
            data=message.encode(errors="replace").replace(b"\0", b""),
        )
        new = commit.text
        if not places:
            await self._swap(_HEADS + target, old, new, job)
            return Merged(new, old)
        if len(places) > 1:
            raise MergeRefused(
                f"The branch '{target}' is checked out in {len(places)} folders: "
                f"{', '.join(each.path for each in places)}."
            )
        await self._advance(await self._intent(job, target, old, new, places[0]))
        return Merged(new, old, places[0].path)

    async def _predict(self, old: str, source: str) -> Prediction:
        behind = await self._objects.run(
            "merge-base", "--is-ancestor", source, old, ok=(0, 1), keep_objects=False
        )
        if behind.code == 0:
            return Prediction(old, source, await self._objects.tree(old), (), nothing_new=True)
        fields = (await self._merge_tree(old, source, keep_objects=False)).split(b"\0")
        tree = fields[0].decode()
        if b"" not in fields[1:-1]:
            return Prediction(old, source, tree, ())
        end = fields.index(b"", 1)
        entries = _stages(fields[1:end])
        kinds = _kinds(fields[end + 1 : -1])
        conflicts = [
            Conflict(
                _text(name),
                kinds.get(name, "CONFLICT"),
                await self._hunks(tree, name) if stages >= {2, 3} else (),
            )
            for name, stages in entries.items()
        ]
        return Prediction(old, source, tree, tuple(conflicts))

    async def _merge_tree(self, old: str, source: str, *, keep_objects: bool) -> bytes:
        """Git's whole answer: a tree, and if there are conflicts, files and messages."""
        async with self._attributes(old) as folder:
            told = await self._objects.run(
                "merge-tree",
                "--write-tree",
                "-z",
                "--messages",
                old,
                source,
                work_tree=folder,
                keep_objects=keep_objects,
                durable=keep_objects,
                ok=(0, 1),
            )
        return told.out if told.code else told.out.split(b"\0")[0] + b"\0"

    @asynccontextmanager
    async def _attributes(self, commit: str) -> AsyncIterator[str]:
        """A folder with the ``.gitattributes`` of a commit and nothing else: they say which files
        are binary, or merged by union.
        """
        with TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
            index, files = Path(folder, "index"), Path(folder, "files")
            await asyncio.to_thread(files.mkdir)
            await self._objects.run("read-tree", commit, index=index)
            all_files = await self._objects.run("ls-files", "-z", index=index)
            names = [n for n in all_files.fields if n.rpartition(b"/")[2] == b".gitattributes"]
            if names:
                await self._objects.run(
                    "checkout-index",
                    "-z",
                    "--stdin",
                    index=index,
                    work_tree=files,
                    data=b"".join(name + b"\0" for name in names),
                )
            yield str(files)

    async def _hunks(self, tree: str, name: bytes) -> tuple[ConflictHunk, ...]:
        blob = tree.encode() + b":" + name
        size = await self._objects.run("cat-file", "-s", blob, ok=(0, 128), keep_objects=False)
        if size.code or int(size.out) > _SHOWN:
            return ()
        told = await self._objects.run("cat-file", "blob", blob, keep_objects=False)
        if b"\0" in told.out:
            return ()
        return await asyncio.to_thread(_conflict_hunks, told.out)

    async def _commit(self, revision: str, what: str) -> str:
        told = await self._git.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{revision}^{{commit}}",
            git_dir=self._repository.git_dir,
            ok=(0, 1, 128),
        )
        if told.code:
            raise MergeRefused(f"{what} does not exist in {self._repository.path}.")
        return told.text

    async def _swap(self, ref: str, old: str, new: str, job: str) -> None:
        """Move the branch, if it is where it was. Raises _Moved if it is not, GitFailed."""
        try:
            await self._git.run(
                "update-ref", "-m", _reason(job), ref, new, old, git_dir=self._repository.git_dir
            )
        except GitFailed:
            if await self._at(ref) != old:
                raise _Moved from None
            raise

    async def _at(self, ref: str) -> str:
        """The commit of a branch; empty if it does not exist."""
        told = await self._git.run(
            "rev-parse",
            "--verify",
            "--quiet",
            ref,
            git_dir=self._repository.git_dir,
            ok=(0, 1, 128),
        )
        return told.text

    async def _intent(
        self, job: str, branch: str, old: str, new: str, checkout: Checkout
    ) -> _Intent:
        """Raises MergeRefused if the checkout cannot be moved, whatever its files are."""
        path = checkout.path
        if checkout.prunable or not await asyncio.to_thread(os.path.isdir, path):
            raise MergeRefused(
                f"The branch '{branch}' is checked out in {path}, which is not there. Run 'git "
                "worktree prune' if it is gone for good."
            )
        told = await self._git.run(
            "rev-parse", "--path-format=absolute", "--git-common-dir", cwd=path
        )
        if await asyncio.to_thread(os.path.realpath, told.text) != self._repository.git_dir:
            raise MergeRefused(f"{path} belongs to another repository now.")
        git_dir = (await self._git.run("rev-parse", "--absolute-git-dir", cwd=path)).text
        for name, what in _BUSY.items():
            if await asyncio.to_thread(os.path.lexists, os.path.join(git_dir, name)):
                raise MergeRefused(f"{path} is in the middle of {what}. End that first.")
        return _Intent(job, branch, old, new, path, git_dir)

    async def _advance(self, intent: _Intent) -> None:
        """Move a checkout on with its branch."""
        moving = await self._moving(intent.old, intent.new)
        await asyncio.to_thread(_write_down, self._note(intent.job), intent)
        try:
            await asyncio.to_thread(_take_index_lock, intent)
            index = await self._checked(intent, moving)
            async with self._prepared(intent):
                await asyncio.to_thread(_copy_index, index, (self._backup(intent.job),))
                await self._move(intent, index)
                await asyncio.to_thread(_place, index, Path(intent.git_dir))
        except BaseException as error:
            await asyncio.shield(self._settle(intent.job))
            if isinstance(error, GitFailed):
                raise MergeRefused(
                    f"The files in {intent.path} could not be moved on: {error}"
                ) from error
            raise
        await asyncio.to_thread(self._clear, intent)

    async def _checked(self, intent: _Intent, moving: Sequence[_Moving]) -> Path:
        """A copy of the checkout's index, once all is as the old commit has it."""
        index = self._index(intent.job)
        try:
            await asyncio.to_thread(_copy_index, Path(intent.git_dir, "index"), (index,))
        except FileNotFoundError:
            raise MergeRefused(f"{intent.path} has no index: nothing is checked out.") from None
        run = self._objects.run
        await run(*REFRESH, index=index, work_tree=intent.path, ok=(0, 1))
        staged = await run("diff-index", "--cached", "--quiet", intent.old, index=index, ok=(0, 1))
        changed = await run("ls-files", "-z", "-m", "-d", index=index, work_tree=intent.path)
        if staged.code or changed.out:
            name = f", such as {_text(changed.fields[0])}" if changed.out else ""
            raise MergeRefused(
                f"{intent.path} has '{intent.branch}' checked out and has changes that are not "
                f"committed{name}. Commit or stash them first."
            )
        names = {each.name for each in moving}
        flagged = await run("ls-files", "-z", "-v", index=index)
        for field in flagged.fields:
            if field[2:] in names and field[:1] != b"H":
                raise MergeRefused(
                    f"{_text(field[2:])} in {intent.path} is marked so that git does not look at "
                    "it. Take the mark away first."
                )
        if (other := await asyncio.to_thread(_in_the_way, intent.path, moving)) is not None:
            raise MergeRefused(
                f"{_text(other)} in {intent.path} is in the way of a file that the merge brings. "
                "Move it away first."
            )
        await self._check_filters(intent, moving, index)
        await self._move(intent, index, "--dry-run")
        return index

    async def _move(self, intent: _Intent, index: Path, *options: str) -> None:
        """Move files and index on. Git looks at every file first, and writes only then."""
        await self._objects.run(
            "read-tree",
            *options,
            "-m",
            "-u",
            intent.old,
            intent.new,
            index=index,
            work_tree=intent.path,
            seconds=3_600,
        )

    async def _check_filters(self, intent: _Intent, moving: Sequence[_Moving], index: Path) -> None:
        """A file that a filter makes, such as one of Git LFS, cannot be written: filters are
        programs that the repository names.
        """
        told = await self._objects.run(
            "check-attr",
            "-z",
            "--stdin",
            "filter",
            index=index,
            work_tree=intent.path,
            data=b"".join(each.name + b"\0" for each in moving),
        )
        values = zip(told.fields[0::3], told.fields[2::3], strict=True)
        filtered = [name for name, value in values if value not in (b"unspecified", b"unset")]
        for each in moving:
            if each.name.rpartition(b"/")[2] == b".gitattributes" and not each.goes:
                blob = await self._objects.run("cat-file", "blob", each.new_blob)
                filtered += [each.name] if b"filter=" in blob.out else []
        if filtered:
            raise MergeRefused(
                f"{_text(filtered[0])} is kept through a filter of git, and crewlog runs none. "
                f"Check out another branch in {intent.path}, or merge there yourself."
            )

    @asynccontextmanager
    async def _prepared(self, intent: _Intent) -> AsyncIterator[None]:
        """Hold the lock of the branch, and move it when the block ends well. If this process is
        killed, git sees the end of its input, and gives up. Raises _Moved, GitFailed.
        """
        ref = _HEADS + intent.branch
        async with self._git.start(
            "update-ref", "-m", _reason(intent.job), "--stdin", git_dir=intent.git_dir
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            lines = f"start\nupdate {ref} {intent.new} {intent.old}\nprepare\n"
            process.stdin.write(os.fsencode(lines))
            for said in (b"start: ok\n", b"prepare: ok\n"):
                if await process.stdout.readline() != said:
                    if await self._at(ref) != intent.old:
                        raise _Moved
                    raise GitFailed(f"The branch '{intent.branch}' is locked by another process.")
            yield
            process.stdin.write(b"commit\n")
            if await process.stdout.readline() != b"commit: ok\n":
                raise GitFailed(f"The branch '{intent.branch}' could not be moved.")
            process.stdin.close()
            await process.wait()

    async def _moving(self, old: str, new: str) -> list[_Moving]:
        told = await self._objects.run("diff-tree", "-r", "-z", "--raw", "--no-renames", old, new)
        fields = iter(told.fields)
        found = []
        for field in fields:
            old_mode, new_mode, _, blob, _ = field[1:].decode().split(" ")
            found.append(_Moving(next(fields), old_mode, new_mode, blob))
        return found

    async def _settle(self, job: str) -> Settled:
        intent = await asyncio.to_thread(_read_down, self._note(job))
        if intent is None:
            return Settled.NOTHING
        at = await self._at(_HEADS + intent.branch)
        has = at and await self._objects.run(
            "merge-base", "--is-ancestor", intent.new, at, ok=(0, 1, 128)
        )
        if has and has.code == 0:
            await asyncio.to_thread(self._clear, intent)
            return Settled.FINISHED
        settled = Settled.UNDONE
        if await asyncio.to_thread(self._backup(job).exists):  # else no file has moved
            settled = await self._undo(intent)
        await asyncio.to_thread(self._clear, intent)
        return settled

    async def _undo(self, intent: _Intent) -> Settled:
        """Put the files back that were on their way. If that is refused, the index is free for
        whoever has to put the checkout in order.
        """
        if not await asyncio.to_thread(_holds_index_lock, intent):
            await asyncio.to_thread(_take_index_lock, intent)
        try:
            index = await self._index_before(intent)
            if index is None:
                return Settled.LEFT
            back = await self._to_put_back(intent, index)
        except MergeRefused:
            await asyncio.to_thread(intent.lock.unlink)
            raise
        await asyncio.to_thread(_unlink, intent.path, [each.name for each in back])
        await self._objects.run(
            "checkout-index",
            "--force",
            "--index",
            "-z",
            "--stdin",
            index=index,
            work_tree=intent.path,
            data=b"".join(each.name + b"\0" for each in back if not each.comes),
        )
        await asyncio.to_thread(_place, index, Path(intent.git_dir))
        return Settled.UNDONE

    async def _index_before(self, intent: _Intent) -> Path | None:
        """An index as the checkout had it before; None if somebody has worked with it since."""
        index = self._index(intent.job)
        for commit, source in (
            (intent.old, Path(intent.git_dir, "index")),
            (intent.new, self._backup(intent.job)),
        ):
            await asyncio.to_thread(_copy_index, Path(intent.git_dir, "index"), (index,))
            differs = await self._objects.run(
                "diff-index", "--cached", "--quiet", commit, index=index, ok=(0, 1)
            )
            if not differs.code:
                await asyncio.to_thread(_copy_index, source, (index,))
                return index
        return None

    async def _to_put_back(self, intent: _Intent, index: Path) -> list[_Moving]:
        """The files that have moved. Raises MergeRefused if one was changed since."""
        new = index.with_suffix(".to")
        await self._objects.run("read-tree", intent.new, index=new)
        await self._objects.run(*REFRESH, index=index, work_tree=intent.path, ok=(0, 1))
        away = await self._objects.run(
            "ls-files", "-z", "-m", "-d", index=index, work_tree=intent.path
        )
        moved = frozenset(away.fields)
        moving = await self._moving(intent.old, intent.new)
        back = [each for each in moving if each.comes or each.name in moved]
        brought = frozenset(each.name for each in moving if not each.goes)
        for each in back:
            if await asyncio.to_thread(_is_folder_of, intent.path, each.name, brought):
                continue  # its files are among the others
            if not await is_beginning(self._objects, new, Path(intent.path), each.name):
                raise MergeRefused(
                    f"A merge into {intent.path} was cut off, and {_text(each.name)} was changed "
                    "since. Put that file back as the branch has it, then try again."
                )
        return back

    def _clear(self, intent: _Intent) -> None:
        """The merge is over: let go of the index, then forget what was intended. The backup goes
        first: without it, nothing is put back any more.
        """
        self._backup(intent.job).unlink(missing_ok=True)
        if _holds_index_lock(intent):
            intent.lock.unlink()
        index = self._index(intent.job)
        for path in (index, index.with_suffix(".to"), self._note(intent.job)):
            path.unlink(missing_ok=True)

    def _note(self, job: str) -> Path:
        return self._folder / f"{checked_job(job)}.merge"

    def _index(self, job: str) -> Path:
        return self._folder / f"{checked_job(job)}.index"

    def _backup(self, job: str) -> Path:
        return self._folder / f"{checked_job(job)}.before"


def _reason(job: str) -> str:
    return f"crewlog: merge of job {job}"


def _text(name: bytes) -> str:
    return carriable(name.decode(errors="surrogateescape"))


def _stages(fields: Sequence[bytes]) -> dict[bytes, set[int]]:
    """The sides that each file has: 1 the common one, 2 ours, 3 theirs."""
    found: dict[bytes, set[int]] = {}
    for field in fields:
        facts, _, name = field.partition(b"\t")
        found.setdefault(name, set()).add(int(facts.rpartition(b" ")[2]))
    return found


def _kinds(fields: Sequence[bytes]) -> dict[bytes, str]:
    """The kind of conflict of each file, from git's messages."""
    found: dict[bytes, str] = {}
    rest = iter(fields)
    for count in rest:
        names = [next(rest) for _ in range(int(count))]
        kind = next(rest).decode(errors="replace")
        next(rest)  # the message, for people who read English only
        if kind.startswith("CONFLICT"):
            found |= {name: kind for name in names if name not in found}
    return found


def _conflict_hunks(text: bytes) -> tuple[ConflictHunk, ...]:
    found: list[ConflictHunk] = []
    begin, side = 0, -1
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.startswith(b"<<<<<<< "):
            begin, sides, side = number, ([], []), 0
        elif side == 0 and line.rstrip(b"\r") == b"=======":
            side = 1
        elif side == 1 and line.startswith(b">>>>>>> "):
            ours, theirs = ("".join(_text(each) + "\n" for each in lines) for lines in sides)
            found.append(ConflictHunk(begin, ours, theirs))
            side = -1
            if len(found) == _HUNKS:
                break
        elif side >= 0:
            sides[side].append(line)
    return tuple(found)


def _write_down(path: Path, intent: _Intent) -> None:
    fresh = path.with_suffix(".new")
    with open(fresh, "w") as file:
        json.dump(asdict(intent), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _read_down(path: Path) -> _Intent | None:
    try:
        return _Intent(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def _take_index_lock(intent: _Intent) -> None:
    """Keep git from the index of the checkout, as another git would. Raises MergeRefused."""
    mark = intent.lock.with_name("index.crewlog-lock")
    mark.write_bytes(intent.mark)
    try:
        os.link(mark, intent.lock)  # it is never there without its mark
    except FileExistsError:
        raise MergeRefused(
            f"Git is at work in {intent.path}. If it is not, remove {intent.lock}."
        ) from None
    finally:
        mark.unlink()


def _holds_index_lock(intent: _Intent) -> bool:
    """Whether the lock is there and is ours."""
    try:
        descriptor = os.open(intent.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return file.read(len(intent.mark) + 1) == intent.mark


def _copy_index(index: Path, copies: Sequence[Path]) -> None:
    """Copies with the time of the original: by it git knows which files it must look into."""
    for copy in copies:
        copy.with_name(copy.name + ".lock").unlink(missing_ok=True)
        fresh = copy.with_name(copy.name + ".new")
        shutil.copy2(index, fresh)
        fresh.replace(copy)


def _place(index: Path, git_dir: Path) -> None:
    """Give the checkout an index, while its lock is held."""
    copy = git_dir / "index.crewlog"
    shutil.copy2(index, copy)
    copy.replace(git_dir / "index")


def _in_the_way(folder: str, moving: Sequence[_Moving]) -> bytes | None:
    """A file that no commit has, where the merge brings one; None if there is none."""
    going = {each.name for each in moving if each.goes}
    for each in moving:
        if not each.comes:
            continue
        if os.path.lexists(os.path.join(os.fsencode(folder), each.name)):
            return each.name
        parts = each.name.split(b"/")
        for end in range(1, len(parts)):
            parent = b"/".join(parts[:end])
            path = os.path.join(os.fsencode(folder), parent)
            if parent in going:
                break
            if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
                return parent
    return None


def _is_folder_of(folder: str, name: bytes, brought: frozenset[bytes]) -> bool:
    """Whether there is a folder of this name, with nothing in it but files that the merge brings.
    A file that is put back in its place takes everything away that is in it.
    """
    root = os.fsencode(folder)
    path = os.path.join(root, name)
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    for above, folders, files in os.walk(path):
        links = [each for each in folders if os.path.islink(os.path.join(above, each))]
        for each in (*files, *links):
            if os.path.relpath(os.path.join(above, each), root) not in brought:
                return False
    return True


def _unlink(folder: str, names: Sequence[bytes]) -> None:
    """Remove files, and the folders that are empty then."""
    root = os.fsencode(folder)
    for name in names:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            os.unlink(os.path.join(root, name))
        parent = name.rpartition(b"/")[0]
        while parent:
            try:
                os.rmdir(os.path.join(root, parent))
            except OSError:
                break
            parent = parent.rpartition(b"/")[0]
