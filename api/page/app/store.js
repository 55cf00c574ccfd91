// The page's data. One stream says which jobs and approvals changed; the views say how.

import { batch, computed, effect, signal } from "../vendor/preact/preact.js";
import {
  API, Coalesced, EventStream, Problem, anew, dropToken, get, hasToken, keepToken, letGo, post, query, request, segment,
  signedOut, useToken,
} from "./api.js";

const COLUMN_LIMIT = 50; // jobs of a column that the board shows
const FEW = 6; // most changed jobs that are fetched; for more, the whole board is
const EVERY_MS = 300;
const SEARCH_EVERY_MS = 1_500; // the server searches the text in every job
const API_TOKEN = /^crewlog_u_[\x21-\x7e]*$/; // a header allows no other characters
const INBOX = 100; // approvals of a page
const PROGRESS_MS = 10_000;

/** The signed-in person: undefined until known, null for nobody. */
export const me = signal(undefined);
export const connection = signal("connecting");
/** A sentence across the page, "" for none. */
export const notice = signal("");
/** The columns of the board, by status: {count, waitsForPerson, jobs}; null until loaded. Changes do
 * not move `waitsForPerson`: it is read when the board opens. */
export const columns = signal(null);
/** The filter of the board. The server searches all jobs. */
export const sought = signal({ text: "", crew: "", mine: false });
/** The filter that the columns were loaded with. */
export const found = signal(null);
/** The crews that were needed so far, by id. */
export const crews = signal(new Map());
/** The newest pending approvals; null until loaded. */
export const pending = signal(null);
/** The number of all pending approvals. */
export const waitingCount = signal(0);
/** Ticks once a second while the page is visible. */
export const second = signal(0);

export const ownerId = computed(() => {
  const { id } = me.value ?? {};
  return id === undefined || id === "operator" ? "operator" : `user:${id}`;
});

const listeners = new Set();
let stream = null;
let inbox = INBOX; // most approvals that are shown
let changed = new Map(); // job id -> types of its events since the board was last updated

/** Listen to changes: `listener({jobs, approvals})` gets the ids of jobs, and whether any approval
 * changed; `{all: true}` after a lost connection. Returns a function that stops listening. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = (change) => listeners.forEach((listener) => listener(change));

const oops = (problem) => {
  notice.value = problem ? `${problem.message} Trying again.` : "";
};

const boardLoad = new Coalesced(catchUp, oops, EVERY_MS);
const approvalLoad = new Coalesced(loadPending, () => {}, EVERY_MS);
const crewLoad = new Coalesced(loadCrews, () => {}, 50);

// Signing in and out

/** Find out who is signed in, by this tab's token or the session's cookie. `why` is the message if
 * nobody is. */
export async function begin(why = "") {
  try {
    const profile = await get("/auth/me");
    if (profile) enter(profile);
    else leave(hasToken() ? "The server does not accept this token. It may be another one by now." : why);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    notice.value = `${problem.message} Trying again.`;
    setTimeout(() => begin(why), 2_000);
  }
}

/** Sign in with the code of the link that the server printed. If the code is not valid, a signed-in
 * person stays signed in. */
export async function signInWithLink(code) {
  try {
    const profile = await post("/auth/link", { code });
    dropToken();
    if (me.peek()) leave("");
    enter(profile);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (!me.peek()) await begin(problem.message);
  }
}

export async function signInWithPassword(email, password) {
  dropToken();
  enter(await request("/auth/login", { method: "POST", body: { email, password } }));
}

/** The server's token begins a session; this tab keeps an API token. Throws Problem with a sentence
 * if the server does not accept the token. */
export async function signInWithToken(given) {
  if (API_TOKEN.test(given)) return signInWithApiToken(given);
  dropToken();
  try {
    return enter(await post("/auth/token", { token: given }));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    throw problem.status === 403 || problem.status === 422 ? wrongToken() : explained(problem);
  }
}

/** The server's message about its missing token, in words for people. */
function explained(problem) {
  if (problem.status !== 503 || !/not configured/.test(problem.message)) return problem;
  return new Problem(503, "The server has no token, so this way in is closed. Set CREWLOG_TOKEN and start it again.");
}

