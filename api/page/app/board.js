// The board: a column for each status, cards that move by themselves.

import { Fragment, html, signal, useEffect, useRef } from "../vendor/preact/preact.js";
import { Ago, Empty, Icon, Loading, Running, State, Title } from "./parts.js";
import { number, roughly } from "./format.js";
import { COLUMNS, reasonOf, stateOf } from "./states.js";
import { columns, crews, me, mineOnly, showMine } from "./store.js";

const ALWAYS = ["todo", "ready", "running", "blocked", "done"];

const wantedText = signal("");
const wantedCrew = signal("");
const withArchived = signal(false);
const shownTab = signal("running"); // on a phone one column is shown at a time

export function Board() {
  const board = columns.value;
  return html`<div class="room-head">
      <${Title} document="Board">Board<//>
      <${Filters} />
      <a class="button primary" href="/#/templates">Start a crew</a>
    </div>
    ${board === null ? html`<${Loading} what="Loading the board" />` : html`<${Columns} board=${board} />`}
    <${News} />`;
}

function Filters() {
  const known = boardCrews();
  return html`<form class="filters" role="search" aria-label="Filter the board" onSubmit=${(e) => e.preventDefault()}>
    <input type="search" aria-label="Filter by text" placeholder="Filter" value=${wantedText.value}
      onInput=${(e) => (wantedText.value = e.target.value)} />
    <select aria-label="Crew" value=${wantedCrew.value} onChange=${(e) => (wantedCrew.value = e.target.value)}>
      <option value="">All crews</option>
      ${known.map((crew) => html`<option key=${crew.id} value=${crew.id}>${crew.name || "Crew"}${crew.again ? ` · ${crew.again}` : ""}</option>`)}
    </select>
    ${me.value.isAdmin && html`<label class="check"><input type="checkbox" checked=${mineOnly.value}
      onChange=${(e) => showMine(e.target.checked)} /> Mine</label>`}
    <label class="check"><input type="checkbox" checked=${withArchived.value}
      onChange=${(e) => (withArchived.value = e.target.checked)} /> Archived</label>
  </form>`;
}

/** The crews that have jobs on the board; those of one name are numbered, newest first. */
function boardCrews() {
  const ids = new Set(Object.values(columns.value ?? {}).flatMap(({ jobs }) => jobs.map((job) => job.crewId)));
  if (wantedCrew.value) ids.add(wantedCrew.value);
  const found = [...ids].map((id) => crews.value.get(id)).filter(Boolean);
  found.sort((a, b) => (b.position ?? 0) - (a.position ?? 0));
  const times = new Map();
  for (const crew of found) times.set(crew.name, (times.get(crew.name) ?? 0) + 1);
  return found.map((crew) => ({
    ...crew,
    again: times.get(crew.name) > 1 && crew.createdAt ? crew.createdAt.slice(5, 16).replace("T", " ") : "",
  }));
}

function wanted(job) {
  if (wantedCrew.value && job.crewId !== wantedCrew.value) return false;
  const text = wantedText.value.trim().toLowerCase();
  if (!text) return true;
  const crew = crews.value.get(job.crewId)?.name ?? "";
  return [job.title, job.label, job.assignee, job.templateId, job.prompt, crew, job.id]
    .some((said) => said && said.toLowerCase().includes(text));
}

function Columns({ board }) {
  const shown = Object.keys(COLUMNS).filter(
    (status) =>
      ALWAYS.includes(status) ||
      (status === "archived" && withArchived.value) ||
      (status === "triage" && board.triage?.count),
  );
  const total = shown.reduce((sum, status) => sum + (board[status]?.count ?? 0), 0);
  const filtered = wantedText.value.trim() !== "" || wantedCrew.value !== "";
  if (!total && !filtered) {
    return html`<${Empty} title="There is no work yet.">
      <a href="/#/templates">Start a crew</a> from a template, <a href="/#/jobs">run a command</a>, or${" "}
      <a href="/#/schedules">make a schedule</a> that starts crews by itself.<//>`;
  }
  const tab = shown.includes(shownTab.value) ? shownTab.value : shown[0];
  return html`<div class="tabs" role="group" aria-label="Columns">
      ${shown.map((status) => html`<button key=${status} type="button" aria-pressed=${tab === status}
        onClick=${() => (shownTab.value = status)}>${COLUMNS[status]} <span class="count">${number(board[status]?.count ?? 0)}</span></button>`)}
    </div>
    <div class="board" data-columns=${shown.length}>
      ${shown.map((status) => html`<${Column} key=${status} status=${status} column=${board[status] ?? { count: 0, jobs: [] }}
        filtered=${filtered} current=${tab === status} />`)}
    </div>`;
}

function Column({ status, column, filtered, current }) {
  const jobs = column.jobs.filter(wanted);
  const more = column.count - column.jobs.length;
  const id = `column-${status}`;
  return html`<section class="column" aria-labelledby=${id} data-status=${status} data-current=${current}>
    <h2 id=${id}>${COLUMNS[status]} <span class="count">${filtered ? `${number(jobs.length)} of ${number(column.count)}` : number(column.count)}</span></h2>
    <ol class="cards" aria-labelledby=${id}>
      ${jobs.map((job) => html`<${Card} key=${job.id} job=${job} />`)}
    </ol>
    ${!jobs.length && html`<p class="nothing">${filtered && column.count ? "Nothing that matches." : NOTHING[status]}</p>`}
    ${more > 0 && html`<a class="more-link" href=${`/#/jobs?status=${status}`}>${number(more)} more</a>`}
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
  const reason = job.status === "blocked" ? reasonOf(job) : "";
  const tellsMore = !["todo", "ready", "running", "completed", "archived"].includes(state);
  return html`<li class="job-card" data-job=${job.id}>
    <a class="card-title" href=${`/#/jobs/${job.id}`}>${job.title}</a>
    <p class="card-line">
      ${crew?.name
        ? html`<a class="crew-link" href=${`/#/crews/${job.crewId}`}><${Icon} name="crew" />${crew.name}</a>`
        : html`<span class="label">${job.label}</span>`}
      ${job.assignee && html`<span>${job.assignee}</span>`}
      ${job.attempt > 1 && html`<span title=${`Attempt ${job.attempt}`}>#${job.attempt}</span>`}
      <span class="card-time"><${Lasted} job=${job} /></span>
    </p>
    ${job.status === "running" && job.progress !== null && html`<progress class="progress" max="1" value=${job.progress}
      aria-label=${`Progress of ${job.title}`} title=${job.progressHeadline || undefined}></progress>`}
    ${tellsMore && html`<p class="card-line"><${State} of=${state} /></p>`}
    ${reason && html`<p class="card-reason" title=${reason}>${reason}</p>`}
  </li>`;
}

function Lasted({ job }) {
  if (job.status === "running" && job.startedAt) return html`<${Running} since=${job.startedAt} />`;
  if (job.scheduledAt && !job.startedAt && Date.parse(job.scheduledAt) > Date.now()) return html`<${Ago} at=${job.scheduledAt} />`;
  if (job.completedAt) {
    return html`<${Fragment}>${job.runMs !== null && job.attempt > 0 && html`<span class="took">${roughly(job.runMs)} · </span>`}<${Ago} at=${job.completedAt} /><//>`;
  }
  return html`<${Ago} at=${job.createdAt} />`;
}

/** Says to a screen reader what moved; the cards themselves would be read over and over. */
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
