"""The folder of an attempt: what it is given at the start, and what it leaves behind.

Every attempt gets a folder, below a root that only the server uses:

| in ``ROOT/JOB-ATTEMPT/`` | variable | what |
|---|---|---|
| ``scratch/`` | | the working directory of a job whose workspace is ``scratch`` |
| ``artifacts/`` | ``CREWLOG_ARTIFACTS`` | files put here are kept |
| ``result.json`` | ``CREWLOG_RESULT`` | missing at first; a JSON object here is the result |
| ``parents.json`` | ``CREWLOG_PARENTS`` | of a crew: what the parents left, as a JSON list |
| ``body.txt`` | ``CREWLOG_BODY`` | of a crew: what is to be done |

Most attempts leave nothing. Finding that out is so quick that it needs no thread.
"""

import hashlib
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson

from domain.errors import BadInput
from domain.event import Event
from domain.job.aggregate import RESULT_FILE, Job
from domain.job.events import JobArtifactsDropped, JobArtifactStored
from domain.job.result import LARGEST_RESULT, ParentResult, check_result, path_of, too_large
from domain.numbers import Inexact, parse_json
from scheduler.executors.passing import PASSING
from scheduler.executors.shim.regular_file import NotRegular, open_regular
from scheduler.executors.trees import remove_tree
from scheduler.workspaces.artifacts import ArtifactStore, Collected, unreadable
from scheduler.workspaces.contract import Leavings
from scheduler.workspaces.places import SCRATCH, place_of

logger = logging.getLogger("crewlog.attempts")

NO_RESULT = "The worker left without a result."

_ARTIFACTS = Path("artifacts")
_GIVEN = frozenset({"artifacts", "body.txt", "parents.json", SCRATCH})
"""The entries that a folder has at the start. Only the first of them is examined at the end."""
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REMOVED = "~"  # begins what waits for removal; no job id does


@dataclass(frozen=True, slots=True)
class Prepared:
    """The start of an attempt. `cwd` is empty if neither the job nor its plan names one; `env` is
    added to the environment.
    """

    cwd: str
    env: dict[str, str]


class AttemptFolders:
    """The folders of attempts below `root`, made with mode 0700. Methods block on the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def prepare(self, job: Job, attempt: int, parents: Sequence[ParentResult] = ()) -> Prepared:
        """Make the folder. Repeating it changes nothing that the attempt may have written.

        `parents` are the results of the jobs that had to be done first. Raises OSError if the disk
        refuses.
        """
        folder = self.folder(job.id, attempt)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for made in (folder, folder / _ARTIFACTS):
            made.mkdir(mode=0o700, exist_ok=True)
        env = {
            "CREWLOG_JOB_ID": job.id,
            "CREWLOG_ATTEMPT": str(attempt),
            "CREWLOG_RESULT": str(folder / RESULT_FILE),
            "CREWLOG_ARTIFACTS": str(folder / _ARTIFACTS),
        }
        if job.planned:
            env["CREWLOG_PARENTS"] = str(folder / "parents.json")
            env["CREWLOG_BODY"] = str(folder / "body.txt")
            _put(folder / "parents.json", orjson.dumps([parent.json() for parent in parents]))
            _put(folder / "body.txt", job.terms.body.encode())
        return Prepared(place_of(job).enter(folder), env)

    def left_nothing(self, job: Job, attempt: int) -> bool:
        """Whether the attempt clearly left nothing, and need not leave anything. Reads two folders;
        anything unusual is for `gather` to report.
        """
        if _must_leave_a_result(job):
            return False
        folder = self.folder(job.id, attempt)
        try:
            return _GIVEN.issuperset(os.listdir(folder)) and not _entries(folder / _ARTIFACTS)
        except OSError:
            return False

    def gather(self, job: Job, attempt: int, store: ArtifactStore) -> Leavings:
        """Read what the attempt left. Repeating it gives the same, as long as nothing changes in
        between.

        `job` is the present job, with the result or the block that was handed in over HTTP. A
        folder that cannot be read counts as empty, and an event says so. Raises OSError if the
        store cannot be written now, or for another reason that may pass.
        """
        events: list[Event] = []
        result = None
        missing = NO_RESULT
        try:
            # Everything is reached from the open folder, so a replaced folder is not followed.
            folder = os.open(self.folder(job.id, attempt), _OPEN_FOLDER)
        except OSError as error:
            lost = unreadable(f"{job.id}-{attempt}/", error)
            events = _artifacts(job.id, attempt, lost)
            missing = f"It may have left a result, but {lost.reason}."
        else:
            try:
                events = _artifacts(job.id, attempt, store.collect(_ARTIFACTS, dir_fd=folder))
                result = _read_result(folder, job.terms.result_schema)
            except BadInput as bad:
                return Leavings(events, None, f"Its result file is not valid. {bad}")
            finally:
                os.close(folder)
        none = result is None and job.given is None and job.block_asked is None
        wanted = none and _must_leave_a_result(job)
        return Leavings(events, result, missing if wanted else None)

    def discard_empty(self, job_id: str, attempt: int) -> bool:
        """Remove the folder at once, if it has nothing but an empty artifacts folder."""
        folder = self.folder(job_id, attempt)
        try:
            os.rmdir(folder / _ARTIFACTS)
            os.rmdir(folder)
        except OSError:
            return False
        return True

    def discard(self, job_id: str, attempt: int) -> None:
        """Remove the folder, if there is one. Call it when its content is in the log. If it cannot
        be removed, `sweep` tries again.
        """
        if self.discard_empty(job_id, attempt):
            return
        removed = self._root / f"{_REMOVED}{token_hex(16)}"
        try:
            self.folder(job_id, attempt).rename(removed)
            remove_tree(removed)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("the folder of job %s cannot be removed: %s", job_id, error.strerror)

    def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Remove the folders of all attempts (job id, number) that are not in `keep`."""
        wanted = {self.folder(*attempt).name for attempt in keep}
        try:
            left = [folder for folder in self._root.iterdir() if folder.name not in wanted]
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("%s cannot be tidied: %s", self._root, error.strerror)
            return
        for folder in left:
            try:
                remove_tree(folder)
            except OSError as error:
                logger.warning("%s cannot be removed: %s", folder, error.strerror)

    def folder(self, job_id: str, attempt: int) -> Path:
        """The path of the attempt's folder, whether it exists or not."""
        return self._root / f"{job_id}-{attempt}"


