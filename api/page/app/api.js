// Requests to the server, and streams that resume.

import { signal } from "../vendor/preact/preact.js";

const TOKEN_KEY = "gitoma.api_token.v2";
const SILENCE_MS = 45_000; // three heartbeats missed: the connection is dead
const PATIENT_AFTER = 3; // failures in a row before the waits grow: a restart takes less time
const LONGEST_WAIT_MS = 15_000;
const WRONG_TOKEN = /^(Invalid authentication token|The token of a running attempt)/;

/** A request that failed. `message` is a sentence for a person; `status` is 0 without an answer. */
export class Problem extends Error {
  constructor(status, sentence, path = "", letGo = false) {
    super(sentence);
    this.status = status;
    this.path = path; // the wrong input, if the server names it
    this.letGo = letGo; // the page aborted the request
  }
}

export const NO_ANSWER = "The server does not answer.";

let token = sessionStorage.getItem(TOKEN_KEY) ?? "";
let clockSkewMs = 0;

/** Why the person was signed out, "" if by choice; null while signed in or before any sign-in. */
export const signedOut = signal(null);

let session = new AbortController(); // of the signed-in person

/** Abort all requests of this person: after the sign-out the server would refuse them. Later
 * requests are aborted too, until `anew`. */
export const letGo = () => session.abort();
export const anew = () => {
  session = new AbortController();
};

const bounded = (until) => (until ? AbortSignal.any([until, session.signal]) : session.signal);

export const hasToken = () => token !== "";
export const heldToken = () => token;

export function useToken(given) {
  token = given;
}

export function keepToken() {
  sessionStorage.setItem(TOKEN_KEY, token);
}

export function dropToken() {
  token = "";
  sessionStorage.removeItem(TOKEN_KEY);
}

const headers = (extra = {}) => (token ? { Authorization: `Bearer ${token}`, ...extra } : extra);

/** The time at the server, in milliseconds. */
export const now = () => Date.now() + clockSkewMs;

function readClock(response) {
  const skew = Date.parse(response.headers.get("date")) - Date.now();
  clockSkewMs = Math.abs(skew) > 2_000 ? skew : 0; // the header counts whole seconds
}

/** Fetch JSON; `body` is sent as JSON. The signal `until` aborts the request. Throws Problem. If
 * the server refuses the credentials, the person is signed out. */
