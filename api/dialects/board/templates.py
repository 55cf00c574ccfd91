"""``/api/templates``: which templates there are, what one says, and what it would become."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from api.edge.answers import json_bytes
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated
from api.edge.texts import CARRIABLE, Body
from domain.clock import Clock, system_clock
from domain.schedule.wall_clock import zone_of
from scheduler.templates import Catalog, Template, TemplateFault
from scheduler.templates.format import TemplateJob
from scheduler.templates.plan import CrewPlan, PlannedJob


class RenderRequest(Body):
    """A template and its inputs, to see what would be committed."""

    template_id: Annotated[str, Field(min_length=1, max_length=4_096), CARRIABLE]
    inputs: dict[str, Any] = Field(default_factory=dict)
    timezone: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="Whose date `today` is, and of `nominal`; else UTC."
    )


def template_routes(catalog: Catalog, clock: Clock = system_clock) -> APIRouter:
    """The routes over a catalog; `clock` says what ``today`` is."""
    router = APIRouter(prefix="/api/templates", tags=["templates"], responses=SECURED)

    @router.get("", summary="List templates")
    def get_templates(principal: Authenticated) -> Response:
        """An administrator also sees the files, and the mistakes in those that are left out."""
        listing = catalog.listing()
        shown: dict[str, Any] = {
            "templates": [summary_json(t, files=principal.admin) for t in listing.templates]
        }
        if principal.admin:
            shown["faults"] = [fault_json(fault) for fault in listing.faults]
        return json_bytes(shown)

    @router.post(
        "/render",
        summary="What a crew would be, without committing it",
        responses=documented(404),
    )
    def render_template(body: RenderRequest, principal: Authenticated) -> Response:
        """400 with the `path` of the mistake, in the inputs or in the template."""
        at = clock()
        nominal = at.astimezone(zone_of(body.timezone or "UTC"))
        plan = catalog.render(body.template_id, body.inputs, at=at, nominal=nominal)
        return json_bytes(plan_json(plan))

    @router.get("/{template_id:path}", summary="One template", responses=documented(404))
    def get_template(template_id: str, principal: Authenticated) -> Response:
        """With its jobs, not rendered; an administrator also sees the file and its text."""
        template = catalog.get(template_id)
        shown = summary_json(template, files=principal.admin)
        shown["jobs"] = [_job_json(template.jobs[i]) for i in template.order]
        if principal.admin:
            shown["source"] = template.source
        return json_bytes(shown)

    return router


def summary_json(template: Template, *, files: bool) -> dict[str, Any]:
    """A template as lists show it (`contracts/board.md` §7)."""
    shown: dict[str, Any] = {
        "id": template.id,
        "name": template.name,
        "description": template.description,
        "inputs": {
            name: {**wanted.declared, "required": wanted.required}
            for name, wanted in template.inputs.items()
        },
    }
    if files:
        shown["file"] = str(template.file)
    return shown


def fault_json(fault: TemplateFault) -> dict[str, Any]:
    return {
        "file": fault.file,
        "line": fault.line,
        "path": fault.path,
        "reason": fault.reason,
    }


def _job_json(job: TemplateJob) -> dict[str, Any]:
    """A job as its template has it. Of the environment only the names, as everywhere."""
    return {
        "id": job.id,
        "title": job.title.source,
        "body": job.body.source,
        "assignee": job.assignee,
        "argv": [item.source for item in job.argv],
        "parents": list(job.parents),
        "cwd": None if job.cwd is None else job.cwd.source,
        "envNames": sorted(job.env),
        **_settings_json(job),
    }


def plan_json(plan: CrewPlan) -> dict[str, Any]:
    """A crew that was rendered, with its jobs in dependency order."""
    return {
        "templateId": plan.template,
        "name": plan.name,
        "inputs": plan.inputs,
        "jobs": [
            {
                "key": job.key,
                "title": job.title,
                "body": job.body,
                "assignee": job.assignee,
                "argv": list(job.argv),
                "parents": list(job.parents),
                "cwd": job.cwd,
                "envNames": sorted(job.env),
                **_settings_json(job),
            }
            for job in plan.jobs
        ],
    }


def _settings_json(job: TemplateJob | PlannedJob) -> dict[str, Any]:
    """What is the same before and after rendering."""
    return {
        "workspace": job.workspace,
        "timeoutS": job.timeout_s,
        "maxRetries": job.max_retries,
        "approval": "required" if job.approval else "none",
        "onReject": job.on_reject,
        "approvers": list(job.approvers),
        "leaseS": job.lease_s,
        "labels": list(job.labels),
        "resultSchema": job.result_schema,
    }