async function signInWithApiToken(given) {
  useToken(given);
  try {
    const profile = await get("/auth/me");
    // `/auth/me` does not say why a token is refused; a route that needs sign-in does.
    if (!profile) await get(`${API}/projections`);
    if (!profile) throw wrongToken();
    keepToken();
    enter(profile);
  } catch (problem) {
    dropToken();
    signedOut.value = null;
    throw problem.status === 403 ? wrongToken() : problem;
  }
}

const wrongToken = () =>
  new Problem(403, "The server does not accept this token. Compare it with the file token in the data directory.");

export async function signOut() {
  const held = hasToken();
  letGo();
  dropToken();
  if (!held) {
    try {
      await fetch("/auth/logout", { method: "POST", redirect: "manual" });
    } catch {
      // The cookie stays; the sign-in page says that the server does not answer.
    }
  }
  leave("");
}

function enter(profile) {
  batch(() => {
    signedOut.value = null;
    notice.value = "";
    connection.value = "connecting";
    me.value = profile;
  });
  boardLoad.ask(0);
  approvalLoad.ask(0);
  crewLoad.ask();
}

function leave(why) {
  stream?.stop();
  stream = null;
  letGo();
  anew();
  dropToken();
  changed = new Map();
  batch(() => {
    me.value = null;
    columns.value = null;
    pending.value = null;
    waitingCount.value = 0;
    crews.value = new Map();
    signedOut.value = why;
  });
}

effect(() => {
  const why = signedOut.value;
  if (why && me.peek()) leave(why);
});

// The stream

function watch(position) {
  stream = new EventStream(
    `${API}/events/stream`,
    {
      frames: take,
      state: (state) => {
        const back = state === "live" && connection.peek() === "reconnecting";
        connection.value = state;
        if (back) tell({ all: true });
      },
      closed: () => {
        // The server has a different log now: begin again.
        stream = null;
        connection.value = "reconnecting";
        columns.value = null;
        setTimeout(() => me.peek() && boardLoad.ask(0), 1_000);
        tell({ all: true });
      },
    },
    String(position),
  );
}

function take(frames) {
  const jobs = new Set();
  let approvals = false;
  for (const { event, data } of frames) {
    const { stream: about, data: said } = JSON.parse(data);
    if (event.startsWith("approval.")) approvals = true;
    const jobId = event.startsWith("job.") ? about.split("/")[0].slice("job-".length) : said.job;
    if (!jobId) continue;
    jobs.add(jobId);
    changed.set(jobId, [...(changed.get(jobId) ?? []), event]);
  }
  if (!jobs.size && !approvals) return;
  boardLoad.ask(narrowed() ? SEARCH_EVERY_MS : EVERY_MS);
  if (approvals) approvalLoad.ask(50);
  tell({ jobs, approvals });
}

// The board

async function catchUp() {
  if (!me.peek()) return;
  if (columns.peek() === null || found.peek() !== sought.peek()) return loadBoard();
  const news = changed;
  changed = new Map();
  const strangers = [...news].some(([id, kinds]) => !held(id) && !kinds.includes("job.submitted"));
  try {
    // Only the server can say whether a job matches the filter.
    if (news.size > FEW || strangers || narrowed()) await loadBoard();
    else apply(await fetchJobs([...news.keys()]));
  } catch (problem) {
    for (const [id, kinds] of news) changed.set(id, [...kinds, ...(changed.get(id) ?? [])]);
    throw problem;
  }
}

async function loadBoard() {
  const asked = sought.peek();
  const { text, crew, mine } = asked;
  const board = await get(query(`${API}/board`, { limit: COLUMN_LIMIT, text, crew, mine: mine || "" }));
  if (!me.peek() || asked !== sought.peek()) return;
  batch(() => {
    found.value = asked;
    columns.value = Object.fromEntries(
      board.columns.map(({ name, ...column }) => [name, column]),
    );
  });
  needCrews(board.columns.flatMap(({ jobs }) => jobs));
  if (!stream) watch(board.position);
}

