"""The browser for tests of the page: the system's Chromium, found or installed."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Options of Chromium: allow root, no screen, requests only to the server."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_INSTALL_S = 600


class NoBrowser(AssertionError):
    """No browser was found. The message says what to install."""


def chromium() -> str:
    """The path of Chromium: CREWLOG_CHROMIUM, else the first on PATH, else Debian's, which is
    installed now.

    Raises NoBrowser if there is none and it cannot be installed.
    """
    configured = os.environ.get("CREWLOG_CHROMIUM")
    if configured:
        if not os.access(configured, os.X_OK):
            raise NoBrowser(f"CREWLOG_CHROMIUM names {configured!r}, which is no program.")
        return configured
    found = _on_path() or (_installed() if _may_install() else None)
    if found is None:
        raise NoBrowser(
            "The tests of the page need Chromium: install it (on Debian or Ubuntu, "
            "'apt-get install chromium') or name one in CREWLOG_CHROMIUM."
        )
    return found


def _on_path() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def _may_install() -> bool:
    return os.geteuid() == 0 and Path("/etc/debian_version").exists()


def _installed() -> str | None:
    # Another test worker may be installing it, and apt's own lock would make one of them fail.
    with (Path(tempfile.gettempdir()) / "chromium-for-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _on_path() or _install()


def _install() -> str | None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(
            ["apt-get", "-qq", *arguments],
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSTALL_S,
            check=False,
        )
    return _on_path()
