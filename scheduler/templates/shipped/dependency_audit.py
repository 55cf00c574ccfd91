"""The jobs of the template dependency-audit: reading a project's dependencies, and the report.

Pinned means exactly one version: ``name==1.2.3`` or a direct address in Python (PEP 440 and 508),
``1.2.3`` or an address with a commit in package.json.
"""

import argparse
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_MOST_SHOWN = 200
_LONGEST = 200
_LARGEST_FILE = 8 * 1024 * 1024
_PASSED_OVER = frozenset({"node_modules", "site-packages", "__pycache__", "vendor"})
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(.*)", re.DOTALL)
_ONE_VERSION = re.compile(r"\(?\s*={2,3}\s*[^*,\s]+\s*\)?")
_NODE_VERSION = re.compile(r"=?v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?")
_NODE_COMMIT = re.compile(r".*#[0-9a-f]{7,40}")
_NODE_GROUPS = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")


class Need(NamedTuple):
    name: str
    wanted: str
    pinned: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--read", choices=sorted(_READERS))
    parser.add_argument("--report", metavar="DATE")
    parser.add_argument("--fail-on-unpinned", choices=("true", "false"), default="false")
    options = parser.parse_args()
    if not options.directory.is_dir():
        sys.exit(f"{options.directory} is not a directory: pass the project's directory.")
    if options.report is None:
        result = audit(options.directory, options.read)
        print(f"{result['dependencies']} dependencies in {len(result['files'])} files")
    else:
        result = report(options.directory, options.report)
        print(f"{result['unpinned']} of {result['dependencies']} dependencies are not pinned")
    Path(os.environ["CREWLOG_RESULT"]).write_text(json.dumps(result))
    if options.fail_on_unpinned == "true" and result["unpinned"]:
        sys.exit("Not every dependency is pinned.")


def audit(directory: Path, ecosystem: str) -> dict[str, Any]:
    """The dependencies in the files of one ecosystem, and those that are not pinned."""
    files: list[str] = []
    unpinned: list[dict[str, str]] = []
    dependencies = 0
    for path in _files(directory):
        reader = _reader_of(path.name, ecosystem)
        if reader is None or path.stat().st_size > _LARGEST_FILE:
            continue
        named = str(path.relative_to(directory))
        try:
            needs = list(reader(path.read_text("utf-8", "replace")))
        except (ValueError, AttributeError, TypeError) as error:
            sys.exit(f"{named} cannot be read: {error}")
        files.append(named)
        dependencies += len(needs)
        unpinned += [
            {"file": named, "name": need.name, "wanted": need.wanted[:_LONGEST] or "any version"}
            for need in needs
            if not need.pinned
        ]
    return {
        "ecosystem": ecosystem,
        "files": files[:_MOST_SHOWN],
        "dependencies": dependencies,
        "count": len(unpinned),
        "unpinned": unpinned[:_MOST_SHOWN],
    }


def _files(directory: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(directory):
        below[:] = sorted(n for n in below if n not in _PASSED_OVER and not n.startswith("."))
        yield from (path for path in (Path(folder, name) for name in sorted(names)) if _own(path))


def _own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def requirements(text: str) -> Iterator[Need]:
    """The lines of a requirements file. Options such as -r and --hash are ignored."""
    for line in text.replace("\\\n", " ").splitlines():
        need = re.sub(r"(^|\s)#.*", "", line).split(" --")[0].strip()
        if need and not need.startswith("-"):
            yield _python_need(need)


def pyproject(text: str) -> Iterator[Need]:
    """Dependencies, extras, groups (PEP 735) and build requirements."""
    document = tomllib.loads(text)
    project = document.get("project", {})
    needs = [
        *project.get("dependencies", []),
        *document.get("build-system", {}).get("requires", []),
    ]
    for group in (project.get("optional-dependencies", {}), document.get("dependency-groups", {})):
        for wanted in group.values():
            needs += [item for item in wanted if isinstance(item, str)]
    yield from map(_python_need, needs)
    poetry = document.get("tool", {}).get("poetry", {})
    groups = [poetry, *poetry.get("group", {}).values()]
    for name, wanted in (pair for g in groups for pair in g.get("dependencies", {}).items()):
        if name != "python":
            version = wanted.get("version", "") if isinstance(wanted, dict) else str(wanted)
            exact = re.fullmatch(r"(?:={2,3})?\s*\d[0-9A-Za-z.+!-]*", version) is not None
            direct = isinstance(wanted, dict) and ("rev" in wanted or "url" in wanted)
            yield Need(name, version, exact or direct)


def _python_need(need: str) -> Need:
    found = _REQUIREMENT.fullmatch(need)
    if found is None or "://" in found[1]:
        return Need(need, need, "#" in need or "@" in need)
    wanted = found[2].partition(";")[0].strip()
    direct = wanted.startswith("@")
    return Need(found[1], wanted, direct or _ONE_VERSION.fullmatch(wanted) is not None)


def package_json(text: str) -> Iterator[Need]:
    document = json.loads(text)
    for group in _NODE_GROUPS:
        for name, wanted in (document.get(group) or {}).items():
            version = str(wanted).strip()
            local = version.startswith(("file:", "link:", "workspace:"))
            exact = _NODE_VERSION.fullmatch(version) or _NODE_COMMIT.fullmatch(version)
            yield Need(name, version, local or exact is not None)


_Reader = Callable[[str], Iterator[Need]]
_READERS: dict[str, tuple[tuple[re.Pattern[str], _Reader], ...]] = {
    "python": (
        (re.compile(r"requirements.*\.txt|.*requirements\.txt"), requirements),
        (re.compile(r"pyproject\.toml"), pyproject),
    ),
    "node": ((re.compile(r"package\.json"), package_json),),
}


def _reader_of(name: str, ecosystem: str) -> _Reader | None:
    for pattern, reader in _READERS[ecosystem]:
        if pattern.fullmatch(name):
            return reader
    return None


def report(directory: Path, date: str) -> dict[str, int]:
    """The parents' lists in numbers, and as dependencies.md among the artifacts."""
    parents = json.loads(Path(os.environ["CREWLOG_PARENTS"]).read_text())
    found = [parent["metadata"] for parent in parents if parent.get("metadata")]
    lines = [f"# Dependencies of {directory}", "", date, ""]
    lines += ["| ecosystem | files | dependencies | not pinned |", "|---|---|---|---|"]
    for part in found:
        numbers = f"{len(part['files'])} | {part['dependencies']} | {part['count']}"
        lines.append(f"| {part['ecosystem']} | {numbers} |")
    for part in found:
        if part["unpinned"]:
            lines += ["", f"## Not pinned: {part['ecosystem']}", ""]
            lines += [f"* `{u['name']}` {u['wanted']} ({u['file']})" for u in part["unpinned"]]
            left = part["count"] - len(part["unpinned"])
            lines += [f"* and {left} more"] * (left > 0)
    Path(os.environ["CREWLOG_ARTIFACTS"], "dependencies.md").write_text("\n".join(lines) + "\n")
    return {
        "dependencies": sum(part["dependencies"] for part in found),
        "unpinned": sum(part["count"] for part in found),
    }


if __name__ == "__main__":
    main()
