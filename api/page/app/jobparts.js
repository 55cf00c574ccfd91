// The parts of a job's room, except its log.

import { html, useState } from "../vendor/preact/preact.js";
import { API, NO_ANSWER, Problem, hasToken, heldToken, post, query, segment } from "./api.js";
import { clock, counted, duration, moment, number, size } from "./format.js";
import { Ago, Failure, Field, Running, State, submitted, useAction } from "./parts.js";
import { atRest, isOver, labelsOf } from "./states.js";

const NONE = "–"; // a missing fact keeps its row, so nothing moves when it comes

const Time = ({ at }) => (at ? html`<time datetime=${at} title=${at}>${moment(at)}</time>` : NONE);

/** The words of a command, each in its own frame, so that no quoting is needed. */
export const Words = ({ words }) =>
  html`<span class="words">${words.map((word, index) => html`<code key=${index}>${word || "(empty)"}</code> `)}</span>`;

const Section = ({ id, title, children, side = "" }) =>
  html`<section class="card" aria-labelledby=${id}><div class="card-head"><h2 id=${id}>${title}</h2>${side}</div>${children}</section>`;

export function Facts({ job }) {
  const dropped = job.droppedBytes ? `, ${size(job.droppedBytes)} over the limit dropped` : "";
  // The result of the last attempt says nothing about a job that waits for another attempt.
  const rests = atRest(job);
  const runs = job.column === "running";
  const took = runs ? html`<${Running} since=${job.startedAt} />` : rests && job.attempt && job.runMs !== null ? duration(job.runMs) : NONE;
  const facts = {
    "Exit code": rests && job.exitCode !== null ? String(job.exitCode) : NONE,
    Worker: job.assignee,
    Command: job.argv.length ? html`<${Words} words=${job.argv} />` : null,
    Directory: job.cwd && html`<span class="mono">${job.cwd}</span>`,
    Environment: job.envNames.length ? html`<span class="mono">${job.envNames.join(" ")}</span>` : null,
    Labels: labelsOf(job).map((label, index) => html`${index ? ", " : ""}<a href=${query("/#/jobs", { text: label })}>${label}</a>`),
    Template: job.template && html`<a href=${`/#/templates/${segment(job.template)}`}>${job.template}</a>`,
    Schedule: job.scheduleId && html`<a href=${`/#/schedules/${job.scheduleId}`}>the one that started it</a>`,
    Attempt: job.attempt ? `${job.attempt}${job.node ? ` on ${job.node}` : ""}` : NONE,
    Retries: job.maxRetries ? `up to ${job.maxRetries}` : null,
    "Time limit": job.timeoutS ? duration(job.timeoutS * 1_000) : "none",
    "Not before": job.notBefore && html`<${Time} at=${job.notBefore} />`,
    Submitted: html`<${Time} at=${job.createdAt} />`,
    Started: html`<${Time} at=${rests || runs ? job.startedAt : null} />`,
    Ended: html`<${Time} at=${job.endedAt} />`,
    "Run time": took,
    Output: `${counted(job.lines, "line")}, ${size(job.outputBytes)}${dropped}`,
    Id: html`<span class="mono">${job.id}</span>`,
  };
  return html`<${Section} id="facts-title" title="Facts"><dl id="facts" class="facts">
    ${Object.entries(facts).filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}
  </dl><//>`;
}

export function Result({ job }) {
  if (job.result === null) return null;
  return html`<${Section} id="result-title" title="Result"><${Values} of=${job.result} /><//>`;
}

/** A JSON object as names and values; nested values are shown as JSON. */
export function Values({ of: object }) {
  const entries = Object.entries(object);
  if (!entries.length) return html`<p class="soft">Nothing in particular.</p>`;
  return html`<dl class="facts">${entries.map(([name, value]) => html`<dt key=${name} class="mono">${name}</dt><dd>${
    value !== null && typeof value === "object"
      ? html`<pre class="json" tabindex="0">${JSON.stringify(value, null, 2)}</pre>`
      : html`<span class="prose">${String(value)}</span>`}</dd>`)}</dl>`;
}

export function Artifacts({ artifacts }) {
  const action = useAction();
  if (!artifacts.length) return null;
  const latest = Math.max(...artifacts.map(({ attempt }) => attempt));
  return html`<${Section} id="artifacts-title" title="Files">
    <ul class="plain files">${artifacts.map((file) => html`<${File} key=${file.id} file=${file} action=${action}
      current=${file.attempt === latest} />`)}</ul>
    <${Failure} problem=${action.problem} />
  <//>`;
}

const READABLE = /^(text\/|application\/json)/;
const MOST_SHOWN = 256 * 1024; // bytes of a file that the page shows