def artifact_id(job_id: str, attempt: int, name: str) -> str:
    """``art-`` and 12 hex digits (`contracts/codeplane.md §1`). Always the same for one file
    of one attempt.
    """
    digest = hashlib.sha256(f"{job_id}\0{attempt}\0{name}".encode()).hexdigest()
    return f"art-{digest[:12]}"


def _must_leave_a_result(job: Job) -> bool:
    return job.terms.result_schema is not None or job.terms.assignee is not None


def _entries(folder: Path) -> list[str]:
    opened = os.open(folder, _OPEN_FOLDER)
    try:
        return os.listdir(opened)
    finally:
        os.close(opened)


def _artifacts(job_id: str, attempt: int, collected: Collected) -> list[Event]:
    events: list[Event] = [
        JobArtifactStored(
            attempt=attempt,
            artifact=artifact_id(job_id, attempt, file.name),
            name=file.name,
            sha256=file.sha256,
            size=file.size,
            mime=file.mime,
        )
        for file in collected.files
    ]
    if collected.dropped:
        dropped, reason = collected.dropped, collected.reason
        events.append(JobArtifactsDropped(attempt=attempt, names=dropped, reason=reason))
    return events


def _read_result(folder: int, schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """The result in the open folder; None if there is no file. Raises BadInput if it is not
    a valid result.
    """
    try:
        file = open_regular(RESULT_FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(error) from None
    with open(file, "rb") as stream:
        try:
            encoded = stream.read(LARGEST_RESULT + 1)
        except OSError as error:
            raise _unreadable(error) from None
    if len(encoded) > LARGEST_RESULT:
        raise too_large()
    try:
        result = parse_json(encoded.decode())
    except Inexact as error:
        raise BadInput(path_of(error.place), str(error)) from None
    except ValueError:
        raise BadInput("result", "It is not JSON in UTF-8.") from None
    return check_result(result, schema, size=len(encoded))


def _unreadable(error: OSError) -> Exception:
    if error.errno in PASSING:
        return error
    if isinstance(error, NotRegular):
        return BadInput("result", "It is not a regular file.")
    return BadInput("result", f"It cannot be read: {error.strerror}.")


def _put(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    with open(open_regular(str(draft), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as stream:
        stream.write(data)
    draft.replace(path)
