// All jobs in every state, newest first, and a form to run a command.

import { html, useEffect, useRef, useState } from "../vendor/preact/preact.js";
import { API, Coalesced, Problem, get, post, query as withQuery } from "./api.js";
import { duration, counted, number } from "./format.js";
import { Words } from "./jobparts.js";
import { Ago, Empty, Failure, Field, Loading, Running, Search, State, Title, submitted, useAction } from "./parts.js";
import { lookFor } from "./place.js";
import { COLUMNS, atRest, isOver, labelsOf, stateOf } from "./states.js";
import { onChange } from "./store.js";
import { looksLikeShell, newKey, wordsOf } from "./words.js";

const PAGE = 50; // jobs that "load more" adds
const MOST_JOBS = 1_000; // most jobs that the list shows
const LOOK_AGAIN_MS = 5_000; // the stream does not announce new lines of running jobs

const FILTERS = {
  "": "All", held: "Held", queued: "Queued", running: "Running", waiting_for_approval: "Waiting for approval",
  blocked: "Blocked", completed: "Completed", failed: "Failed", timed_out: "Timed out", cancelled: "Cancelled",
  archived: "Archived",
};

// Jobs that gave up or timed out count as failed.
const WIDER = { failed: "failed,timed_out,gave_up", running: "running,paused" };

export function Jobs({ query }) {
  const column = query.get("status") ?? "";
  const filter = column ? "" : query.get("state") in FILTERS ? query.get("state") : "";
  const text = query.get("text") ?? "";
  const crew = query.get("crew") ?? "";
  const leads = (state) => withQuery("/#/jobs", { state, text, crew });
  return html`<div class="room-head"><${Title} document="All jobs" id="list-title">${column ? `Jobs: ${COLUMNS[column] ?? column}` : "All jobs"}<//></div>
    <${RunForm} />
    <div class="room-head">
      <form class="search" role="search" aria-label="Find jobs" onSubmit=${(e) => e.preventDefault()}>
        <${Search} label="Search all jobs" placeholder="Search" text=${text} onText=${(wanted) => lookFor({ text: wanted })} /></form>
      <nav class="pills" aria-label="Show jobs by state">${Object.entries(FILTERS).map(([state, name]) => html`<a key=${state}
        href=${leads(state)} aria-current=${!column && state === filter ? "true" : undefined}>${name}</a>`)}
        ${crew && html`<a href=${withQuery("/#/jobs", { state: filter, status: column, text })}>All crews</a>`}</nav></div>
    <${List} key=${`${filter} ${column} ${crew}`} filter=${filter} column=${column} text=${text} crew=${crew} />`;
}

function pathOf({ filter, column, text, crew }, limit, cursor) {
  const parts = { limit: Math.min(limit, 100), cursor, text, crew };
  if (column) return withQuery(`${API}/jobs`, { ...parts, column });
  const state = filter === "archived" ? "" : (WIDER[filter] ?? filter);
  return withQuery(`${API}/jobs`, { ...parts, archived: String(filter === "archived"), state });
}

