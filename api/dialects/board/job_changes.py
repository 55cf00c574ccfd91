"""A job after a change, as the board answers it."""

from fastapi import Response

from api.dialects.board.job_json import job_json
from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import etag
from domain.job.commands import Changed
from projections.engine import Views
from projections.jobs import find_job


async def changed_job(views: Views, changed: Changed) -> Response:
    await views.caught_up()
    with views.reading() as reading:
        shown = job_json(find_job(reading, changed.job.id))
    headers = {**position_header(changed.position), "ETag": etag(changed.job.version)}
    return json_bytes({"job": shown}, headers=headers)
