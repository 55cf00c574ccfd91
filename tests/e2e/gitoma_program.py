"""A stand-in for the gitoma program: prints how it was started as JSON, and writes a state file.

If there is a directory for state files, a `run` works until it is killed, or until the file
`DIRECTORY/crash` makes it end as after a crash.
"""

import json
import os
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path


def main() -> None:
    directory = os.environ.get("STATE_DIRECTORY")
    if directory and sys.argv[1] != "analyze":
        leave_state(Path(directory), "WORKING" if sys.argv[1] == "run" else "DONE")
    start = {
        "argv": sys.argv[1:],
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "stdin_is_null": os.path.samestat(os.fstat(0), os.stat(os.devnull)),
        "merged": os.path.samestat(os.fstat(1), os.fstat(2)),
        "leads_its_group": os.getpgid(0) == os.getpid() == os.getsid(0),
        "terminal": stat.S_ISCHR(os.fstat(1).st_mode),
    }
    print(json.dumps(start), flush=True)
    if directory and sys.argv[1] == "run":
        while not Path(directory, "crash").exists():
            time.sleep(0.05)
        sys.exit(1)


def leave_state(directory: Path, phase: str) -> None:
    """As gitoma does: the file does not name the job."""
    owner, name = sys.argv[2].removesuffix("/").removesuffix(".git").split("/")[3:]
    state = {
        "owner": owner,
        "name": name,
        "phase": phase,
        "pid": os.getpid(),
        "last_heartbeat": datetime.now(UTC).isoformat(),
        "exit_clean": phase == "DONE",
    }
    draft = directory / f".{name}.draft"
    draft.write_text(json.dumps(state))
    draft.replace(directory / f"{owner}__{name}.json")


if __name__ == "__main__":
    main()
