"""The environment that a job gets from the server (`contracts/gitoma.md §5`)."""

import os
import re
from collections.abc import Collection, Mapping

SECRET_SUFFIXES = (
    "_TOKEN",
    "_KEY",
    "_SECRET",
    "_PASSWORD",
    "_PASS",
    "_CREDENTIAL",
    "_CREDENTIALS",
    "_PRIVATE_KEY",
    "_API_KEY",
    "_ACCESS_KEY",
    "_AUTH",
)
"""A variable whose name ends like this, in any case, stays with the server."""

KEPT_SECRETS = frozenset(
    {"GITHUB_TOKEN", "GH_TOKEN", "LM_STUDIO_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"}
)
"""The exceptions, which the programs of jobs cannot work without."""

_OWN_PREFIX = "CREWLOG_"
_OWN_NAMES = frozenset({"GITOMA_API_TOKEN"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)


def valid_name(name: str) -> bool:
    """Whether a job may set a variable of this name: letters, digits and '_', at most 255."""
    return _NAME.fullmatch(name) is not None


def child_environment(
    base: Mapping[str, str],
    extra: Mapping[str, str],
    keep: Collection[str] = KEPT_SECRETS,
    secret_names: Collection[str] = (),
) -> dict[str, str]:
    """The complete environment of a job: `base` without secrets, then `extra`, which was given with
    the job.

    `keep` names exceptions to `SECRET_SUFFIXES`; there are none for the server's own variables
    (`CREWLOG_*`, `GITOMA_API_TOKEN` and `secret_names`). Raises ValueError if `extra` has an
    invalid name, a name that is `CREWLOG_*` or in `secret_names`, or a value that no process can
    have. The error never contains a value.
    """
    own = {name.upper() for name in secret_names}
    env = {
        name: value
        for name, value in base.items()
        if not _is_own(name, own | _OWN_NAMES) and (name in keep or not _looks_secret(name))
    }
    for name, value in extra.items():
        if not valid_name(name):
            raise ValueError("The name of an environment variable is not valid.")
        if _is_own(name, own):
            raise ValueError(f"The environment variable {name} belongs to the server.")
        if not _can_be_passed(value):
            raise ValueError(f"The environment variable {name} has a value no process can have.")
        env[name] = value
    return env


def _is_own(name: str, own: Collection[str]) -> bool:
    return name.upper().startswith(_OWN_PREFIX) or name.upper() in own


def _looks_secret(name: str) -> bool:
    return name.upper().endswith(SECRET_SUFFIXES)


def _can_be_passed(value: str) -> bool:
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False
