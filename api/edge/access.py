"""What a principal may see of jobs. Another owner's thing is a 404, exactly like one that does not
exist (`contracts/board.md` §1).
"""

from collections.abc import Callable, Collection

from fastapi import HTTPException

from api.edge.owners import is_named
from api.edge.security import Principal
from domain.approval.aggregate import Approval, ApprovalNotFound
from domain.approval.commands import Approvals
from domain.crew.events import CrewNotFound
from domain.errors import JobNotFound
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from projections.approvals import approvers_of, find_approval
from projections.crews import find_crew
from projections.jobs import find_job
from projections.projection import Row
from projections.reading import Reading

NOT_YOURS_TO_ANSWER = "Others were named to answer this."


def seen_job(reading: Reading, job_id: str, principal: Principal) -> Row:
    """The row of a job. Raises JobNotFound if this principal may not see it."""
    row = find_job(reading, job_id)
    if not principal.sees(row["owner"]):
        raise JobNotFound(job_id)
    return row


def seen_crew(reading: Reading, crew_id: str, principal: Principal) -> Row:
    """The row of a crew. Raises CrewNotFound if this principal may not see it."""
    row = find_crew(reading, crew_id)
    if not principal.sees(row["owner"]):
        raise CrewNotFound(crew_id)
    return row


def loaded_job(jobs: Jobs, job_id: str, principal: Principal) -> Job:
    """The job from the log. Raises JobNotFound if this principal may not see it. Blocks on
    the disk.
    """
    job = jobs.load(job_id)
    if not principal.sees(job.owner):
        raise JobNotFound(job_id)
    return job


def guarded(
    principal: Principal, decide: Callable[[Job], list[Event]]
) -> Callable[[Job], list[Event]]:
    """The decision, but only for a principal who may see the job: otherwise it raises
    JobNotFound.
    """

    def decided(job: Job) -> list[Event]:
        if not principal.sees(job.owner):
            raise JobNotFound(job.id)
        return decide(job)

    return decided


def scope_of(principal: Principal, *, mine: bool = False) -> str | None:
    """The owner to whom a list is limited; None for an administrator who wants all."""
    return None if principal.admin and not mine else principal.owner


def sees_approval(
    principal: Principal, email: str | None, owner: str, approvers: Collection[str]
) -> bool:
    """Whether the principal may see an approval: as the owner, as an administrator, or because it
    names them.
    """
    return principal.sees(owner) or is_named(email, approvers)


def may_answer(
    principal: Principal, email: str | None, owner: str, approvers: Collection[str]
) -> bool:
    """Administrators may answer, and the people that it names. If it names nobody, the owner
    may.
    """
    if principal.admin or is_named(email, approvers):
        return True
    return owner == principal.owner and (not approvers or "owner" in approvers)


def seen_approval(
    reading: Reading, approval_id: str, principal: Principal, email: str | None
) -> Row:
    """The row of an approval. Raises ApprovalNotFound if this principal may not see it."""
    row = find_approval(reading, approval_id)
    if not sees_approval(principal, email, row["owner"], approvers_of(row)):
        raise ApprovalNotFound(approval_id)
    return row


def answerable(
    approvals: Approvals, approval_id: str, principal: Principal, email: str | None
) -> Approval:
    """The approval from the log, for a principal who may answer it. Raises ApprovalNotFound if they
    may not see it, and 403 if they may not answer. Blocks on the disk.
    """
    approval = approvals.load(approval_id)
    if not sees_approval(principal, email, approval.owner, approval.approvers):
        raise ApprovalNotFound(approval_id)
    if not may_answer(principal, email, approval.owner, approval.approvers):
        raise HTTPException(403, NOT_YOURS_TO_ANSWER)
    return approval


def may_trust(principal: Principal, email: str | None, job: Job, approvals: Approvals) -> bool:
    """Trust answers all later questions, so the principal must be one who might answer each."""
    named = [job.terms.approvers]
    named += [list(a.approvers) for a in approvals.pending(job) if not a.explicit]
    return all(may_answer(principal, email, job.owner, approvers) for approvers in named)
