// One job: its state, its actions, its log, and everything that belongs to it.

import { html, useEffect, useRef, useState } from "../vendor/preact/preact.js";
import { API, ended, post, remove, segment, whole } from "./api.js";
import { ApprovalCard } from "./approvals.js";
import { duration } from "./format.js";
import { Artifacts, Attempts, Comments, Facts, Parents, Result, Timeline } from "./jobparts.js";
import { JobLog } from "./joblog.js";
import { Ago, Confirm, Empty, Failure, Field, Icon, Loading, Running, State, Title, submitted, useAction, useAway, useLoad } from "./parts.js";
import { COLUMNS, isOver, look, reasonOf, stateOf } from "./states.js";
import { crews } from "./store.js";

export function Job({ id }) {
  const path = `${API}/jobs/${segment(id)}`;
  const mine = ({ jobs }) => jobs.has(id);
  const { gone, away } = useAway();
  const { data: job, problem, reload } = useLoad(path, { wanted: mine, everyMs: 10_000, gone });
  const approvals = useLoad(`${path}/approvals`, { wanted: mine, gone });
  const attempts = useLoad(`${path}/attempts?newest=true`, { wanted: mine, gone });
  const parents = useLoad(`${path}/parents`, { read: whole, wanted: mine, gone });
  const comments = useLoad(`${path}/comments`, { wanted: mine, gone });
  const timeline = useLoad(`${path}/timeline?newest=true&limit=500`, { wanted: mine, gone });
  const artifacts = useLoad(`${path}/artifacts`, { wanted: mine, gone });

  if (problem?.status === 404) {
    return html`<${Title} document="No such job">No such job<//>
      <${Empty} title="There is no such job, or it was deleted."><a href="/#/">To the board</a><//>`;
  }
  if (!job) return html`<${Title} document="Job">Job<//>${problem ? html`<${Failure} problem=${problem} />` : html`<${Loading} what="Loading the job" />`}`;
  const refresh = () => {
    [{ reload }, approvals, attempts, comments, timeline].forEach((one) => one.reload());
  };
  const asked = approvals.data?.items ?? [];
  const waiting = asked.filter(({ state }) => state === "pending");
  return html`<div class="job">
    <${Head} job=${job} refresh=${refresh} asked=${waiting} away=${away} />
    <div class="job-main">
      ${waiting.map((approval) => html`<${ApprovalCard} key=${approval.id} approval=${approval} onAnswer=${refresh} inJob />`)}
      ${job.body && html`<section class="card" aria-labelledby="body-title"><h2 id="body-title">Task</h2><p class="prose">${job.body}</p></section>`}
      <${Result} job=${job} />
      <${Artifacts} artifacts=${artifacts.data?.items ?? []} />
      <${JobLog} id=${id} gone=${gone} over=${isOver(job)} attempt=${job.attempt} />
      <${Comments} job=${job} comments=${comments.data?.items ?? []} refresh=${refresh} />
    </div>
    <div class="side">
      <${Facts} job=${job} />
      <${Parents} parents=${parents.data?.items ?? []} />
      <${Attempts} runs=${attempts.data?.items ?? []} />
      <${Answered} asked=${asked.filter(({ state }) => state !== "pending")} />
      <${Timeline} entries=${timeline.data?.items ?? []} />
    </div>
  </div>`;
}