export async function request(path, { method = "GET", body, headers: extra = {}, until = null } = {}) {
  const asked = token;
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  const signal = bounded(until);
  let response = null;
  try {
    response = await fetch(path, {
      method,
      headers: headers({ ...json, ...extra }),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
    readClock(response);
    if (response.ok) return response.status === 204 ? null : await response.json();
  } catch (error) {
    if (response === null || signal.aborted) throw new Problem(0, NO_ANSWER, "", signal.aborted);
    throw error;
  }
  const problem = await problemOf(response);
  if (isRefusal(problem) && token === asked) signedOut.value = refusal(problem);
  throw problem;
}

export const API = "/crewlog/v1"; // the page speaks nothing else

export const get = (path, until = null) => request(path, { until });

/** A list with the items of all its pages. `path` has no query. */
export async function whole(path, until = null) {
  const list = await get(path, until);
  while (list.cursor !== null) {
    const next = await get(query(path, { cursor: list.cursor }), until);
    list.items.push(...next.items);
    list.cursor = next.cursor;
  }
  return list;
}

export const post = (path, body, extra = {}) => request(path, { method: "POST", body, ...extra });
export const patch = (path, body) => request(path, { method: "PATCH", body });
export const remove = (path) => request(path, { method: "DELETE" });

/** `path` with the parts of a query that are not empty. */
export function query(path, parts) {
  const said = Object.entries(parts).filter(([, value]) => value || value === 0);
  return said.length ? `${path}?${new URLSearchParams(said)}` : path;
}

export const segment = encodeURIComponent;

async function problemOf(response) {
  let said = {};
  try {
    said = (await response.json()) ?? {};
  } catch {
    // A body that is not JSON has no message for people.
  }
  const { detail = said.error, errors = [] } = said;
  const { path = errors[0]?.path ?? "" } = said;
  const { status } = response;
  if (status === 422 && errors.length) {
    const named = errors.map((error) => `${called([null, ...error.path.split(/[.[\]]+/)])}: ${error.message}`);
    return new Problem(status, ended(`The server refused this. ${named.join("; ")}`), path);
  }
  if (typeof detail === "string") return new Problem(status, ended(detail), path);
  if (Array.isArray(detail)) {
    const named = detail.map(({ loc, msg }) => `${called(loc)}: ${msg}`);
    return new Problem(status, ended(`The server refused this. ${named.join("; ")}`), path);
  }
  return new Problem(status, `The server answered with status ${status}.`);
}

const CALLED = {
  argv: "Command", cwd: "Working directory", timeout_s: "Time limit", timeoutS: "Time limit", labels: "Label", displayName: "Name",
  expiresInDays: "Days until it expires", resolution: "Answer",
};

/** The name of the server's field for people: its label in the form, else its name in words. */
function called(loc) {
  const name = loc.slice(1).find((part) => typeof part === "string");
  if (name === undefined) return "The request";
  const words = name.replace(/([a-z])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase();
  return CALLED[name] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

export const ended = (sentence) => (/[.!?…]$/.test(sentence) ? sentence : `${sentence}.`);

const isRefusal = ({ status, message }) =>
  status === 401 || (status === 403 && token !== "" && WRONG_TOKEN.test(message));

function refusal({ status }) {
  if (status === 403) {
    return "The server does not accept this token. Compare it with the file token in the data directory.";
  }
  return "You were signed out. Sign in again to go on.";
}

/**
 * Server-Sent Events by fetch, because an EventSource cannot send a token. Resumes after a drop
 * with the last id seen, and waits longer after each failure. Closes its connection while the page
 * is hidden: a browser allows six for one server.
 *
 * `on` has `frames(list)` with `{id, event, data}` in order, `state("live" | "reconnecting")`, and
 * `closed(status)` when the server ends the stream for good (204, 400 or 404).
 */
export class EventStream {
  #url;
  #on;
  #lastId;
  #retryMs = 1_000;
  #failures = 0;
  #controller = null;
  #wake = null;
  #stopped = false;

  constructor(url, on, lastId = null) {
    this.#url = url;
    this.#on = on;
    this.#lastId = lastId;
    document.addEventListener("visibilitychange", this.#visibility);
    window.addEventListener("online", this.#hurry);
    this.#run();
  }

  get lastId() {
    return this.#lastId;
  }

  stop() {
    this.#stopped = true;
    document.removeEventListener("visibilitychange", this.#visibility);
    window.removeEventListener("online", this.#hurry);
    this.#controller?.abort();
    this.#hurry();
  }

  #hurry = () => this.#wake?.();

  #visibility = () => (document.hidden ? this.#controller?.abort() : this.#hurry());

  async #run() {
    while (!this.#stopped) {
      if (!document.hidden) {
        const over = await this.#connect();
        if (this.#stopped || over) return;
      }
      if (!document.hidden) this.#on.state("reconnecting");
      await this.#pause();
    }
  }

  /** Read one connection to its end. True if the stream must not be resumed. */
  async #connect() {
    this.#controller = new AbortController();
    const aborted = bounded(this.#controller.signal);
    const resume = this.#lastId === null ? {} : { "Last-Event-ID": this.#lastId };
    let silence = setTimeout(() => this.#controller.abort(), SILENCE_MS);
    try {
      const response = await fetch(this.#url, { headers: headers(resume), signal: aborted });
      if ([204, 400, 401, 403, 404].includes(response.status)) {
        await this.#close(response);
        return true;
      }
      if (!response.ok) throw new Problem(response.status, "");
      this.#on.state("live");
      const parse = this.#parser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done || this.#stopped) return false;
        clearTimeout(silence);
        silence = setTimeout(() => this.#controller.abort(), SILENCE_MS);
        this.#failures = 0;
        const frames = parse(value);
        if (frames.length) this.#on.frames(frames);
      }
    } catch {
      this.#failures += 1;
      return false;
    } finally {
      clearTimeout(silence);
      this.#controller.abort();
    }
  }

  async #close(response) {
    const problem = response.status === 204 ? { status: 204 } : await problemOf(response);
    if (this.#stopped) return;
    this.stop();
    if (isRefusal(problem)) signedOut.value = refusal(problem);
    else this.#on.closed(problem.status);
  }

  /** Makes a function from pieces of text to whole frames (WHATWG HTML 9.2.6; our server ends lines
   * with LF). */
  #parser() {
    let rest = "";
    let id = null;
    let event = "message";
    let data = [];
    return (piece) => {
      const lines = (rest + piece).split("\n");
      rest = lines.pop();
      const frames = [];
      for (const line of lines) {
        if (line === "") {
          // Only a whole frame counts as seen: the server sends a cut-off frame again.
          if (id !== null) this.#lastId = id;
          if (data.length) frames.push({ id, event, data: data.join("\n") });
          [data, event] = [[], "message"];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line.startsWith("id:")) {
          id = line.slice(3).trim();
        } else if (line.startsWith("event:")) {
          event = line.slice(6).trim();
        } else if (line.startsWith("retry:")) {
          this.#retryMs = Number(line.slice(6)) || this.#retryMs;
        }
      }
      return frames;
    };
  }

  #pause() {
    const doubled = Math.max(0, this.#failures - PATIENT_AFTER);
    const base = Math.min(this.#retryMs * 2 ** doubled, LONGEST_WAIT_MS);
    const wait = document.hidden ? 2 ** 30 : base * (0.75 + Math.random() / 2);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Runs `work` soon after `ask`: once for a burst, and never twice at a time. `told` gets the
 * Problem of each run, or null. Without an answer or after a server error, it tries again. */
export class Coalesced {
  #work;
  #told;
  #gapMs;
  #timer = null;
  #busy = false;
  #again = false;
  #stopped = false;

  constructor(work, told = () => {}, gapMs = 300) {
    this.#work = work;
    this.#told = told;
    this.#gapMs = gapMs;
  }

  ask(waitMs = this.#gapMs) {
    if (this.#stopped) return;
    if (this.#busy) this.#again = true;
    else this.#timer ??= setTimeout(() => this.#go(), waitMs);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #go() {
    this.#timer = null;
    this.#busy = true;
    let failed = null;
    try {
      await this.#work();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      failed = problem;
    } finally {
      this.#busy = false;
    }
    if (this.#stopped) return;
    if (!failed?.letGo) this.#told(failed);
    const worthIt = failed && !failed.letGo && (failed.status === 0 || failed.status >= 500);
    if (worthIt) this.ask(2_000);
    else if (this.#again) this.ask();
    this.#again = false;
  }
}