/** A link sends the session's cookie but no token, so with a token the page fetches the file. */
function File({ file, action, current }) {
  const [text, setText] = useState(null);
  const raw = `${API}/artifacts/${segment(file.id)}/content`;
  const page = query(raw, { format: "html" });
  const readable = READABLE.test(file.mime);
  const show = async () => {
    if (text !== null) return setText(null);
    const shown = await action.run(async () => (await fetched(raw)).slice(0, MOST_SHOWN).text());
    return shown && setText(shown);
  };
  const download = (event) => {
    if (!hasToken()) return;
    event.preventDefault();
    action.run(() => save(raw, file.name));
  };
  return html`<li>
    ${readable && current && !hasToken()
      ? html`<a href=${page} target="_blank" rel="noopener">${file.name}</a>`
      : html`<strong>${file.name}</strong>`}
    <span class="soft small">${size(file.size)}${current ? "" : ` · attempt ${file.attempt}`}</span>
    ${readable && html`<button type="button" class="link small" aria-expanded=${text !== null} onClick=${show}>${text === null ? "Show" : "Hide"}</button>`}
    <a class="small" href=${raw} onClick=${download} download=${file.name} aria-label=${`Download ${file.name}`}>Download</a>
    ${text !== null && html`<pre class="json" tabindex="0" aria-label=${file.name}>${text}</pre>`}
  </li>`;
}

async function fetched(path) {
  const headers = hasToken() ? { Authorization: `Bearer ${heldToken()}` } : {};
  const response = await fetch(path, { headers }).catch(() => {
    throw new Problem(0, NO_ANSWER);
  });
  if (!response.ok) throw new Problem(response.status, "The file is not there any more.");
  return response.blob();
}

async function save(path, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await fetched(path));
  link.download = name.split("/").pop();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function Parents({ parents }) {
  if (!parents.length) return null;
  return html`<${Section} id="parents-title" title="Built on">
    <ul class="plain">${parents.map((parent) => html`<li key=${parent.jobId} class="stacked">
      <a href=${`/#/jobs/${parent.jobId}`}>${parent.title}</a>
      ${parent.result === null ? html`<span class="soft small">not done yet</span>`
        : Object.keys(parent.result).length ? html`<details><summary>What it left</summary><${Values} of=${parent.result} /></details>`
        : html`<span class="soft small">done <${Ago} at=${parent.endedAt} /></span>`}
    </li>`)}</ul><//>`;
}

export function Attempts({ runs }) {
  if (!runs.length) return null;
  return html`<${Section} id="attempts-title" title="Attempts">
    ${runs[0].attempt > 1 && html`<p class="soft small">Earlier attempts are not shown.</p>`}
    <ol class="plain">${runs.map((run) => html`<li key=${run.attempt} class="stacked">
      <span class="row"><strong>#${run.attempt}</strong> <${State} of=${run.outcome ?? "running"} />
        <span class="soft small">${run.runMs !== null ? duration(run.runMs) : html`<${Running} since=${run.startedAt} />`}</span></span>
      ${run.reason && html`<span class="reason small">${run.reason}</span>`}
      ${run.leaseExpired && html`<span class="soft small">It gave no sign of life any more.</span>`}
    </li>`)}</ol><//>`;
}

export function Comments({ job, comments, refresh }) {
  const [text, setText] = useState("");
  const action = useAction();
  const send = submitted(async () => {
    if (!text.trim()) return;
    if (await action.run(() => post(`${API}/jobs/${segment(job.id)}/comments`, { body: text.trim() }))) {
      setText("");
      refresh();
    }
  });
  return html`<${Section} id="comments-title" title="Comments">
    ${comments.length > 0 && html`<ol class="plain comments">${comments.map((comment) => html`<li key=${comment.id}>
      <p class="small"><strong>${comment.author}</strong> <span class="soft"><${Ago} at=${comment.createdAt} /></span></p>
      <p class="prose">${comment.body}</p></li>`)}</ol>`}
    <form onSubmit=${send} class="comment-form">
      <${Field} wide label="Add a comment" hint=${isOver(job) ? undefined : "Whoever works on the job reads it."}>
        ${(a) => html`<textarea ...${a} rows="2" value=${text} onInput=${(e) => setText(e.target.value)}></textarea>`}<//>
      <${Failure} problem=${action.problem} />
      <div class="choices"><button type="submit" disabled=${action.busy || !text.trim()}>Comment</button></div>
    </form><//>`;
}

export function Timeline({ entries }) {
  return html`<${Section} id="timeline-title" title="Timeline">
    <ol id="timeline" class="timeline">${entries.map((entry) => html`<li key=${entry.position}>
      <span class="sentence">${entry.sentence}</span>
      <span class="who"><time datetime=${entry.at} title=${moment(entry.at)}>${clock(entry.at)}</time>
        ${` · ${entry.actor} · #${number(entry.position)}`}</span></li>`)}</ol><//>`;
}
