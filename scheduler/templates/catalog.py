"""The catalog of templates: files below some folders, read again when they have changed."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any

from domain.errors import BadInput, NotFound
from scheduler.templates.faults import SUFFIX, BadTemplate, TemplateFault
from scheduler.templates.plan import CrewPlan

if TYPE_CHECKING:
    from scheduler.templates.format import Template

logger = logging.getLogger("crewlog.templates")

SHIPPED = Path(__file__).parent / "shipped"
"""The templates that come with crewlog. This is the last root, so each of them can be replaced."""

_MOST_FOLDERS = 2_000
_MOST_FILES = 1_000
_LONGEST_GUESS = 200
_ALIKE = 0.6

_Stamp = tuple[int, int, int] | None


class TemplateNotFound(NotFound):
    """There is no template of that id. `near` are similar ids. `known` is the id where the server
    knows it: an answer never repeats what was sent.
    """

    def __init__(self, near: Sequence[str] = (), known: str | None = None) -> None:
        self.near = near
        what = f"There is no template {known!r} any more" if known else "Template not found"
        meant = f". Did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f"{what}{meant}")


@dataclass(frozen=True, slots=True)
class Listing:
    """All templates by id, and the mistakes in files that cannot be used."""

    templates: "tuple[Template, ...]"
    faults: tuple[TemplateFault, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """The result of reading a file, and the state of it and of the files it refers to at
    that time.
    """

    stamps: tuple[tuple[Path, _Stamp], ...]
    result: "Template | BadTemplate"

    @property
    def is_current(self) -> bool:
        return all(_stamp(path) == stamp for path, stamp in self.stamps)


class Catalog:
    """The `*.job_workflow.yaml` files below `roots`. If two have the same id, the one of the
    earlier root counts, even if it has mistakes.

    A template's id is its path below its root, without the suffix. Hidden folders are ignored, and
    links that lead out of a root are not followed. Thread-safe.
    """

    def __init__(self, roots: Sequence[Path], *, trusted_s: float = 0.0) -> None:
        """For `trusted_s` seconds after a look at a file, the file is assumed unchanged: many crews
        of one template then need no look at the disk.
        """
        self._trusted_s = trusted_s
        self._looked: dict[Path, float] = {}
        self._roots = tuple(Path(os.path.abspath(root)) for root in roots)
        self._entries: dict[Path, _Entry] = {}
        self._lock = Lock()

    def listing(self) -> Listing:
        """Templates and faults as they are on disk now."""
        found: dict[str, tuple[Path, Path]] = {}
        faults: list[TemplateFault] = []
        for root in self._roots:
            for file in _walk(root, faults):
                found.setdefault(_id_of(file, root), (file, root))
        with self._lock:
            entries = [self._entry(file, root, key) for key, (file, root) in sorted(found.items())]
            seen = {file for file, _ in found.values()}
            self._entries = {file: e for file, e in self._entries.items() if file in seen}
        results = [entry.result for entry in entries]
        for result in results:
            if isinstance(result, BadTemplate):
                faults += result.faults
        return Listing(tuple(r for r in results if not isinstance(r, BadTemplate)), tuple(faults))

    def list(self) -> "Sequence[Template]":
        """The templates that can be used, by id."""
        return self.listing().templates

    def faults(self) -> Sequence[TemplateFault]:
        """The mistakes in the other files."""
        return self.listing().faults

    def get(self, template_id: str) -> "Template":
        """The template of an id, with or without the suffix.

        Raises TemplateNotFound, or BadInput with the first mistake of a file that is not a valid
        template.
        """
        key = template_id.removesuffix(SUFFIX)
        parts = PurePosixPath(key).parts
        if not parts or "\0" in key or any(part.startswith((".", "/")) for part in parts):
            raise TemplateNotFound(self._near(key))
        for root in self._roots:
            file = root.joinpath(*parts[:-1], parts[-1] + SUFFIX)
            known = self._entries.get(file)
            # It is the same file that was found to be in this root before.
            current = known is not None and self._is_current(file, known)
            if current or _is_file_in(file, root):
                with self._lock:
                    entry = known if current else self._entry(file, root, "/".join(parts))
                assert entry is not None
                result = entry.result
                if not isinstance(result, BadTemplate):
                    return result
                first = result.faults[0]
                raise BadInput(first.path, f"The template has a mistake here. {first.reason}")
        raise TemplateNotFound(self._near(key))

    def render(
        self,
        template_id: str,
        inputs: Mapping[str, Any],
        *,
        at: datetime,
        nominal: datetime | None = None,
    ) -> CrewPlan:
        """The crew of this template for these inputs at that time. `nominal` is the time that the
        crew is for, if that is another time.

        Raises TemplateNotFound; BadInput with the path of the mistake: ``inputs.repo``,
        ``jobs[1].argv[2]``; ValueError for a naive `at`.
        """
        from scheduler.templates.render import render

        return render(self.get(template_id), inputs, at=at, nominal=nominal)

    def _near(self, wanted: str) -> Sequence[str]:
        """The ids most similar to the wanted one. Everybody may see all templates."""
        ids = [template.id for template in self.list()]
        return get_close_matches(wanted[:_LONGEST_GUESS], ids, n=3, cutoff=_ALIKE)

    def _is_current(self, file: Path, known: _Entry) -> bool:
        now = time.monotonic()
        if now - self._looked.get(file, -1e9) < self._trusted_s:
            return True
        current = known.is_current
        if current:
            self._looked[file] = now
        return current

    def _entry(self, file: Path, root: Path, template_id: str) -> _Entry:
        entry = self._entries.get(file)
        if entry is None or not entry.is_current:
            entry = self._entries[file] = _read(file, root, template_id)
        return entry


def _read(file: Path, root: Path, template_id: str) -> _Entry:
    # The state is taken before the file is read: a change in between is noticed the next time.
    before = _stamp(file)
    from scheduler.templates.check import read_template

    result: Template | BadTemplate
    try:
        result = read_template(file, root, template_id)
    except BadTemplate as bad:
        result = bad
    except Exception:
        # Whatever this file holds, the list of the others must still be shown.
        logger.exception("%s cannot be read", file)
        reason = "The server cannot read this file; its log says why."
        result = BadTemplate([TemplateFault(str(file), 1, "(file)", reason)])
    stamps = ((file, before), *((path, _stamp(path)) for path in result.depends))
    return _Entry(stamps, result)


def _walk(root: Path, faults: list[TemplateFault]) -> Iterator[Path]:
    """The template files below a root, in order. A missing root has none."""
    folders = files = 0
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        folders += 1
        if folders > _MOST_FOLDERS or files > _MOST_FILES:
            reason = f"More than {_MOST_FOLDERS} folders or {_MOST_FILES} templates: not all read."
            faults.append(TemplateFault(str(root), 1, "(file)", reason))
            return
        for name in sorted(names):
            if not name.endswith(SUFFIX) or name.startswith("."):
                continue
            files += 1
            file = Path(folder, name)
            if not _is_text(str(file)):
                shown = str(file).encode(errors="backslashreplace").decode()
                faults.append(TemplateFault(shown, 1, "(file)", "Its name is not UTF-8."))
            elif _is_file_in(file, root):
                yield file
            else:
                reason = "This is not a file, or a link that leads out of the template directory."
                faults.append(TemplateFault(str(file), 1, "(file)", reason))


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_file_in(file: Path, root: Path) -> bool:
    """Whether it is a file in `root`, and so are the folders on the way to it."""
    try:
        home = root.resolve()
        there = file.parent.resolve() == home / file.parent.relative_to(root)
        return there and file.is_file() and file.resolve().is_relative_to(home)
    except (OSError, RuntimeError):
        return False


def _id_of(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix().removesuffix(SUFFIX)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
