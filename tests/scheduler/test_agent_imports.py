"""Who imports whom around agents: the server starts without the protocol's library."""

import subprocess
import sys
from pathlib import Path

import scheduler

ROOT = Path(scheduler.__file__).parents[1]
HOST = "scheduler.agents.host"
SCRIPTED = "scheduler.agents.scripted"


def imported(*modules: str, option: str = "-E") -> set[str]:
    """Every module that a fresh interpreter has loaded after these imports."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    argv = [sys.executable, option, "-c", script]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def ours(found: set[str]) -> set[str]:
    return {name for name in found if name.split(".")[0] in ("api", "domain", "projections")} | {
        name for name in found if name.startswith("scheduler.")
    }


def test_the_server_imports_neither_agents_nor_their_protocol() -> None:
    found = imported("api.server", "scheduler.drivers", "scheduler.drivers.contract")
    assert "api.server" in found
    assert {name for name in found if name.split(".")[0] == "acp"} == set()
    assert {name for name in found if name.startswith("scheduler.agents")} == set()


def test_the_host_imports_the_inbox_and_nothing_else_of_ours() -> None:
    found = imported(f"{HOST}.__main__", f"{HOST}.conversation")
    assert "acp" in found
    assert {name for name in ours(found) if not name.startswith("scheduler.agents")} == {
        "scheduler.executors",
        "scheduler.executors.inbox",
        "scheduler.executors.shim",
        "scheduler.executors.shim.directory",
        "scheduler.executors.shim.regular_file",
    }
    assert not any(name.startswith(SCRIPTED) for name in found)


def test_the_agent_is_started_before_the_library_is_imported() -> None:
    assert "acp" not in imported(f"{HOST}.__main__")


def test_the_scripted_agent_needs_the_standard_library_only() -> None:
    found = imported(f"{SCRIPTED}.__main__", option="-S")  # without installed packages
    assert all(name.startswith("scheduler.agents") for name in ours(found))
