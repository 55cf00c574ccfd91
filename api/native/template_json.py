"""Templates, and the crews made from them, as JSON."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from scheduler.templates import TemplateFault
from scheduler.templates.plan import CrewPlan, PlannedJob

if TYPE_CHECKING:
    from scheduler.templates.format import Template, TemplateJob


class TemplateObject(BaseModel):
    """A template as lists show it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str | None
    description: str | None
    inputs: dict[str, dict[str, Any]]
    file: str | None = Field(None, description="For administrators.")


class TemplateFaultObject(BaseModel):
    """A mistake for which a file is left out."""

    model_config = ConfigDict(extra="forbid")

    file: str
    line: int
    path: str
    reason: str


def template_json(template: "Template", *, files: bool) -> dict[str, Any]:
    """A template as lists show it. `files`: whether to show its file."""
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


def template_whole(template: "Template", *, files: bool) -> dict[str, Any]:
    """A template with its jobs, not rendered. `files`: whether to show its file and text."""
    shown = template_json(template, files=files)
    shown["jobs"] = [_job_json(template.jobs[i]) for i in template.order]
    if files:
        shown["source"] = template.source
    return shown


def fault_json(fault: TemplateFault) -> dict[str, Any]:
    return {
        "file": fault.file,
        "line": fault.line,
        "path": fault.path,
        "reason": fault.reason,
    }


def _job_json(job: "TemplateJob") -> dict[str, Any]:
    """A job of a template. Of the environment only the names, as everywhere."""
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
    """A rendered crew, with its jobs in dependency order."""
    return {
        "template": plan.template,
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


def _settings_json(job: "TemplateJob | PlannedJob") -> dict[str, Any]:
    """The fields that are the same before and after rendering."""
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
