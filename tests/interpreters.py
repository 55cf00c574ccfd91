"""Runs the unit suites on every other Python of this machine from 3.11 on, each in its own
environment: ``make interpreters``.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
OLDEST, NEWEST = 11, 19
UNITS = ("tests/domain", "tests/projections", "tests/scheduler", "tests/conformance")


def candidates(minor: int) -> Iterator[Path]:
    """Programs that may be this version: on PATH, and in pyenv's folders."""
    on_path = shutil.which(f"python3.{minor}")
    if on_path is not None:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3"), reverse=True)


def is_python(program: Path, minor: int) -> bool:
    """Whether the program is this version. It is run, because a pyenv shim on PATH may have no
    version behind it.
    """
    ask = "import sys, venv, ensurepip; print(sys.version_info[:2])"
    try:
        run = subprocess.run([program, "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return run.stdout.strip() == f"(3, {minor})"


def found() -> Iterator[tuple[str, Path]]:
    """Every other version, with its program."""
    for minor in range(OLDEST, NEWEST + 1):
        if minor != sys.version_info.minor:
            for program in candidates(minor):
                if is_python(program, minor):
                    yield f"3.{minor}", program
                    break


def main() -> int:
    others = list(found())
    if not others:
        print("No other Python from 3.11 on is here: nothing to do.")
    for version, program in others:
        print(f"Python {version}: {program}", flush=True)
        environment = f".venv-{version}"
        subprocess.run(
            ["make", "setup", f"PYTHON={program}", f"VENV={environment}"], cwd=ROOT, check=True
        )
        python = ROOT / environment / "bin" / "python"
        suites = [str(python), "-m", "pytest", "-n", "2", "--dist", "worksteal", *UNITS]
        code = subprocess.run(suites, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