function Head({ job, refresh, asked, away }) {
  const crew = crews.value.get(job.crewId);
  const state = stateOf(job);
  const reason = reasonOf(job);
  return html`<div class="job-head">
    <p class="back">${job.crewId
      ? html`<a href=${`/#/crews/${job.crewId}`}><${Icon} name="crew" /> ${crew?.name || "Its crew"}</a>`
      : html`<a href="/#/jobs"><${Icon} name="jobs" /> All jobs</a>`}</p>
    <${Title} document=${job.title} id="job-title">${job.title}<//>
    <p class="job-state">
      <${State} of=${state} id="job-state" role="status" />
      ${!isOver(job) && !["archived", "blocked", "failed", "running"].includes(state) && html`<span class="soft">in ${COLUMNS[job.column]}</span>`}
      <span class="soft">${job.column === "running" && job.startedAt
        ? html`for <${Running} since=${job.startedAt} />`
        : job.endedAt ? html`<${Ago} at=${job.endedAt} />${job.runMs && job.attempt ? ` after ${duration(job.runMs)}` : ""}` : html`since <${Ago} at=${job.updatedAt} />`}</span>
      ${job.column === "running" && job.progress !== null && html`<progress class="progress" max="1" value=${job.progress} aria-label="Progress"></progress>`}
      ${job.progressText && job.column === "running" && html`<span>${job.progressText}</span>`}
      ${reason && html`<span id="job-reason" class="reason">${ended(reason)}${job.errorId ? ` Error id ${job.errorId}.` : ""}
        ${job.strandedBy && html` <a href=${`/#/jobs/${job.strandedBy}`}>Look at it</a>`}</span>`}
    </p>
    <${Actions} job=${job} refresh=${refresh} asked=${asked} away=${away} />
  </div>`;
}

function Actions({ job, refresh, asked, away }) {
  const [open, setOpen] = useState("");
  const action = useAction();
  const path = `${API}/jobs/${segment(job.id)}`;
  const over = isOver(job);
  const done = job.column === "done" || job.column === "blocked";
  const act = async (work, said) => {
    const result = await action.run(work, said);
    setOpen("");
    refresh();
    return result;
  };
  const cancel = async () => {
    const answer = await act(() => post(`${path}/cancel`), "Cancellation was requested.");
    if (!answer) refresh();
  };
  const discard = async () => {
    if (await away(() => action.run(() => remove(path)))) location.hash = job.crewId ? `#/crews/${job.crewId}` : "#/";
    else setOpen("");
  };
  if (over && open === "cancel") {
    setOpen("");
    action.say(`This job has already finished: it is ${look(job.outcome).word}.`);
  }
  return html`<div class="actions" role="group" aria-label="Actions">
    ${job.column === "blocked" && html`<button type="button" class="primary" disabled=${action.busy}
      onClick=${() => act(() => post(`${path}/retry`), "It goes on.")}>${over || job.gaveUp ? "Try again" : "Unblock"}</button>`}
    ${done && html`<button type="button" aria-expanded=${open === "redo"} onClick=${() => setOpen(open === "redo" ? "" : "redo")}>Redo with feedback</button>`}
    ${!over && html`<button type="button" class="danger" disabled=${job.cancelRequestedAt !== null || action.busy} onClick=${() => setOpen("cancel")}>
      ${job.cancelRequestedAt ? "Cancelling …" : "Cancel job"}</button>`}
    ${!over && asked.length > 0 && html`<button type="button" class="quiet" onClick=${() => setOpen("trust")}>Trust this job</button>`}
    ${job.column !== "running" && !job.archivedAt && html`<button type="button" class="quiet" disabled=${action.busy}
      onClick=${() => act(() => post(`${path}/archive`), "It was put into the archive.")}>Archive</button>`}
    ${job.column !== "running" && html`<button type="button" class="quiet" onClick=${() => setOpen("delete")}>Delete</button>`}
    <span class="said" role="status">${action.said}</span>
    <${Failure} problem=${action.problem?.status === 409 && /ended|finished/i.test(action.problem.message) ? "This job has already finished." : action.problem} />
    ${open === "redo" && html`<${Redo} busy=${action.busy} onCancel=${() => setOpen("")}
      onSend=${(feedback) => act(() => post(`${path}/redo`, { feedback }), "It will be done again.")} />`}
    <${Confirm} open=${open === "cancel"} title="Cancel this job?" yes="Cancel job" no="Keep it running" busy=${action.busy}
      onNo=${() => setOpen("")} onYes=${cancel}>
      <p>Its processes are asked to stop, and are killed after five seconds. What it has done so far stays done.</p><//>
    <${Confirm} open=${open === "delete"} title="Delete this job?" yes="Delete job" busy=${action.busy} onNo=${() => setOpen("")}
      onYes=${discard}>
      <p>It disappears from the board and from every list. The log keeps what happened.</p><//>
    <${Confirm} open=${open === "trust"} title="Trust this job?" yes="Trust it" no="No" danger=${false} busy=${action.busy} onNo=${() => setOpen("")}
      onYes=${() => act(() => post(`${path}/trust`), "It is trusted.")}>
      <p>Everything that it asks is approved, now and later, except what must be asked explicitly.</p><//>
  </div>`;
}

function Redo({ busy, onSend, onCancel }) {
  const [text, setText] = useState("");
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  return html`<form class="card redo" onSubmit=${submitted(() => onSend(text.trim()))} aria-label="Redo with feedback">
    <${Field} wide label="What should be different?" hint="The next attempt reads this. What was made of the old result is made again after it.">
      ${(a) => html`<textarea ...${a} ref=${field} rows="3" value=${text} onInput=${(e) => setText(e.target.value)}></textarea>`}<//>
    <div class="choices"><button type="button" onClick=${onCancel}>Leave it</button>
      <button type="submit" class="primary" disabled=${busy}>Do it again</button></div>
  </form>`;
}

function Answered({ asked }) {
  if (!asked.length) return null;
  return html`<section class="card" aria-labelledby="asked-title"><h2 id="asked-title">Answered questions</h2>
    <ul class="plain">${asked.map((one) => html`<li key=${one.id} class="stacked"><span><${State} of=${one.state} /></span>
      <span class="prose">${one.description}</span>${one.comment && html`<q class="soft">${one.comment}</q>`}
      <span class="soft small"><${Ago} at=${one.resolvedAt ?? one.requestedAt} /></span></li>`)}</ul>
  </section>`;
}
