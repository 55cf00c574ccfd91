"""``/api/templates``: list templates, show one, and render one without committing it."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from api.edge.answers import json_bytes
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated
from api.edge.texts import CARRIABLE, Body
from api.native.template_json import plan_json, template_whole
from domain.clock import Clock, system_clock
from domain.schedule.wall_clock import zone_of
from scheduler.templates import Catalog

if TYPE_CHECKING:
    from scheduler.templates.format import Template


class RenderRequest(Body):
    """A template and its inputs, to render without committing."""

    template_id: Annotated[str, Field(min_length=1, max_length=4_096), CARRIABLE]
    inputs: dict[str, Any] = Field(default_factory=dict)
    timezone: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="The time zone of the dates `today` and `nominal`. Default: UTC."
    )


def template_routes(catalog: Catalog, clock: Clock = system_clock) -> APIRouter:
    """The routes over a catalog. `clock` decides what ``today`` is."""
    router = APIRouter(prefix="/api/templates", tags=["templates"], responses=SECURED)

    @router.get("", summary="List templates")
    def get_templates(principal: Authenticated) -> Response:
        return json_bytes({"templates": list(map(_listed, catalog.listing().templates))})

    @router.post(
        "/render",
        summary="What a crew would be, without committing it",
        responses=documented(404),
    )
    def render_template(body: RenderRequest, principal: Authenticated) -> Response:
        """400 with the `path` of the mistake, in the inputs or in the template."""
        at = clock()
        nominal = at.astimezone(zone_of("UTC" if body.timezone is None else body.timezone))
        plan = catalog.render(body.template_id, body.inputs, at=at, nominal=nominal)
        shown = plan_json(plan)
        return json_bytes({"templateId": shown.pop("template"), **shown})

    @router.get("/{template_id:path}", summary="One template", responses=documented(404))
    def get_template(template_id: str, principal: Authenticated) -> Response:
        """With its jobs, not rendered. Administrators also see the file and its text."""
        return json_bytes(template_whole(catalog.get(template_id), files=principal.admin))

    return router


def _listed(template: "Template") -> dict[str, Any]:
    return {
        "id": template.id,
        "name": template.name,
        "description": template.description,
        "inputs": {name: wanted.declared for name, wanted in template.inputs.items()},
    }
