"""Diffs between trees: complete lists, pages of lines, and nothing that JSON cannot carry."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from scheduler.git.diffs import SHOWN, Changes, FileDiff, FileNotInDiff, Line
from tests.scheduler.git_world import enter, make_repository, sh


def commits(path: Path) -> tuple[str, str]:
    """The last commit but one, and the last."""
    old, new = sh(path, "git rev-parse HEAD~1 HEAD").split("\n")
    return old, new


def diff(tmp_path: Path, before: str, after: str, *paths: str) -> tuple[Changes, list[FileDiff]]:
    """The diff between what two scripts make, and the lines of some of its files."""
    path = make_repository(tmp_path / "repo", before)
    sh(path, f"{after}\ngit add -A; git commit -q -m second")

    async def life() -> tuple[Changes, list[FileDiff]]:
        world = await enter(path, tmp_path / "root")
        old, new = commits(path)
        changes = await world.diffs.files(old, new)
        shown = [await world.diffs.hunks(old, new, each) for each in paths]
        json.dumps([asdict(changes), *map(asdict, shown)]).encode()
        json.dumps([asdict(changes), *map(asdict, shown)], ensure_ascii=False).encode()
        return changes, shown

    return asyncio.run(life())


def test_every_kind_of_change_is_listed(tmp_path: Path) -> None:
    changes, _ = diff(
        tmp_path,
        "seq 50 > moved; echo x > gone; echo x > file; touch mode; echo a > becomes; "
        "printf 'a\\0' > binary",
        "mv moved to; echo 51 >> to; rm gone; echo y >> file; chmod +x mode; rm becomes; "
        "ln -s file becomes; printf 'a\\0bc' > binary; printf new > new; echo target > 'a b'",
    )
    found = {each.path: each for each in changes.files}
    assert {name: each.status for name, each in found.items()} == {
        "a b": "added",
        "becomes": "type_changed",
        "binary": "modified",
        "file": "modified",
        "gone": "deleted",
        "mode": "modified",
        "new": "added",
        "to": "renamed",
    }
    assert (found["to"].renamed_from, found["to"].added, found["to"].removed) == ("moved", 1, 0)
    assert (found["binary"].binary, found["binary"].added, found["binary"].size) == (True, None, 4)
    assert (found["mode"].old_mode, found["mode"].new_mode) == ("100644", "100755")
    assert found["becomes"].new_mode == "120000"
    assert (found["gone"].new_mode, found["gone"].size) == (None, 2)
    assert (found["new"].old_mode, found["new"].size) == (None, 3)
    assert (changes.total, changes.added, changes.removed) == (8, 5, 2)


def test_names_and_lines_of_any_bytes_are_fit_for_json(tmp_path: Path) -> None:
    odd = [r"latin\351", r"new\nline", r"tab\tx", r"quo\"te", r"b/a/x", r"-dash", r"@@ -1 +1 @@"]
    make = "; ".join(
        f"mkdir -p b/a; printf 'caf\\351 \\r\\f\\342\\200\\250x\\n' > $'{n}'" for n in odd
    )
    names = [r"latin\udce9", "new\nline", "tab\tx", 'quo"te', "b/a/x", "-dash", "@@ -1 +1 @@"]
    changes, shown = diff(tmp_path, "touch x", make, *names)
    assert sorted(each.path for each in changes.files) == sorted(names)
    for each in shown:
        assert each.hunks[0].lines == (Line("added", None, 1, "caf\\udce9 \r\f\u2028x"),)


def test_lines_that_look_like_a_patch_are_lines(tmp_path: Path) -> None:
    old = ["-- a/x", "++ b/x", "@@ -1,2 +3,4 @@", "diff --git a/x b/x", "Binary files a and b"]
    old += ["\\ No newline at end of file", "", " ", "-", "+"]
    text = "\\n".join(line.replace("\\", "\\\\") for line in old)
    _, (shown,) = diff(tmp_path, f"printf '%b' '{text}' > f", "printf 'x' > f", "f")
    lines = shown.hunks[0].lines
    assert [line.text for line in lines if line.kind == "removed"] == old
    assert [(line.text, line.ends) for line in lines if line.kind == "added"] == [("x", False)]
    assert [line.ends for line in lines] == [True] * 9 + [False, False]


def test_pages_are_the_whole_diff_once(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "seq 200 > file")
    sh(path, "sed -i -e '10s/.*/ten/' -e '100d' -e '150,160s/$/x/' file; printf end >> file")
    sh(path, "git commit -q -a -m second")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        old, new = commits(path)
        whole = await world.diffs.hunks(old, new, "file", limit=10_000)
        lines = [line for hunk in whole.hunks for line in hunk.lines]
        assert (whole.total, whole.next_offset, len(whole.hunks)) == (len(lines), None, 4)
        heads = [(h.old_start, h.old_lines, h.new_start, h.new_lines) for h in whole.hunks]
        assert heads == [(7, 7, 7, 7), (97, 7, 97, 6), (147, 17, 146, 17), (198, 3, 197, 4)]
        for limit in (1, 2, 3, 7, 16, len(lines)):
            seen: list[Line] = []
            offset: int | None = 0
            while offset is not None:
                page = await world.diffs.hunks(old, new, "file", offset=offset, limit=limit)
                of_page = [line for hunk in page.hunks for line in hunk.lines]
                assert len(of_page) <= limit
                assert {
                    (h.old_start, h.old_lines, h.new_start, h.new_lines) for h in page.hunks
                } <= (set(heads))
                seen += of_page
                offset = page.next_offset
            assert seen == lines
        past = await world.diffs.hunks(old, new, "file", offset=len(lines) + 5)
        assert (past.hunks, past.total, past.next_offset) == ((), len(lines), None)

    asyncio.run(life())


def test_a_diff_of_300000_lines_comes_in_pages_while_the_loop_goes_on(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "seq 1000 1999 | sed 's/..//' > file")
    sh(path, "yes a | head -300000 > file; git commit -q -a -m second")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        old, new = commits(path)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        page = await world.diffs.hunks(old, new, "file", offset=150_000, limit=100)
        counting.cancel()
        assert turns > 100
        assert page.total == 301_000
        assert page.next_offset == 150_100
        assert [line.new for line in page.hunks[0].lines] == list(range(149_001, 149_101))

    asyncio.run(life())


def test_large_and_binary_files_are_listed_and_not_shown(tmp_path: Path) -> None:
    changes, (large, small, binary) = diff(
        tmp_path,
        "touch x",
        f"yes | head -c {SHOWN + 1} > large; yes | head -c {SHOWN} > small; printf 'a\\0' > binary",
        "large",
        "small",
        "binary",
    )
    assert [each.size for each in changes.files] == [2, SHOWN + 1, SHOWN]
    assert (large.hunks, large.hidden) == ((), "The file is larger than 1 MB.")
    assert (small.hidden, len(small.hunks[0].lines), small.next_offset) == (None, 1000, 1000)
    assert (binary.hunks, binary.hidden) == ((), "The file is binary.")


def test_files_are_paged_with_the_sums_of_all(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "for i in $(seq 100 130); do echo x > f$i; done; git add -A; git commit -q -m second")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        old, new = commits(path)
        page = await world.diffs.files(old, new, offset=30, limit=10)
        assert [each.path for each in page.files] == ["f130"]
        assert (page.total, page.added) == (31, 31)
        assert (await world.diffs.files(old, new, offset=99)).files == ()
        assert (await world.diffs.files(old, old)).total == 0
        with pytest.raises(FileNotInDiff, match="nothing is not in this diff"):
            await world.diffs.hunks(old, new, "nothing")

    asyncio.run(life())


def test_submodules_renames_and_swaps_are_shown(tmp_path: Path) -> None:
    make_repository(tmp_path / "sub")
    _, (sub, moved, swap) = diff(
        tmp_path,
        "seq 50 > moved; echo x > swap",
        "git -c protocol.file.allow=always submodule add -q ../sub; mv moved to; echo 51 >> to; "
        "rm swap; mkdir swap; echo y > swap/in",
        "sub",
        "to",
        "swap",
    )
    assert sub.hunks[0].lines[0].text.startswith("Subproject commit ")
    assert moved.total == 4
    assert [line.text for line in swap.hunks[0].lines] == ["x"]


def test_looking_leaves_no_object_in_the_repository(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "echo two > file; git commit -q -a -m second")
    before = sh(path, "git count-objects")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        old, new = commits(path)
        assert (await world.diffs.hunks(old, new, "file")).total == 2

    asyncio.run(life())
    assert sh(path, "git count-objects") == before
