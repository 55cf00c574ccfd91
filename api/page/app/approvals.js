// The inbox: approvals that wait for an answer, and answered ones.

import { html, useState } from "../vendor/preact/preact.js";
import { API, post, segment } from "./api.js";
import { duration, moment, number } from "./format.js";
import { Ago, Empty, Failure, Field, Icon, Loading, State, Title, useAction, useLoad } from "./parts.js";
import { answered as gone, ownerId, pending, showMoreApprovals, waitingCount } from "./store.js";

const ANSWERED = 50;

export function Approvals() {
  const anything = ({ approvals }) => approvals;
  const { data, problem, reload } = useLoad(`${API}/approvals?limit=${ANSWERED}`, { wanted: anything });
  const waiting = pending.value;
  const answered = (data?.items ?? []).filter(({ state }) => state !== "pending");
  return html`<div class="room-head"><${Title} document="Approvals">Approvals<//></div>
    <section aria-labelledby="waiting-title">
      <h2 id="waiting-title" class="section-title">Waiting for an answer ${waitingCount.value > 0 && html`<span class="count">${number(waitingCount.value)}</span>`}</h2>
      ${waiting === null ? html`<${Loading} />` : !waiting.length
        ? html`<${Empty} title="Nobody waits for you.">When a job needs a person to say yes or no, the question appears here.<//>`
        : html`<div class="inbox">${waiting.map((one) => html`<${ApprovalCard} key=${one.id} approval=${one} onAnswer=${reload} />`)}</div>
        ${waiting.length < waitingCount.value && html`<p class="more"><button type="button" onClick=${showMoreApprovals}>Load more</button></p>`}`}
    </section>
    <section aria-labelledby="answered-title">
      <h2 id="answered-title" class="section-title">Answered</h2>
      <${Failure} problem=${problem} />
      ${data && (answered.length
        ? html`<ol class="card list">${answered.map((one) => html`<${AnsweredRow} key=${one.id} approval=${one} />`)}</ol>`
        : html`<p class="soft">Nothing was answered yet.</p>`)}
    </section>`;
}

/** One question, with its two answers. */
export function ApprovalCard({ approval, onAnswer = () => {}, inJob = false }) {
  const [comment, setComment] = useState("");
  const action = useAction();
  const answer = (resolution) => async () => {
    const body = { resolution, ...(comment.trim() ? { comment: comment.trim() } : {}) };
    const done = await action.run(() => post(`${API}/approvals/${segment(approval.id)}/resolve`, body));
    if (done) {
      gone(approval.id);
      onAnswer(done);
    }
  };
  return html`<article class="card approval" aria-label=${`Question: ${approval.description}`}>
    <p class="approval-what">${approval.description}</p>
    ${approval.proposedAction && html`<pre class="json" tabindex="0" aria-label="Proposed action">${approval.proposedAction}</pre>`}
    <p class="card-line">
      ${!inJob && html`<${JobLink} id=${approval.jobId} />`}
      <span>asked <${Ago} at=${approval.requestedAt} />${approval.attempt ? ` in attempt ${approval.attempt}` : " before the first attempt"}</span>
      ${approval.expiresAt && html`<span title=${moment(approval.expiresAt)}>expires <${Ago} at=${approval.expiresAt} /></span>`}
      ${approval.approvers.length > 0 && html`<span>for ${approval.approvers.join(", ")}</span>`}
      ${approval.explicit && html`<span class="tag">must be asked</span>`}
    </p>
    <div class="approval-answer">
      <${Field} label="Comment (optional)">${(a) => html`<input ...${a} value=${comment} maxlength="4000"
        onInput=${(e) => setComment(e.target.value)} />`}<//>
      <div class="choices">
        <button type="button" class="danger" disabled=${action.busy} onClick=${answer("rejected")}>Reject</button>
        <button type="button" class="primary" disabled=${action.busy} onClick=${answer("approved")}>Approve</button>
      </div>
    </div>
    <${Failure} problem=${action.problem} />
  </article>`;
}

function JobLink({ id }) {
  const { data: job } = useLoad(`${API}/jobs/${segment(id)}`);
  const who = job?.owner;
  return html`<a class="job-link" href=${`/#/jobs/${id}`}><${Icon} name="jobs" /><span>${job?.title ?? "its job"}</span></a>
    ${who && html`<span>started by ${who}</span>`}`;
}

/** Who answered. */
function answerer({ resolvedBy, resolvedByName, trusted }) {
  if (trusted) return "by trust, ";
  if (resolvedBy === ownerId.value) return "by you, ";
  return resolvedBy === "operator" ? "by the operator, " : `by ${resolvedByName}, `;
}

function AnsweredRow({ approval }) {
  return html`<li class="answered">
    <${State} of=${approval.state} />
    <a href=${`/#/jobs/${approval.jobId}`}>${approval.description}</a>
    ${approval.comment && html`<q class="soft">${approval.comment}</q>`}
    <span class="soft small">${answerer(approval)}<${Ago} at=${approval.resolvedAt ?? approval.requestedAt} />${
      approval.waitMs !== null ? ` after ${duration(approval.waitMs)}` : ""}</span>
  </li>`;
}
