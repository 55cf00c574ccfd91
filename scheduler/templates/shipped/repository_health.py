"""The jobs of the template repository-health: one check of a git repository each, and the summary.

A check that finds a problem has done its work and exits with 0; exit code 1 means that it could not
check. Repositories may come from anybody: nothing that a repository configures is run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Finding = dict[str, Any]

_MOST_ITEMS = 50
_LONGEST_ITEM = 300
_WORDS = r"\b(TODO|FIXME|XXX|HACK)\b"
_ORDER = ("ok", "warn", "bad")
_GIT = (
    *("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "core.quotePath=false"),
)
_ENV = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


class CannotLook(Exception):
    """The repository cannot be checked. The text says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--stale-days", type=int, default=90)
    parser.add_argument("--large-kib", type=int, default=1024)
    parser.add_argument("--check", choices=sorted(_CHECKS))
    parser.add_argument("--summary", metavar="DATE")
    options = parser.parse_args()
    try:
        if options.summary is not None:
            result = summary(options.repo, options.summary)
        else:
            git(options.repo, "rev-parse", "--git-dir")
            result = {"check": options.check, **_CHECKS[options.check](options)}
            print(result["headline"])
            print(*result["items"], sep="\n")
    except CannotLook as error:
        sys.exit(str(error))
    Path(os.environ["CREWLOG_RESULT"]).write_text(json.dumps(result))


def git(repo: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """git's stdout. Raises CannotLook if its exit code is not one of `codes`."""
    try:
        ran = subprocess.run(
            [*_GIT, "-C", repo, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **_ENV},
            check=False,
        )
    except FileNotFoundError as error:
        raise CannotLook("The program git is not installed.") from error
    if ran.returncode not in codes:
        problem = ran.stderr.decode("utf-8", "replace").strip()
        raise CannotLook(problem or f"git {arguments[0]} ended with {ran.returncode}.")
    return ran.stdout.decode("utf-8", "replace")


def finding(status: str, headline: str, items: list[str], count: int | None = None) -> Finding:
    return {
        "status": status,
        "headline": headline,
        "count": len(items) if count is None else count,
        "items": [item[:_LONGEST_ITEM] for item in items[:_MOST_ITEMS]],
    }


def has_commits(repo: str) -> bool:
    return bool(git(repo, "rev-parse", "--verify", "--quiet", "HEAD", codes=(0, 1)).strip())


def integrity(options: argparse.Namespace) -> Finding:
    """Every object exists and matches its name."""
    ran = subprocess.run(
        [*_GIT, "-C", options.repo, "fsck", "--full", "--no-dangling", "--no-progress"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **_ENV},
        check=False,
    )
    output = ran.stdout.decode("utf-8", "replace").splitlines()
    # An unborn branch is not damage: it is a repository without commits.
    lines = [line for line in output if not line.startswith("notice:")]
    if ran.returncode != 0:
        return finding("bad", "The repository is damaged.", lines)
    if lines:
        return finding("warn", "git fsck has remarks.", lines)
    return finding("ok", "The repository is intact.", [])


def large_files(options: argparse.Namespace) -> Finding:
    """Files in the current commit that are larger than the limit, largest first."""
    if not has_commits(options.repo):
        return finding("ok", "There are no commits yet.", [])
    entries = git(options.repo, "ls-tree", "-r", "-l", "-z", "--full-tree", "HEAD").split("\0")
    sizes = []
    for entry in filter(None, entries):
        facts, _, path = entry.partition("\t")
        size = facts.split()[3]
        if size.isdigit() and int(size) > options.large_kib * 1024:
            sizes.append((int(size), path))
    sizes.sort(key=lambda found: (-found[0], found[1]))
    items = [f"{path} ({size / 1024:.0f} KiB)" for size, path in sizes]
    if items:
        return finding("warn", f"{len(items)} files over {options.large_kib} KiB.", items)
    return finding("ok", f"No file is larger than {options.large_kib} KiB.", [])


def stale_branches(options: argparse.Namespace) -> Finding:
    """Local and remote branches without a recent commit, oldest first."""
    form = "%(committerdate:unix) %(refname:short)"
    branches = git(options.repo, "for-each-ref", f"--format={form}", "refs/heads", "refs/remotes")
    now = time.time()
    ages = []
    for line in branches.splitlines():
        at, _, name = line.partition(" ")
        days = int((now - int(at)) // 86_400) if at.isdigit() else 0
        if days >= options.stale_days:
            ages.append((days, name))
    ages.sort(key=lambda found: (-found[0], found[1]))
    items = [f"{name} ({days} days)" for days, name in ages]
    if items:
        return finding("warn", f"{len(items)} branches are stale.", items)
    return finding("ok", "No branch is stale.", [])


def todos(options: argparse.Namespace) -> Finding:
    """Markers of unfinished work in the current commit."""
    if not has_commits(options.repo):
        return finding("ok", "There are no commits yet.", [])
    matches = git(
        options.repo, "grep", "-I", "-n", "-P", "-e", _WORDS, "HEAD", "--", ":/", codes=(0, 1)
    )
    items = [line.removeprefix("HEAD:") for line in matches.splitlines()]
    if items:
        return finding("warn", f"{len(items)} lines say TODO, FIXME, XXX or HACK.", items)
    return finding("ok", "No line says TODO, FIXME, XXX or HACK.", [])


def uncommitted(options: argparse.Namespace) -> Finding:
    """Changes that would be lost with the working tree."""
    if git(options.repo, "rev-parse", "--is-bare-repository").strip() == "true":
        return finding("ok", "A bare repository has no working tree.", [])
    changes = git(options.repo, "status", "--porcelain=v1", "--untracked-files=normal")
    items = changes.splitlines()
    if items:
        return finding("warn", f"{len(items)} paths are not committed.", items)
    return finding("ok", "Everything is committed.", [])


_CHECKS: dict[str, Callable[[argparse.Namespace], Finding]] = {
    "integrity": integrity,
    "large-files": large_files,
    "stale-branches": stale_branches,
    "todos": todos,
    "uncommitted": uncommitted,
}


def summary(repo: str, date: str) -> dict[str, Any]:
    """The parents' findings as one result, and as health.md among the artifacts."""
    parents = json.loads(Path(os.environ["CREWLOG_PARENTS"]).read_text())
    findings = [parent["metadata"] for parent in parents if parent.get("metadata")]
    findings.sort(key=lambda found: list(_CHECKS).index(found["check"]))
    status = max((found["status"] for found in findings), key=_ORDER.index, default="ok")
    lines = [f"# Health of {repo}", "", f"{date}: **{status}**", ""]
    lines += ["| check | status | finding |", "|---|---|---|"]
    lines += [f"| {f['check']} | {f['status']} | {f['headline']} |" for f in findings]
    for found in findings:
        if found["items"]:
            lines += ["", f"## {found['check']}", "", "```", *found["items"]]
            left = found["count"] - len(found["items"])
            lines += [f"... and {left} more"] * (left > 0) + ["```"]
    Path(os.environ["CREWLOG_ARTIFACTS"], "health.md").write_text("\n".join(lines) + "\n")
    print(f"{status}: {', '.join(f['check'] + ' ' + f['status'] for f in findings)}")
    return {"status": status, "findings": {f["check"]: f["status"] for f in findings}}


if __name__ == "__main__":
    main()
