// The board: a column for each status, with cards that update by themselves.

import { Fragment, html, signal, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact/preact.js";
import { query as withQuery } from "./api.js";
import { number, roughly } from "./format.js";
import { Ago, Empty, Icon, Loading, Running, Search, State, Title } from "./parts.js";
import { lookFor } from "./place.js";
import { COLUMNS, labelsOf, look, reasonOf, stateOf } from "./states.js";
import { columns, crews, found, me, seek, sought } from "./store.js";

const ALWAYS = ["todo", "ready", "running", "blocked", "done"];

const withArchived = signal(false);
const chosenTab = signal(""); // a phone shows one column at a time

/** The address holds the text and the crew of the filter. */
export function Board({ query }) {
  const text = query.get("text") ?? "";
  const crew = query.get("crew") ?? "";
  const fresh = useRef(true);
  useLayoutEffect(() => {
    // Back on the board, the results of an earlier filter must not show.
    seek({ text, crew }, { close: !fresh.current });
    fresh.current = false;
  }, [text, crew]);
  const board = columns.value;
  return html`<div class="room-head">
      <${Title} document="Board">Board<//>
      <${Filters} text=${text} crew=${crew} />
      <a class="button primary" href="/#/templates">Start a crew</a>
    </div>
    ${board === null ? html`<${Loading} what="Loading the board" />` : html`<${Columns} board=${board} filter=${{ text, crew }} />`}
    <${News} />`;
}

function Filters({ text, crew }) {
  return html`<form class="filters" role="search" aria-label="Filter the board" onSubmit=${(e) => e.preventDefault()}>
    <${Search} label="Filter by text" placeholder="Filter" text=${text} onText=${(wanted) => lookFor({ text: wanted })} />
    <select aria-label="Crew" value=${crew} onChange=${(e) => lookFor({ crew: e.target.value })}>
      <option value="">All crews</option>
      ${knownCrews(crew).map((one) => html`<option key=${one.id} value=${one.id}>${one.name || "Crew"}${one.again ? ` · ${one.again}` : ""}</option>`)}
    </select>
    ${me.value.isAdmin && html`<label class="check"><input type="checkbox" checked=${sought.value.mine}
      onChange=${(e) => seek({ mine: e.target.checked })} /> Mine</label>`}
    <label class="check"><input type="checkbox" checked=${withArchived.value}
      onChange=${(e) => (withArchived.value = e.target.checked)} /> Archived</label>
  </form>`;
}

/** The newest crews, and the one of the filter. Crews with the same name also show their time. */
function knownCrews(wanted) {
  const known = [...crews.value.values()].filter(({ id, name }) => name || id === wanted);
  known.sort((a, b) => (b.position ?? 0) - (a.position ?? 0));
  const times = new Map();
  for (const crew of known) times.set(crew.name, (times.get(crew.name) ?? 0) + 1);
  return known.map((crew) => ({
    ...crew,
    again: times.get(crew.name) > 1 && crew.createdAt ? crew.createdAt.slice(5, 16).replace("T", " ") : "",
  }));
}

/** The column that a phone shows first: one in which a job waits for a person, else one with
 * jobs. */
function opening(board) {
  const calls = (status) => board[status]?.waitsForPerson;
  const holds = (status) => board[status]?.count > 0;
  const order = ["running", "ready", "todo", "blocked", "done"];
  return ["todo", "running", "blocked"].find(calls) ?? order.find(holds) ?? "running";
}

function Columns({ board, filter }) {
  const [first] = useState(() => opening(board));
  const shown = Object.keys(COLUMNS).filter(
    (status) =>
      ALWAYS.includes(status) ||
      (status === "archived" && withArchived.value) ||
      (status === "triage" && board.triage?.count),
  );
  const total = shown.reduce((sum, status) => sum + (board[status]?.count ?? 0), 0);
  const filtered = filter.text !== "" || filter.crew !== "";
  if (!total && !filtered) {
    return html`<${Empty} title="There is no work yet.">
      <a href="/#/templates">Start a crew</a> from a template, <a href="/#/jobs">run a command</a>, or${" "}
      <a href="/#/schedules">make a schedule</a> that starts crews by itself.<//>`;
  }
  const tab = shown.includes(chosenTab.value) ? chosenTab.value : first;
  return html`<div class="tabs" role="group" aria-label="Columns">
      ${shown.map((status) => html`<button key=${status} type="button" aria-pressed=${tab === status}
        onClick=${() => (chosenTab.value = status)}>${COLUMNS[status]} <span class="count">${number(board[status]?.count ?? 0)}</span></button>`)}
    </div>
    <div class="board" data-columns=${shown.length} aria-busy=${found.value !== sought.value}>
      ${shown.map((status) => html`<${Column} key=${status} status=${status} column=${board[status] ?? { count: 0, jobs: [] }}
        filter=${filter} filtered=${filtered} current=${tab === status} />`)}
    </div>`;
}

function Column({ status, column, filter, filtered, current }) {
  const { jobs } = column;
  const more = column.count - column.jobs.length;
  const id = `column-${status}`;
  return html`<section class="column" aria-labelledby=${id} data-status=${status} data-current=${current}>
    <h2 id=${id}>${COLUMNS[status]} <span class="count">${number(column.count)}</span></h2>
    <ol class="cards" aria-labelledby=${id}>
      ${jobs.map((job) => html`<${Card} key=${job.id} job=${job} />`)}
    </ol>
    ${!jobs.length && html`<p class="nothing">${filtered ? "Nothing that matches." : NOTHING[status]}</p>`}
    ${more > 0 && html`<a class="more-link" href=${withQuery("/#/jobs", { status, ...filter })}>${number(more)} more</a>`}
  </section>`;
}

const NOTHING = {
  triage: "Nothing to sort.",
  todo: "Nothing waits for another job.",
  ready: "Nothing waits for its turn.",
  running: "Nothing runs.",
  blocked: "Nothing needs help.",
  done: "Nothing is done yet.",
  archived: "Nothing was put away.",
};

function Card({ job }) {
  const state = stateOf(job);
  const crew = crews.value.get(job.crewId);
  const reason = job.column === "blocked" ? reasonOf(job) : "";
  const tellsMore = !["held", "queued", "running", "completed", "archived"].includes(state);
  return html`<li class="job-card" data-job=${job.id} data-tone=${look(state).tone}>
    <a class="card-title" href=${`/#/jobs/${job.id}`}>${job.title}</a>
    <p class="card-line">
      ${crew?.name
        ? html`<a class="crew-link" href=${`/#/crews/${job.crewId}`}><${Icon} name="crew" />${crew.name}</a>`
        : html`<span class="label">${labelsOf(job).join(", ")}</span>`}
      ${job.assignee && html`<span>${job.assignee}</span>`}
      ${job.attempt > 1 && html`<span title=${`Attempt ${job.attempt}`}>#${job.attempt}</span>`}
      <span class="card-time"><${Lasted} job=${job} /></span>
    </p>
    ${job.column === "running" && job.progress !== null && html`<progress class="progress" max="1" value=${job.progress}
      aria-label=${`Progress of ${job.title}`} title=${job.progressText || undefined}></progress>`}
    ${tellsMore && html`<p class="card-line"><${State} of=${state} /></p>`}
    ${reason && html`<p class="card-reason" title=${reason}>${reason}</p>`}
  </li>`;
}

function Lasted({ job }) {
  if (job.column === "running" && job.startedAt) return html`<${Running} since=${job.startedAt} />`;
  if (job.notBefore && !job.startedAt && Date.parse(job.notBefore) > Date.now()) return html`<${Ago} at=${job.notBefore} />`;
  if (job.endedAt) {
    return html`<${Fragment}>${job.runMs !== null && job.attempt > 0 && html`<span class="took">${roughly(job.runMs)} · </span>`}<${Ago} at=${job.endedAt} /><//>`;
  }
  return html`<${Ago} at=${job.createdAt} />`;
}

/** Tells a screen reader which jobs moved. Live cards would be read again at every change. */
function News() {
  const box = useRef(null);
  const before = useRef(null);
  useEffect(() => {
    const now = new Map(
      Object.entries(columns.value ?? {}).flatMap(([status, { jobs }]) => jobs.map((job) => [job.id, [status, job.title]])),
    );
    const old = before.current;
    before.current = now;
    if (!old || columns.value === null) return;
    const moved = [...now].filter(([id, [status]]) => old.has(id) && old.get(id)[0] !== status);
    if (!moved.length || !box.current) return;
    const said = moved.slice(0, 3).map(([, [status, title]]) => `${title}: ${COLUMNS[status]}`);
    box.current.textContent = said.join(". ") + (moved.length > 3 ? `, and ${moved.length - 3} more` : "");
  }, [columns.value]);
  return html`<p ref=${box} class="unseen" role="status" aria-live="polite"></p>`;
}
