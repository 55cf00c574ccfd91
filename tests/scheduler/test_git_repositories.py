"""Which repositories are allowed, and where work in them begins."""

import asyncio
from pathlib import Path

import pytest

from domain.errors import CrewlogError
from scheduler.git.command import Git
from scheduler.git.repositories import (
    Base,
    EmptyRepository,
    NotARepository,
    Repositories,
    Repository,
    RepositoryNotAllowed,
    UnknownRevision,
)
from tests.scheduler.git_world import make_repository, sh


def find(path: Path | str, *allowed: Path | str) -> Repository:
    return asyncio.run(Repositories(Git(), [str(each) for each in allowed]).find(str(path)))


def base(path: Path, wanted: str = "") -> Base:
    async def life() -> Base:
        repositories = Repositories(Git(), [str(path)])
        return await repositories.base(await repositories.find(str(path)), wanted)

    return asyncio.run(life())


def test_a_path_allows_itself_and_what_is_below_it(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "a" / "repo", "mkdir -p sub/deep; touch sub/deep/file")
    expected = Repository(str(path), str(path / ".git"), False, "sha1")
    assert find(path, path) == expected
    assert find(path, tmp_path) == expected
    assert find(path / "sub" / "deep", path) == expected


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("*/repo", True),
        ("*", True),
        ("a/re?o", True),
        ("**/repo", True),
        ("**/x/repo", False),
        ("r*", False),
        ("a/repo/sub", False),
        ("a/rep", False),
        ("*/*/*/*", False),
    ],
)
def test_globs_stand_for_parts_of_names(tmp_path: Path, pattern: str, allowed: bool) -> None:
    path = make_repository(tmp_path / "a" / "repo")
    if allowed:
        assert find(path, tmp_path / pattern).path == str(path)
    else:
        with pytest.raises(RepositoryNotAllowed, match="Add it to the setting"):
            find(path, tmp_path / pattern)


def test_nothing_is_said_about_a_path_that_is_not_allowed(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    (tmp_path / "allowed").mkdir()
    sentences = set()
    for name in ("repo", "nothing", "repo/file"):
        with pytest.raises(RepositoryNotAllowed) as refusal:
            find(tmp_path / name, tmp_path / "allowed")
        sentences.add(str(refusal.value).replace(str(tmp_path / name), ""))
    assert len(sentences) == 1


def test_symlinks_do_not_lead_out(tmp_path: Path) -> None:
    outside = make_repository(tmp_path / "outside")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(outside)
    (allowed / "folder").mkdir()
    (allowed / "folder" / ".git").write_text(f"gitdir: {outside}/.git\n")
    for name in ("link", "folder", "../outside", "link/../outside"):
        with pytest.raises(RepositoryNotAllowed):
            find(f"{allowed}/{name}", allowed)


def test_a_symlink_inside_leads_where_it_points(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "real" / "repo")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find(tmp_path / "link" / "repo", tmp_path / "link").path == str(path)


def test_a_folder_of_a_larger_repository_needs_that_to_be_allowed(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "mkdir sub; touch sub/file")
    with pytest.raises(RepositoryNotAllowed, match="belongs to a repository at"):
        find(path / "sub", path / "sub")


def test_a_worktree_of_the_user_is_found_with_its_repository(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "git worktree add -q ../tree -b other")
    found = find(tmp_path / "tree", tmp_path)
    assert (found.path, found.git_dir) == (str(tmp_path / "tree"), str(path / ".git"))


def test_a_bare_repository_is_one(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    sh(tmp_path, "git clone -q --bare repo bare.git")
    path = str(tmp_path / "bare.git")
    assert find(path, tmp_path) == Repository(path, path, True, "sha1")


def test_hashes_of_the_other_kind_are_told(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    sh(tmp_path / "repo", "git init -q --object-format=sha256")
    assert find(tmp_path / "repo", tmp_path).sha == "sha256"


def test_names_that_surprise_are_names(tmp_path: Path) -> None:
    for name in ("with space", "new\nline", "quo'te\"", "-dash", "b\udce9se", "gl*b[x]"):
        path = make_repository(tmp_path / name)
        assert find(path, tmp_path).path == str(path)


def test_what_is_no_repository_is_a_sentence(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    (tmp_path / "empty").mkdir()
    for wrong, sentence in (
        (tmp_path / "empty", "is not a git repository"),
        (tmp_path / "nothing", "is not a folder"),
        (path / "file", "is not a folder"),
        (path / ".git", "inside the '.git' folder"),
        ("relative", "must be absolute"),
        (f"{tmp_path}/nul\0", "must be absolute"),
    ):
        with pytest.raises(NotARepository, match=sentence):
            find(wrong, tmp_path)


def test_branches_are_listed_with_their_commits(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "git branch feature/x; git tag v1")

    async def life() -> None:
        repositories = Repositories(Git(), [str(path)])
        found = await repositories.branches(await repositories.find(str(path)))
        assert [branch.name for branch in found] == ["feature/x", "main"]
        assert {branch.commit for branch in found} == {sh(path, "git rev-parse HEAD")}
        assert all(branch.at > 1_600_000_000 for branch in found)

    asyncio.run(life())


def test_work_begins_at_the_branch_of_origin_then_main_then_master_then_here(
    tmp_path: Path,
) -> None:
    path = make_repository(tmp_path / "repo")
    commit = sh(path, "git rev-parse HEAD")
    sh(path, "git branch -m here")
    assert base(path) == Base("here", commit)
    sh(path, "git branch master")
    assert base(path) == Base("master", commit)
    sh(path, "git branch main")
    assert base(path) == Base("main", commit)
    sh(path, "git branch trunk; git update-ref refs/remotes/origin/trunk HEAD")
    sh(path, "git symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/trunk")
    assert base(path) == Base("trunk", commit)
    sh(path, "git branch -D -q trunk")
    assert base(path) == Base("", commit)  # it exists at origin only


def test_a_wished_base_is_a_branch_a_tag_or_a_commit(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    commit = sh(path, "git rev-parse HEAD")
    sh(path, "git branch other; git tag -a v1 -m v1")
    assert base(path, "other") == Base("other", commit)
    assert base(path, "refs/heads/other") == Base("other", commit)
    assert base(path, "v1") == base(path, commit[:10]) == Base("", commit)
    for wrong in ("nothing", "--all", "-x", "a\0b", "HEAD:file", "a\nb", "@{"):
        with pytest.raises(UnknownRevision, match="has no branch, tag or commit"):
            base(path, wrong)


def test_an_empty_repository_has_a_clear_answer(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    sh(tmp_path / "repo", "git init -q -b main")
    with pytest.raises(EmptyRepository, match="Make a first commit"):
        base(tmp_path / "repo")
    assert issubclass(EmptyRepository, CrewlogError)


def test_a_detached_head_is_a_commit_without_a_branch(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "git checkout -q --detach; git branch -D -q main")
    assert base(path) == Base("", sh(path, "git rev-parse HEAD"))
