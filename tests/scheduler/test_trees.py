"""Whatever a job leaves is removed: no pipe is waited for, no depth is too deep."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scheduler.executors import trees
from scheduler.executors.directories import make_directory, remove_directory
from scheduler.executors.local import LocalExecutor
from scheduler.executors.trees import remove_tree
from scheduler.workspaces.attempt_folder import AttemptFolders
from tests.kit.waiting import soon

DEEP = 1_500  # more than Python recurses, and than a process may have open files
_DEEPEN = f"""
import os, sys
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
for _ in range({DEEP}):
    os.mkdir("d")
    os.chdir("d")
"""
MAKE = {
    "a pipe": "mkfifo $1",
    "a file": "touch $1",
    "a link": "ln -s /nowhere $1",
    "a link to a directory": "mkdir precious; touch precious/file; ln -s $PWD/precious $1",
    "a tree": "mkdir -p $1/a/b $1/c; touch $1/a/b/file; mkfifo $1/a/pipe; ln -s a $1/link",
    "a locked tree": "mkdir -p $1/a/b; touch $1/a/b/file; chmod 0 $1/a/b; chmod 0 $1/a; chmod 0 $1",
    "a deep tree": f"exec {sys.executable} -c '{_DEEPEN}' $1",
}


def make(how: str, path: Path) -> None:
    subprocess.run(["bash", "-c", MAKE[how], "make", str(path)], check=True, cwd=path.parent)


@pytest.fixture(params=MAKE)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_everything_is_removed_and_nothing_beside_it(tmp_path: Path, how: str) -> None:
    make(how, tmp_path / "left")
    beside = set(os.listdir(tmp_path)) - {"left"}

    remove_tree(tmp_path / "left")
    remove_tree(tmp_path / "left")

    assert set(os.listdir(tmp_path)) == beside
    assert "precious" not in beside or (tmp_path / "precious" / "file").exists()


def test_one_that_is_not_root_removes_what_it_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    # All by relative names: another user may not reach this place by a path.
    code = """
import os
from pathlib import Path
from scheduler.executors.trees import remove_tree

if os.getuid() == 0:
    os.setuid(65534)
os.makedirs("left/a/b")
Path("left/a/b/file").touch()
for locked in ("left/a/b", "left/a", "left"):
    os.chmod(locked, 0)
remove_tree(Path("left"))
"""
    env = {"PYTHONPATH": str(Path(trees.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can leave what another cannot remove")
def test_what_stays_is_reported_and_the_rest_is_gone(tmp_path: Path) -> None:
    for folder in ("left", "left/a", "left/a/b", "left/c"):
        (tmp_path / folder).mkdir()
    (tmp_path / "left" / "c" / "file").touch()
    for folder in (".", "left", "left/a", "left/a/b"):
        os.chown(tmp_path / folder, 65534, 65534)  # not c and its file
    code = """
import os
from pathlib import Path
from scheduler.executors.trees import remove_tree

os.setuid(65534)
try:
    remove_tree(Path("left"))
except PermissionError as error:
    print(error.strerror, os.listdir("left"))
"""
    env = {"PYTHONPATH": str(Path(trees.__file__).parents[2])}
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=env, capture_output=True
    )
    assert told.stdout.decode() in (
        "Permission denied ['c']\n",
        "Operation not permitted ['c']\n",
    )


def test_what_replaces_the_folder_of_an_attempt_is_removed(tmp_path: Path, how: str) -> None:
    folders = AttemptFolders(tmp_path / "attempts")
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "0-kept-1").mkdir()
    for name in ("crew-a-1", "~left"):
        (tmp_path / name).mkdir()
        make(how, tmp_path / name / "made")
        (tmp_path / name / "made").rename(tmp_path / "attempts" / name)

    folders.discard("crew-a", 1)
    assert sorted(os.listdir(tmp_path / "attempts")) == ["0-kept-1", "~left"]
    folders.sweep([("0-kept", 1)])
    assert os.listdir(tmp_path / "attempts") == ["0-kept-1"]


def test_what_replaces_the_files_of_an_attempt_is_removed(tmp_path: Path, how: str) -> None:
    root = tmp_path / "spool"
    (root / "job").mkdir(parents=True)
    make(how, root / "job" / "1")
    (tmp_path / "other").mkdir()
    make(how, tmp_path / "other" / "left")
    (tmp_path / "other" / "left").rename(root / "~left")

    async def life() -> None:
        executor = LocalExecutor(root)
        await executor.sweep([("job", 1)])
        assert os.listdir(root) == ["job"]
        executor.remove(root / "job" / "1")
        await soon(lambda: not any(name.startswith("~") for name in os.listdir(root)))
        assert not os.path.lexists(root / "job" / "1")
        await executor.close()

    asyncio.run(life())


def test_a_folder_is_made_while_that_of_an_earlier_attempt_is_removed(tmp_path: Path) -> None:
    """The job's folder is removed once it is empty, which it is between two attempts."""
    over = threading.Event()
    job_folders = threading.Lock()

    def remove() -> None:
        while not over.is_set():
            remove_directory(tmp_path / "~removed", tmp_path / "job", job_folders)

    removers = [threading.Thread(target=remove) for _ in range(2)]
    for remover in removers:
        remover.start()
    try:
        for attempt in range(2_000):
            make_directory(tmp_path / "job" / str(attempt), job_folders)
            os.rmdir(tmp_path / "job" / str(attempt))
    finally:
        over.set()
        for remover in removers:
            remover.join()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file" / "1", job_folders)
