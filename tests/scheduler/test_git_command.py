"""The one place that runs git: bounded in time, output and words, and nothing is left of it."""

import asyncio
import os
from pathlib import Path

import pytest

from scheduler.git.command import Git, GitFailed, GitMissing, Identity
from tests.kit.processes import is_alive
from tests.kit.waiting import soon
from tests.scheduler.git_world import ENV, make_repository, sh


def program(folder: Path, script: str) -> Git:
    """A git that says its version, and then does what the script says."""
    folder.mkdir()
    path = folder / "git"
    path.write_text(
        f'#!/bin/sh\n[ "$*" = version ] && {{ echo git version 2.40.0; exit; }}\n{script}'
    )
    path.chmod(0o755)
    return Git(f"{folder}:{ENV['PATH']}")


def test_the_words_of_git_are_one_bounded_sentence_without_credentials(tmp_path: Path) -> None:
    git = program(
        tmp_path / "bin",
        "echo 'fatal: cannot read https://user:secret@host.example/x.git' >&2\n"
        "echo 'ssh://token@host.example/y' >&2; yes long words >&2 & sleep 0.01; kill $!; exit 128",
    )
    with pytest.raises(GitFailed) as failure:
        asyncio.run(git.run("fetch"))
    text = str(failure.value)
    assert failure.value.code == 128
    assert text.startswith("git fetch: cannot read https://host.example/x.git ssh://host.example/y")
    assert "secret" not in text
    assert "token" not in text
    assert "\n" not in text
    assert len(text) < 350


def test_output_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="more than 1000 bytes"):
        asyncio.run(program(tmp_path / "bin", "exec yes").run("log", limit=1000))


def test_a_call_that_takes_too_long_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    git = program(tmp_path / "bin", f"sleep 600 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(GitFailed, match="git gc took too long"):
        asyncio.run(git.run("gc", seconds=1))
    assert not is_alive(int((tmp_path / "child").read_text()))


def test_a_cancelled_call_leaves_no_process_even_if_it_ignores_being_told(tmp_path: Path) -> None:
    git = program(
        tmp_path / "bin",
        f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/child;"
        "while :; do wait; done",
    )

    async def life() -> None:
        call = asyncio.create_task(git.run("gc"))
        await soon((tmp_path / "child").exists)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(life())
    assert not is_alive(int((tmp_path / "child").read_text()))


def test_a_missing_git_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GitMissing, match=r"^Git is not installed here\. Install git 2\.38 or"):
        asyncio.run(Git(str(tmp_path)).run("status"))


@pytest.mark.parametrize(
    ("version", "sentence"),
    [("git version 2.37.9", r"Git 2\.37 is too old"), ("hello", "does not say its version")],
)
def test_an_old_git_says_what_to_do(tmp_path: Path, version: str, sentence: str) -> None:
    path = tmp_path / "git"
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    with pytest.raises(GitMissing, match=sentence):
        asyncio.run(Git(f"{tmp_path}:{ENV['PATH']}").run("status"))


def test_the_environment_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("AWS_SECRET", "secret")
    told = asyncio.run(program(tmp_path / "bin", "env").run("x")).text
    names = {line.partition("=")[0] for line in told.splitlines()}
    assert "GIT_DIR" not in names
    assert "AWS_SECRET" not in names
    assert "HOME" not in names
    assert {"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C"} <= set(told.splitlines())


def test_nothing_is_fetched_by_any_transport(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repo")
    other = make_repository(tmp_path / "other")
    for url in (str(other), f"file://{other}", "https://127.0.0.1:9/x", "ssh://127.0.0.1:9/x"):
        with pytest.raises(GitFailed, match="not allowed"):
            asyncio.run(Git().run("fetch", url, git_dir=repository / ".git"))
    with pytest.raises(GitFailed, match="not allowed"):
        asyncio.run(Git().run("fetch", f"ext::touch {tmp_path}/mark", git_dir=repository / ".git"))
    assert not (tmp_path / "mark").exists()


def test_input_and_output_of_any_size_do_not_wait_for_each_other(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    git = program(tmp_path / "bin", "exec cat")
    assert asyncio.run(git.run("x", data=data)).out == data


def test_a_call_that_reads_no_input_is_no_failure(tmp_path: Path) -> None:
    git = program(tmp_path / "bin", "exit 0")
    assert asyncio.run(git.run("x", data=b"x" * 3_000_000)).out == b""


def test_a_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="git cannot start in"):
        asyncio.run(Git().run("status", cwd=tmp_path / "gone"))


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a<b", "a\0b", "..."])
def test_an_identity_that_git_cannot_store_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="needed"):
        Identity(name, "a@example.org")
    with pytest.raises(ValueError, match="needed"):
        Identity("A", name)


def test_progress_comes_line_by_line(tmp_path: Path) -> None:
    lines: list[str] = []
    git = program(tmp_path / "bin", r"printf 'a 1\ra 2\rb\n' >&2")
    asyncio.run(git.run("x", progress=lines.append))
    assert lines == ["a 1", "a 2", "b"]


def test_a_repository_of_the_user_needs_no_configuration_of_ours(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repo")
    before = sh(repository, "cat .git/config; ls .git")
    asyncio.run(Git().run("rev-parse", "HEAD", git_dir=repository / ".git"))
    assert sh(repository, "cat .git/config; ls .git") == before