const narrowed = () => Boolean(sought.peek().text || sought.peek().crew);

/** Change the filter of the board. With `close`, the old jobs stay until the new ones come. */
export function seek(changes, { close = true } = {}) {
  const before = sought.peek();
  if (Object.entries(changes).every(([name, wanted]) => before[name] === wanted)) return;
  batch(() => {
    sought.value = { ...before, ...changes };
    if (!close) columns.value = null;
  });
  if (changes.crew && !crews.peek().has(changes.crew)) crewLoad.ask();
  boardLoad.ask(0);
}

/** Each id with its job, or null if the job does not exist any more. */
async function fetchJobs(ids) {
  const { items } = await get(query(`${API}/jobs`, { ids: ids.join(",") }));
  return ids.map((id) => [id, items.find((job) => job.id === id) ?? null]);
}

function held(id) {
  return Object.values(columns.peek() ?? {}).some(({ jobs }) => jobs.some((job) => job.id === id));
}

/** Move jobs to their columns; newest first, as on the server. */
function apply(jobs) {
  const next = Object.fromEntries(
    Object.entries(columns.peek()).map(([status, column]) => [status, { ...column, jobs: [...column.jobs] }]),
  );
  for (const [id, job] of jobs) {
    for (const column of Object.values(next)) {
      const at = column.jobs.findIndex((one) => one.id === id);
      if (at < 0) continue;
      column.jobs.splice(at, 1);
      column.count -= 1;
    }
    if (!job || (sought.peek().mine && job.ownerId !== ownerId.peek())) continue;
    const column = (next[job.column] ??= { count: 0, jobs: [] });
    const at = column.jobs.findIndex((one) => one.position < job.position);
    column.jobs.splice(at < 0 ? column.jobs.length : at, 0, job);
    column.count += 1;
  }
  columns.value = next;
  needCrews(jobs.map(([, job]) => job).filter(Boolean));
}

// Crews and approvals

function needCrews(jobs) {
  if (jobs.some((job) => job.crewId && !crews.peek().has(job.crewId))) crewLoad.ask();
}

async function loadCrews() {
  const known = new Map(crews.peek());
  for (const crew of (await get(`${API}/crews?limit=100`)).items) known.set(crew.id, crew);
  const jobs = Object.values(columns.peek() ?? {}).flatMap((column) => column.jobs);
  const needed = [sought.peek().crew, ...jobs.map((job) => job.crewId)];
  const missing = new Set(needed.filter((id) => id && !known.has(id)));
  for (const id of missing) {
    // A crew that cannot be loaded is kept without a name, so it is not requested again.
    known.set(id, await get(`${API}/crews/${segment(id)}`).catch(() => ({ id, name: "" })));
  }
  crews.value = known;
}

async function loadPending() {
  if (!me.peek()) return;
  const items = [];
  let page = { cursor: null };
  do {
    page = await get(query(`${API}/approvals`, { state: "pending", limit: INBOX, cursor: page.cursor }));
    items.push(...page.items);
  } while (page.cursor && items.length < inbox);
  batch(() => {
    pending.value = items;
    waitingCount.value = page.count;
  });
}

export function showMoreApprovals() {
  inbox += INBOX;
  approvalLoad.ask(0);
}

/** Remove an answered approval before the stream announces it. */
export function answered(id) {
  batch(() => {
    const left = (pending.peek() ?? []).filter((one) => one.id !== id);
    waitingCount.value -= (pending.peek() ?? []).length - left.length;
    pending.value = left;
  });
}

setInterval(() => {
  if (!document.hidden && me.peek()) second.value += 1;
}, 1_000);

// The stream leaves out progress, of which there may be a lot, so running jobs are polled.
setInterval(async () => {
  if (document.hidden || !me.peek() || connection.peek() !== "live") return;
  const moving = (columns.peek()?.running?.jobs ?? []).filter((job) => job.progress !== null);
  if (!moving.length || moving.length > FEW) return;
  const jobs = await Promise.all(moving.map(({ id }) => fetchJob(id))).catch(() => []);
  if (columns.peek() && jobs.length) apply(jobs);
}, PROGRESS_MS);
