"""The artifacts view: the files that attempts left, without their bytes."""

from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.errors import NotFound
from domain.job.events import job_id_of
from domain.log import Recorded
from projections.jobs import find_job
from projections.projection import Projection, Row
from projections.reading import Reading


class ArtifactNotFound(NotFound):
    def __init__(self, artifact_id: str) -> None:
        super().__init__("Artifact not found")
        self.artifact_id = artifact_id


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("job_id", String, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("name", String, nullable=False),
        Column("sha256", String, nullable=False),
        Column("size", Integer, nullable=False),
        Column("mime", String, nullable=False),
        Column("at", String, nullable=False),
    )


def _stored(_: Row | None, event: Recorded) -> Row:
    data = event.data
    return {
        "id": data["artifact"],
        "position": event.position,
        "job_id": job_id_of(event.subject),
        "attempt": data["attempt"],
        "name": data["name"],
        "sha256": data["sha256"],
        "size": data["size"],
        "mime": data["mime"],
        "at": event.at,
    }


ARTIFACTS = Projection(
    name="artifacts",
    version=1,
    columns=_columns,
    key=lambda event: event.data["artifact"],
    folds={"job.artifact_stored": _stored},
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifacts_dropped attempt_ended "
            "attempt_lost block_asked blocked cancel_requested commented deleted finished freed "
            "lease_expired made_stale messaged output output_dropped paused progressed queued "
            "redone result_given resumed started stranded submitted trusted unarchived unblocked"
        ),
    ),
    indexes=(("job_id", "position"),),
)


def job_artifacts(reading: Reading, job_id: str) -> list[Row]:
    """The artifacts of all attempts of one job, in the order in which they were stored."""
    artifacts = reading.table("artifacts")
    return reading.rows(
        select(artifacts).where(artifacts.c.job_id == job_id).order_by(artifacts.c.position)
    )


def find_artifact(reading: Reading, artifact_id: str) -> tuple[Row, Row]:
    """An artifact and its job. Raises ArtifactNotFound if there is none or its job was deleted."""
    artifacts = reading.table("artifacts")
    rows = reading.rows(select(artifacts).where(artifacts.c.id == artifact_id))
    if not rows:
        raise ArtifactNotFound(artifact_id)
    try:
        return rows[0], find_job(reading, rows[0]["job_id"])
    except NotFound:
        raise ArtifactNotFound(artifact_id) from None