function List(sought) {
  const { filter, column, text, crew } = sought;
  const [shown, setShown] = useState({ jobs: null, hasMore: false });
  const [problem, setProblem] = useState(null);
  const wanted = useRef(PAGE);
  const work = useRef(null);

  useEffect(() => {
    const load = async () => {
      const jobs = [];
      let cursor = null;
      do {
        const page = await get(pathOf(sought, wanted.current - jobs.length, cursor));
        jobs.push(...page.items);
        ({ cursor } = page);
      } while (cursor && jobs.length < wanted.current);
      setShown({ jobs, hasMore: cursor !== null });
      moving.current = jobs.some((job) => !isOver(job));
    };
    const moving = { current: false };
    work.current = new Coalesced(load, setProblem);
    work.current.ask(0);
    const stop = onChange(() => work.current.ask());
    const timer = setInterval(() => document.hidden || (moving.current && work.current.ask(0)), LOOK_AGAIN_MS);
    return () => {
      stop();
      clearInterval(timer);
      work.current.stop();
    };
  }, [filter, column, text, crew]);

  const more = () => {
    wanted.current = Math.min(wanted.current + PAGE, MOST_JOBS);
    work.current.ask(0);
  };
  const { jobs, hasMore } = shown;
  return html`<${Failure} problem=${problem} />
    ${jobs === null ? !problem && html`<${Loading} what="Loading the jobs" />` : !jobs.length
      ? html`<${Empty} title=${text ? "No job that matches." : filter || column || crew ? "No job is in this state." : "No job yet."}>${text || filter || column || crew ? null : "Run a command above."}<//>`
      : html`<div class="card list">
        <div class="columns" aria-hidden="true"><span>State</span><span>Job</span><span>Label</span><span>Submitted</span><span class="number">Run time</span><span class="number">Lines</span></div>
        <ol class="jobs" aria-labelledby="list-title">${jobs.map((job) => html`<${Row} key=${job.id} job=${job} />`)}</ol></div>`}
    <p class="more"><button type="button" hidden=${!hasMore || wanted.current >= MOST_JOBS} onClick=${more}>Load more</button></p>`;
}

function Row({ job }) {
  return html`<li><a href=${`/#/jobs/${job.id}`}>
    <span class="state-cell"><${State} of=${stateOf(job)} /></span>
    <span class="title" title=${job.title}>${job.title}</span>
    <span class="label" title=${labelsOf(job).join(", ")}>${labelsOf(job).join(", ")}</span>
    <span class="when"><${Ago} at=${job.createdAt} /></span>
    <span class="took number"><${Took} job=${job} /></span>
    <span class="lines-count number">${number(job.lines)}<span class="unit">${job.lines === 1 ? " line" : " lines"}</span></span>
  </a></li>`;
}

/** The run time of the attempt; nothing while the job waits for another attempt. */
function Took({ job }) {
  if (job.column === "running") return html`<${Running} since=${job.startedAt} />`;
  return atRest(job) && job.attempt && job.runMs !== null ? duration(job.runMs) : null;
}

const NO_OPTIONS = { title: "", cwd: "", label: "", timeout: "" };

function RunForm() {
  const [line, setLine] = useState("");
  const [options, setOptions] = useState(NO_OPTIONS);
  const attempt = useRef({ body: "", key: "" });
  const action = useAction();
  const option = (name) => ({ value: options[name], onInput: (e) => setOptions({ ...options, [name]: e.target.value }) });
  const send = submitted(() =>
    action.run(async () => {
      let argv;
      try {
        argv = wordsOf(line);
      } catch (error) {
        throw new Problem(0, error.message);
      }
      const work = { argv };
      if (options.title.trim()) work.title = options.title.trim();
      if (options.cwd.trim()) work.cwd = options.cwd.trim();
      if (options.label.trim()) work.labels = [options.label.trim()];
      if (options.timeout) work.timeout_s = Number(options.timeout);
      const body = JSON.stringify(work);
      if (attempt.current.body !== body) attempt.current = { body, key: newKey() };
      const job = await post(`${API}/jobs`, work, { headers: { "Idempotency-Key": attempt.current.key } });
      location.hash = `#/jobs/${job.id}`;
    }),
  );
  return html`<form class="card run" onSubmit=${send}>
    <label for="command">Run a command</label>
    <div class="run-line"><input id="command" class="mono" autocomplete="off" autocapitalize="off" spellcheck=${false} placeholder="git log --oneline"
      aria-describedby="command-read run-error" required value=${line} onInput=${(e) => { setLine(e.target.value); action.say(""); }} />
      <button type="submit" class="primary" disabled=${action.busy}>Run</button></div>
    <p id="command-read" class="hint command-read"><${Reading} line=${line} /></p>
    <details><summary>Options</summary><div class="grid">
      <${Field} label="Title">${(a) => html`<input ...${a} ...${option("title")} maxlength="200" autocomplete="off" placeholder="the command itself" />`}<//>
      <${Field} label="Working directory">${(a) => html`<input ...${a} ...${option("cwd")} class="mono" maxlength="4096" autocomplete="off" spellcheck=${false} placeholder="the server's" />`}<//>
      <${Field} label="Label">${(a) => html`<input ...${a} ...${option("label")} maxlength="64" autocomplete="off" placeholder="command" />`}<//>
      <${Field} label="Time limit in seconds">${(a) => html`<input ...${a} ...${option("timeout")} type="number" min="1" max="31536000" step="any" placeholder="the server's" />`}<//>
    </div></details>
    <${Failure} problem=${action.problem} id="run-error" />
  </form>`;
}

function Reading({ line }) {
  if (!line.trim()) return html`No shell in between: quotes group words, and for pipes or variables there is <code>sh -c '…'</code>.`;
  try {
    const words = wordsOf(line);
    return html`${counted(words.length, "word")}: <${Words} words=${words} />
      ${looksLikeShell(words) && html`<span class="caution">There is no shell: this is passed on as it is. Use sh -c '…' for it.</span>`}`;
  } catch (error) {
    return error.message;
  }
}
