"""``/templates``: list templates, show one, and render one without committing it."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from api.edge.answers import json_bytes
from api.edge.security import Authenticated
from api.edge.short_forms import bounded
from api.edge.texts import CARRIABLE, Body
from api.native.pages import CursorOfPage, Page, page
from api.native.problems import SECURED, documented
from api.native.template_json import (
    TemplateFaultObject,
    TemplateObject,
    fault_json,
    plan_json,
    template_json,
    template_whole,
)
from domain.clock import Clock, system_clock
from domain.schedule.wall_clock import zone_of
from scheduler.templates import Catalog


class Rendering(Body):
    """A template and its inputs, to render without committing."""

    template: Annotated[str, Field(min_length=1, max_length=4_096), CARRIABLE]
    inputs: dict[str, Any] = Field(default_factory=dict)
    timezone: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="The time zone of the dates `today` and `nominal`. Default: UTC."
    )


class TemplatePage(Page[TemplateObject]):
    faults: list[TemplateFaultObject] = Field(
        default=[], description="For administrators: the mistakes in files that are left out."
    )


def template_routes(catalog: Catalog, clock: Clock = system_clock) -> APIRouter:
    """The routes over a catalog. `clock` decides what ``today`` is."""
    router = APIRouter(prefix="/templates", tags=["templates"], responses=SECURED)

    @router.get("", summary="List templates", response_model=TemplatePage)
    def get_templates(principal: Authenticated, cursor: CursorOfPage = None) -> Response:
        """By id. A page has all of them, or as many as make 2 MiB. Administrators also see the
        files and, under `faults`, the mistakes in files that cannot be used: all on each page, or
        as many as make 2 MiB.
        """
        listing = catalog.listing()
        left = [t for t in listing.templates if cursor is None or t.id > cursor]
        items, whole = bounded(template_json(t, files=principal.admin) for t in left)
        following = None if whole else left[len(items) - 1].id
        if not principal.admin:
            return page(items, following)
        return page(items, following, faults=bounded(map(fault_json, listing.faults))[0])

    @router.post(
        "/render",
        summary="What a crew would be, without committing it",
        responses=documented(404),
    )
    def render_template(body: Rendering, principal: Authenticated) -> Response:
        """400 with the place of the mistake, in the inputs or in the template."""
        at = clock()
        nominal = at.astimezone(zone_of("UTC" if body.timezone is None else body.timezone))
        return json_bytes(
            plan_json(catalog.render(body.template, body.inputs, at=at, nominal=nominal))
        )

    @router.get("/{template_id:path}", summary="One template", responses=documented(404))
    def get_template(template_id: str, principal: Authenticated) -> Response:
        """With its jobs, not rendered. Administrators also see the file and its text."""
        return json_bytes(template_whole(catalog.get(template_id), files=principal.admin))

    return router
