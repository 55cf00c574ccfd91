// The page of crewlog: the jobs, one job with its live output, and a form to run a command.
//
// Nothing is polled for news: one stream of the log says that something happened, and the views
// say what. Text from outside only ever becomes the text of a node, never markup.

const TOKEN_KEY = "gitoma.api_token.v2";
const LIFE =
  "job.submitted,job.queued,job.started,job.finished,job.cancel_requested,job.archived,job.deleted";
const PAGE = 50; // jobs that "load more" adds
const MOST_JOBS = 1_000; // jobs that the list shows at most
const SHOWN_LINES = 5_000; // lines in the document at a time
const HELD_LINES = 200_000; // lines that this page keeps
const SILENCE_MS = 45_000; // three heartbeats missed: the connection is dead
const PATIENT_AFTER = 3; // failures in a row, after which the waits grow: a restart is quicker
const LONGEST_WAIT_MS = 15_000;
const STATUS_MS = 5_000;

const STATES = {
  queued: "queued",
  running: "running",
  waiting_for_approval: "waiting for approval",
  review: "in review",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
  timed_out: "timed out",
  cancelling: "cancelling",
};
const ICONS = { waiting_for_approval: "waiting", review: "waiting", cancelling: "cancelled" };
const FILTERS = {
  "": "All",
  queued: "Queued",
  running: "Running",
  completed: "Completed",
  failed: "Failed",
  timed_out: "Timed out",
  cancelled: "Cancelled",
  archived: "Archived",
};

const $ = (id) => document.getElementById(id);

/** An element with attributes, classes and children; a child is a node or plain text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set text only where it differs, so that selections and screen readers are left in peace. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A request that failed. `message` is a sentence for a person, `status` 0 where none answered. */
class Problem extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

const NO_ANSWER = "The server does not answer.";

let token = sessionStorage.getItem(TOKEN_KEY) ?? "";
let clockSkewMs = 0;

function headers(extra = {}) {
  return { Authorization: `Bearer ${token}`, ...extra };
}

/** Fetch JSON. Throws Problem; a refused token also brings the sign-in back. */
async function request(path, options = {}) {
  const asked = token;
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch {
    throw new Problem(0, NO_ANSWER);
  }
  readClock(response);
  if (response.ok) return response.json();
  const problem = new Problem(response.status, await sentenceOf(response));
  if (isRefusal(response.status) && token === asked) signOut(refusal(response.status));
  throw problem;
}

async function sentenceOf(response) {
  let detail;
  try {
    detail = (await response.json()).detail;
  } catch {
    // A body that is no JSON says nothing for people.
  }
  if (typeof detail === "string") return ended(detail);
  if (Array.isArray(detail)) {
    const said = detail.map(({ loc, msg }) => `${loc.slice(1).join(".") || "request"}: ${msg}`);
    return ended(`The server refused this. ${said.join("; ")}`);
  }
  return `The server answered with status ${response.status}.`;
}

const ended = (sentence) => (/[.!?]$/.test(sentence) ? sentence : `${sentence}.`);

const isRefusal = (status) => status === 401 || status === 403;

function refusal(status) {
  return status === 403
    ? "The server does not accept this token. Compare it with the file token in the data directory."
    : "The server asks for a token.";
}

function readClock(response) {
  const skew = Date.parse(response.headers.get("date")) - Date.now();
  clockSkewMs = Math.abs(skew) > 2_000 ? skew : 0; // the header counts whole seconds
}

const now = () => Date.now() + clockSkewMs;

/**
 * Server-Sent Events by fetch, because an EventSource cannot send a token. Resumes after a drop
 * with the last id seen, waits longer each time it fails, and lets go of its connection while the
 * page is hidden: a browser has six for one server.
 *
 * `on` has `frames(list)` with `{id, data}` in order, `state("live" | "reconnecting")`, and
 * `closed(status)` when the server will say no more (204, 400 or 404; 401 and 403 sign out).
 */
class EventStream {
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

  /** Read one connection to its end. True when there is nothing to come back for. */
  async #connect() {
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    const resume = this.#lastId === null ? {} : { "Last-Event-ID": this.#lastId };
    let silence = setTimeout(() => this.#controller.abort(), SILENCE_MS);
    try {
      const response = await fetch(this.#url, { headers: headers(resume), signal });
      if ([204, 400, 404].includes(response.status) || isRefusal(response.status)) {
        this.#close(response.status);
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

  #close(status) {
    const closed = this.#on.closed;
    this.stop();
    if (isRefusal(status)) signOut(refusal(status));
    else closed(status);
  }

  /** A function from pieces of text to whole frames (WHATWG HTML 9.2.6; our server ends lines with LF). */
  #parser() {
    let rest = "";
    let id = null;
    let data = [];
    return (piece) => {
      const lines = (rest + piece).split("\n");
      rest = lines.pop();
      const frames = [];
      for (const line of lines) {
        if (line === "") {
          // Only a whole frame counts as seen: a frame cut off by a drop comes again.
          if (id !== null) this.#lastId = id;
          if (data.length) frames.push({ id, data: data.join("\n") });
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line.startsWith("id:")) {
          id = line.slice(3).trim();
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

/** Runs `work` soon after it was asked for: once for a burst, and never twice at a time. */
class Coalesced {
  #work;
  #gapMs;
  #timer = null;
  #busy = false;
  #again = false;

  constructor(work, gapMs = 200) {
    this.#work = work;
    this.#gapMs = gapMs;
  }

  ask(waitMs = this.#gapMs) {
    if (this.#busy) this.#again = true;
    else this.#timer ??= setTimeout(() => this.#go(), waitMs);
  }

  async #go() {
    this.#timer = null;
    this.#busy = true;
    let failed = false;
    try {
      await this.#work();
      showNotice("");
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      failed = token !== "";
      if (failed) showNotice(`${problem.message} Trying again.`);
    } finally {
      this.#busy = false;
    }
    if (failed) this.ask(2_000);
    else if (this.#again) this.ask();
    this.#again = false;
  }
}

const numbers = new Intl.NumberFormat("en");
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clocks = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });

function ago(at) {
  const seconds = Math.max(0, Math.floor((now() - Date.parse(at)) / 1000));
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ago`;
  if (seconds < 7 * 86_400) return `${Math.floor(seconds / 86_400)} d ago`;
  return days.format(new Date(at));
}

function duration(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1_000)} s`;
  const hours = `${Math.floor(minutes / 60)} h`;
  return minutes % 60 ? `${hours} ${minutes % 60} min` : hours;
}

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

const counted = (count, one, many = `${one}s`) => `${numbers.format(count)} ${count === 1 ? one : many}`;

const isOver = (job) => job.outcome !== null;

function stateOf(job) {
  if (isOver(job)) return job.outcome;
  return job.cancelRequestedAt ? "cancelling" : job.state;
}

function failure(job) {
  if (!job.failureReason) return "";
  return ended(job.failureReason) + (job.errorId ? ` Error id ${job.errorId}.` : "");
}

function runTime(job) {
  if (job.runMs !== null) return job.attempt ? duration(job.runMs) : "";
  if (!job.startedAt || isOver(job)) return "";
  const ms = Math.max(0, now() - Date.parse(job.startedAt));
  return ms < 60_000 ? `${Math.floor(ms / 1000)} s` : duration(ms);
}

/** A state as an icon and a word, so that colour is never the only sign. */
function showState(element, state) {
  if (element.dataset.state === state) return;
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  icon.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${ICONS[state] ?? state}`);
  icon.append(use);
  element.className = "state";
  element.dataset.state = state;
  element.replaceChildren(icon, STATES[state] ?? state);
}

function showTime(element, at, text) {
  if (element.getAttribute("datetime") !== at) {
    element.setAttribute("datetime", at);
    element.title = moments.format(new Date(at));
  }
  say(element, text);
}

function showNotice(sentence) {
  say($("notice"), sentence);
  $("notice").hidden = !sentence;
}

/** Split a line into words at blanks as a shell does: quotes group, a backslash takes one
 * character as it is. Throws Problem for a quote or a backslash that is left open. */
function wordsOf(line) {
  const words = [];
  let word = null;
  let quote = "";
  for (let i = 0; i < line.length; i += 1) {
    const character = line[i];
    if (character === "\\" && quote !== "'") {
      const next = line[(i += 1)];
      if (next === undefined) throw new Problem(0, "The line ends with a backslash.");
      // Within double quotes a backslash only escapes what would be special there.
      word = (word ?? "") + (quote && !'"\\$`'.includes(next) ? `\\${next}` : next);
    } else if (quote) {
      if (character === quote) quote = "";
      else word += character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= "";
    } else if (/\s/.test(character)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? "") + character;
    }
  }
  if (quote) throw new Problem(0, `A quote (${quote}) is not closed.`);
  if (word !== null) words.push(word);
  if (!words.length || !words[0].trim()) throw new Problem(0, "Write the command to run.");
  return words;
}

/** Words as they are passed on, each in a frame of its own, so that no quoting needs explaining. */
const codes = (words) => words.flatMap((word) => [make("code", {}, word || "(empty)"), " "]);

const looksLikeShell = (words) =>
  words.length > 0 && words.some((word) => /^(\||\|\||&&?|;|[0-9]?>>?|<)$|^[$~]/.test(word));

function newKey() {
  // randomUUID exists only in secure contexts, and a server in the house network is none.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

class RunForm {
  #hint = [...$("command-read").childNodes];
  #attempt = { body: "", key: "" };

  constructor() {
    $("command").addEventListener("input", () => this.#preview());
    $("run-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  #preview() {
    say($("run-error"), "");
    const line = $("command").value;
    if (!line.trim()) {
      $("command-read").replaceChildren(...this.#hint);
      return;
    }
    try {
      const words = wordsOf(line);
      const shown = codes(words);
      if (looksLikeShell(words)) {
        const caution = "There is no shell: this is passed on as it is. Use sh -c '…' for it.";
        shown.push(make("span", { class: "caution" }, caution));
      }
      $("command-read").replaceChildren(`${counted(words.length, "word")}: `, ...shown);
    } catch (problem) {
      say($("command-read"), problem.message);
    }
  }

  async #submit() {
    const button = $("run-form").querySelector("[type=submit]");
    button.disabled = true;
    say($("run-error"), "");
    try {
      const job = await this.#send(JSON.stringify(this.#work()));
      this.#clear();
      location.hash = `#/jobs/${job.id}`;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      say($("run-error"), problem.message);
    } finally {
      button.disabled = false;
    }
  }

  #work() {
    const work = { argv: wordsOf($("command").value) };
    const given = (id) => $(id).value.trim();
    if (given("run-title")) work.title = given("run-title");
    if (given("run-cwd")) work.cwd = given("run-cwd");
    if (given("run-label")) work.labels = [given("run-label")];
    if (given("run-timeout")) work.timeout_s = Number(given("run-timeout"));
    return work;
  }

  #send(body) {
    // The same work sent again after a lost answer has the same key, and makes no second job.
    if (this.#attempt.body !== body) this.#attempt = { body, key: newKey() };
    return request("/api/jobs", {
      method: "POST",
      body,
      headers: { "Content-Type": "application/json", "Idempotency-Key": this.#attempt.key },
    });
  }

  #clear() {
    this.#attempt = { body: "", key: "" };
    $("run-form").reset();
    this.#preview();
  }
}

class ListPage {
  #filter = "";
  #wanted = PAGE;
  #rows = new Map();
  #shown = [];
  #refresh = new Coalesced(() => this.#load());

  constructor() {
    for (const [filter, name] of Object.entries(FILTERS)) {
      const href = filter ? `#/?state=${filter}` : "#/";
      $("filters").append(make("a", { href, "data-filter": filter }, name));
    }
    $("load-more").addEventListener("click", () => {
      this.#wanted = Math.min(this.#wanted + PAGE, MOST_JOBS);
      $("load-more").disabled = true;
      this.#refresh.ask(0);
    });
  }

  open(filter) {
    this.#filter = filter in FILTERS ? filter : "";
    this.#wanted = PAGE;
    for (const link of $("filters").children) {
      if (link.dataset.filter === this.#filter) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    $("list-page").hidden = false;
    document.title = "Jobs · crewlog";
    this.#refresh.ask(0);
  }

  close() {
    $("list-page").hidden = true;
  }

  changed() {
    if (!$("list-page").hidden) this.#refresh.ask();
  }

  /** Lines of running jobs grow without an event in the stream of lives. */
  status() {
    if (this.#shown.some((job) => !isOver(job))) this.changed();
  }

  tick() {
    for (const job of this.#shown) this.#times(job, this.#rows.get(job.id));
  }

  async #load() {
    const [filter, wanted] = [this.#filter, this.#wanted];
    const jobs = [];
    let cursor = null;
    let hasMore = true;
    while (hasMore && jobs.length < wanted) {
      const page = await request(`/api/jobs?${this.#query(filter, wanted - jobs.length, cursor)}`);
      jobs.push(...page.items);
      ({ cursor, hasMore } = page);
    }
    if (filter !== this.#filter) this.#refresh.ask(0);
    else this.#show(jobs, hasMore);
  }

  #query(filter, limit, cursor) {
    const query = new URLSearchParams({ limit: Math.min(limit, 100) });
    query.set("archived", filter === "archived");
    if (filter && filter !== "archived") query.set("state", filter);
    if (cursor !== null) query.set("cursor", cursor);
    return query;
  }

  #show(jobs, hasMore) {
    const kept = new Map();
    for (const job of jobs) {
      const row = this.#rows.get(job.id) ?? this.#row(job);
      this.#fill(row, job);
      kept.set(job.id, row);
    }
    for (const [id, row] of this.#rows) if (!kept.has(id)) row.item.remove();
    this.#rows = kept;
    this.#shown = jobs;
    [...kept.values()].forEach(({ item }, index) => {
      const there = $("jobs").children[index];
      if (there !== item) $("jobs").insertBefore(item, there ?? null);
    });
    say($("list-empty"), this.#filter ? "No job is in this state." : "No job yet. Run a command above.");
    $("list-empty").hidden = jobs.length > 0;
    $("load-more").disabled = false;
    $("load-more").hidden = !hasMore || this.#wanted >= MOST_JOBS;
  }

  #row(job) {
    const part = (tag, name) => make(tag, { class: name });
    const row = {
      state: make("span"),
      title: part("span", "title"),
      label: part("span", "label"),
      when: part("time", "when"),
      took: part("span", "took number"),
      count: make("span"),
      unit: part("span", "unit"),
    };
    row.item = make(
      "li",
      {},
      make(
        "a",
        { href: `#/jobs/${job.id}` },
        make("span", { class: "state-cell" }, row.state),
        row.title,
        row.label,
        row.when,
        row.took,
        make("span", { class: "count number" }, row.count, row.unit),
      ),
    );
    return row;
  }

  #fill(row, job) {
    showState(row.state, stateOf(job));
    say(row.title, job.title);
    row.title.title = job.prompt;
    say(row.label, job.label);
    say(row.count, numbers.format(job.lines));
    say(row.unit, job.lines === 1 ? " line" : " lines");
    this.#times(job, row);
  }

  #times(job, row) {
    showTime(row.when, job.createdAt, ago(job.createdAt));
    say(row.took, runTime(job));
  }
}

// Colours and cursor movements of terminals mean nothing here; other controls are made visible.
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

function printable(line) {
  return line
    .replace(ESCAPES, "")
    .replace(CONTROLS, (c) => String.fromCharCode(c === "\x7f" ? 0x2421 : 0x2400 + c.charCodeAt(0)));
}

/**
 * Lines of output, of which the document holds a window. While following, the window is the last
 * lines; otherwise it stays where the reader is. Drawn at most once a frame, and less often when
 * drawing is slow, so a job that writes without end leaves the page usable.
 */
class OutputView {
  #box = $("output");
  #lines = [];
  #gone = 0; // lines before #lines[0], which this page holds no more
  #from = 0; // the window, as numbers of lines: from this one
  #to = 0; // up to, without, this one
  #follow = true;
  #lastTop = 0;
  #drawing = false;

  constructor() {
    $("follow").addEventListener("change", () => this.#setFollow($("follow").checked));
    $("wrap").addEventListener("change", () => {
      this.#box.classList.toggle("wrap", $("wrap").checked);
      this.#toEnd();
    });
    $("later").addEventListener("click", () => this.#setFollow(true));
    $("earlier").addEventListener("click", () => this.#earlier());
    this.#box.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#toEnd()).observe(this.#box);
  }

  reset() {
    this.#lines = [];
    this.#gone = this.#from = this.#to = 0;
    this.#box.replaceChildren();
    this.#setFollow(true);
  }

  add(lines) {
    for (const line of lines) this.#lines.push(line);
    if (this.#lines.length > HELD_LINES * 1.25) {
      const over = this.#lines.length - HELD_LINES;
      this.#lines = this.#lines.slice(over);
      this.#gone += over;
    }
    this.#draw();
  }

  get #total() {
    return this.#gone + this.#lines.length;
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      const started = performance.now();
      this.#place();
      this.#toEnd();
      const cost = performance.now() - started;
      setTimeout(() => {
        this.#drawing = false;
        if (this.#follow && this.#to < this.#total) this.#draw();
      }, cost > 12 ? 5 * cost : 0);
    });
  }

  #place() {
    if (this.#follow) this.#show(Math.max(this.#gone, this.#total - SHOWN_LINES), this.#total);
    else {
      const from = Math.max(this.#from, this.#gone);
      this.#show(from, Math.min(this.#total, from + SHOWN_LINES));
    }
  }

  /** Make the document hold the lines `from` to `to`, keeping what is there already. */
  #show(from, to) {
    if (from >= this.#to || from < this.#from) {
      this.#box.replaceChildren(this.#fragment(from, to));
    } else {
      for (let n = this.#from; n < from; n += 1) this.#box.firstChild.remove();
      if (to > this.#to) this.#box.append(this.#fragment(this.#to, to));
    }
    this.#from = from;
    this.#to = to;
    this.#tell();
  }

  #fragment(from, to) {
    const fragment = document.createDocumentFragment();
    for (let n = from; n < to; n += 1) {
      const line = document.createElement("div");
      line.textContent = printable(this.#lines[n - this.#gone]);
      if (n === 0) line.className = "prompt";
      fragment.append(line);
    }
    return fragment;
  }

  #tell() {
    // Line 0 is the command, which is not output.
    const [last, total] = [Math.max(0, this.#to - 1), Math.max(0, this.#total - 1)];
    const all = this.#from === 0 && last === total;
    const range = `Lines ${numbers.format(this.#from || 1)} to ${numbers.format(last)} of ${numbers.format(total)}`;
    const gone = this.#gone && this.#from === this.#gone ? "; earlier ones are in the log only" : "";
    say($("output-range"), all ? counted(total, "line") : range + gone);
    $("earlier").hidden = this.#from <= this.#gone;
    $("later").hidden = this.#follow || (this.#to === this.#total && this.#total <= SHOWN_LINES);
  }

  #earlier() {
    this.#setFollow(false);
    const from = Math.max(this.#gone, this.#from - SHOWN_LINES / 2);
    const shift = this.#from - from;
    this.#show(from, Math.min(this.#total, from + SHOWN_LINES));
    // What was at the top stays where the eye is.
    const anchor = this.#box.children[shift];
    if (anchor) this.#box.scrollTop = anchor.offsetTop - this.#box.firstChild.offsetTop;
    this.#lastTop = this.#box.scrollTop;
    this.#box.focus({ preventScroll: true });
  }

  #setFollow(follow) {
    this.#follow = follow;
    $("follow").checked = follow;
    if (follow) this.#draw();
    else this.#tell();
  }

  #toEnd() {
    if (!this.#follow) return;
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#lastTop = this.#box.scrollTop;
  }

  /** Scrolling up stops following; coming back to the end takes it up again. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 4;
    if (this.#follow && scrollTop < this.#lastTop - 2 && !atEnd) this.#setFollow(false);
    else if (!this.#follow && atEnd && scrollTop > this.#lastTop && this.#to === this.#total) {
      this.#setFollow(true);
    }
    this.#lastTop = scrollTop;
  }
}

const SENTINEL = "__END__:";
const NONE = "–"; // a fact that is not there yet keeps its row, so nothing moves when it comes

class JobPage {
  #id = null;
  #job = null;
  #stream = null;
  #output = new OutputView();
  #seen = 0; // position of the last entry of the timeline
  #refresh = new Coalesced(() => this.#load());

  constructor() {
    $("cancel").addEventListener("click", () => $("cancel-dialog").showModal());
    $("cancel-no").addEventListener("click", () => $("cancel-dialog").close());
    $("cancel-yes").addEventListener("click", () => this.#cancel());
  }

  open(id) {
    this.#id = id;
    this.#job = null;
    this.#seen = 0;
    $("timeline").replaceChildren();
    $("facts").replaceChildren();
    for (const name of ["cancel", "job-missing"]) $(name).hidden = true;
    $("job-body").hidden = false;
    for (const name of ["job-said", "job-reason"]) say($(name), "");
    say($("job-title"), "…");
    $("job-state").className = "";
    delete $("job-state").dataset.state;
    $("job-state").replaceChildren();
    document.title = "Job · crewlog";
    $("job-page").hidden = false;
    this.#output.reset();
    this.#follow();
    this.#refresh.ask(0);
  }

  close() {
    this.#id = this.#job = null;
    this.#stream?.stop();
    this.#stream = null;
    if ($("cancel-dialog").open) $("cancel-dialog").close();
    $("job-page").hidden = true;
  }

  changed(subject) {
    if (this.#id !== null && (subject === null || subject === `job-${this.#id}`)) this.#refresh.ask();
  }

  status() {
    if (this.#job && !isOver(this.#job)) this.changed(null);
  }

  tick() {
    if (this.#job && !isOver(this.#job)) this.#facts(this.#job);
  }

  // The output

  #follow() {
    say($("output-state"), "Connecting");
    const mine = this.#id;
    const stream = new EventStream(`/api/v1/stream/${encodeURIComponent(mine)}`, {
      frames: (frames) => this.#id === mine && this.#take(frames, stream),
      state: (state) =>
        this.#id === mine && say($("output-state"), state === "live" ? "Live" : "Reconnecting …"),
      closed: (status) => this.#id === mine && this.#closed(status),
    });
    this.#stream = stream;
  }

  #take(frames, stream) {
    const lines = [];
    for (const { data } of frames) {
      const line = lineOf(data);
      if (line === null) continue;
      if (line.startsWith(SENTINEL)) {
        stream.stop();
        const outcome = line.slice(SENTINEL.length);
        say($("output-state"), `Ended: ${STATES[outcome] ?? outcome}`);
        this.#refresh.ask();
        break;
      }
      lines.push(line);
    }
    if (lines.length) this.#output.add(lines);
  }

  #closed(status) {
    if (status === 404) return; // the look-up of the job says so, and more clearly
    say($("output-state"), status === 204 ? "Ended" : "");
    if (status !== 400) return;
    // The log is another one than before: begin again.
    this.#output.reset();
    this.#follow();
  }

  // The facts

  async #load() {
    const id = this.#id;
    if (id === null) return;
    const path = `/api/jobs/${encodeURIComponent(id)}`;
    try {
      const job = await request(path);
      const { items } = await request(`${path}/timeline?after=${this.#seen}&limit=1000`);
      if (id !== this.#id) return;
      this.#show(job);
      this.#happened(items);
      if (items.length === 1_000) this.#refresh.ask();
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      if (id === this.#id) this.#missing();
    }
  }

  #missing() {
    this.#stream?.stop();
    this.#job = null;
    $("job-body").hidden = true;
    $("job-missing").hidden = false;
  }

  #show(job) {
    this.#job = job;
    say($("job-title"), job.title);
    document.title = `${job.title} · crewlog`;
    showState($("job-state"), stateOf(job));
    say($("job-reason"), failure(job));
    $("cancel").hidden = isOver(job);
    $("cancel").disabled = job.cancelRequestedAt !== null;
    say($("cancel"), job.cancelRequestedAt ? "Cancelling …" : "Cancel job");
    if (isOver(job) && $("cancel-dialog").open) {
      $("cancel-dialog").close();
      this.#said(`This job has already finished: it is ${STATES[job.outcome]}.`);
    }
    this.#facts(job);
  }

  #facts(job) {
    const time = (at) => at ? make("time", { datetime: at, title: at }, moments.format(new Date(at))) : NONE;
    const mono = (text) => text && make("span", { class: "mono" }, text);
    const dropped = job.droppedBytes ? `, ${size(job.droppedBytes)} over the limit dropped` : "";
    const facts = {
      "Exit code": job.exitCode === null ? NONE : String(job.exitCode),
      Command: make("div", { class: "words" }, ...codes(job.argv)),
      Directory: mono(job.cwd),
      Environment: mono(job.env.join(" ")),
      Label: [job.label, ...job.labels.filter((label) => label !== job.label)].join(", "),
      Owner: job.owner,
      Attempt: job.attempt ? `${job.attempt} on ${job.node}` : NONE,
      "Time limit": job.timeoutS ? duration(job.timeoutS * 1_000) : "none",
      Submitted: time(job.createdAt),
      Started: time(job.startedAt),
      Ended: time(job.completedAt),
      "Run time": runTime(job) || NONE,
      Output: `${counted(job.lines, "line")}, ${size(job.outputBytes)}${dropped}`,
      Progress: job.progressHeadline,
      Id: mono(job.id),
    };
    const wanted = Object.entries(facts).filter(([, value]) => value);
    const list = $("facts");
    if (list.childElementCount !== 2 * wanted.length) {
      list.replaceChildren(...wanted.flatMap(([name]) => [make("dt", {}, name), make("dd")]));
    }
    wanted.forEach(([name, value], index) => {
      const [term, fact] = [list.children[2 * index], list.children[2 * index + 1]];
      say(term, name);
      if (fact.textContent !== (value.textContent ?? value)) fact.replaceChildren(value);
    });
  }

  #happened(entries) {
    for (const { position, timestamp, actor, sentence } of entries) {
      if (position <= this.#seen) continue;
      const time = make("time");
      showTime(time, timestamp, clocks.format(new Date(timestamp)));
      const who = make("span", { class: "who" }, time, ` · ${actor} · #${numbers.format(position)}`);
      $("timeline").append(make("li", {}, make("span", { class: "sentence" }, sentence), who));
      this.#seen = position;
    }
  }

  async #cancel() {
    $("cancel-dialog").close();
    const path = `/api/jobs/${encodeURIComponent(this.#id)}/cancel`;
    try {
      this.#show(await request(path, { method: "POST" }));
      this.#said("Cancellation was requested.");
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#said(problem.status === 409 ? "This job has already finished." : problem.message);
    }
    this.#refresh.ask(0);
  }

  #said(sentence) {
    say($("job-said"), sentence);
  }
}

function lineOf(data) {
  try {
    const { line } = JSON.parse(data);
    return typeof line === "string" ? line : null;
  } catch {
    return null;
  }
}

const list = new ListPage();
const job = new JobPage();
let life = null;

/** Watch the log from its head of this moment on. What was before is in the views already. */
async function watch() {
  let head;
  try {
    ({ head } = await request("/api/log?limit=1"));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (!token) return;
    showConnection("reconnecting");
    watchAgain();
    return;
  }
  if (!token || life) return;
  life = new EventStream(
    `/api/log/stream?type=${LIFE}`,
    {
      frames: (frames) => {
        list.changed();
        for (const { data } of frames) job.changed(JSON.parse(data).stream);
      },
      state: (state) => {
        showConnection(state);
        if (state === "live") refreshAll();
      },
      closed: () => {
        life = null;
        showConnection("reconnecting");
        watchAgain();
      },
    },
    String(head),
  );
}

function watchAgain() {
  setTimeout(() => token && !life && watch(), 2_000);
}

function refreshAll() {
  list.changed();
  job.changed(null);
  showStatus();
}

function showConnection(state) {
  const words = { live: "Live", reconnecting: "Reconnecting …", connecting: "Connecting" };
  $("connection").hidden = false;
  $("connection").dataset.state = state;
  say($("connection-text"), words[state]);
}

/** The footer: how long the log is, how far the views are, what runs. Off loopback the server
 * keeps its version to itself. */
async function showStatus() {
  if (!token || document.hidden) return;
  try {
    const [{ head, projections }, ready] = await Promise.all([
      request("/api/projections"),
      fetch("/readyz").then((response) => response.json()),
    ]);
    const lag = Math.max(0, ...projections.map((projection) => projection.lag));
    say($("status-log"), `Log: ${counted(head, "event")}`);
    say($("status-views"), lag ? `Views: ${counted(lag, "event")} behind` : "Views: up to date");
    say($("status-version"), ready.version ? `crewlog ${ready.version}` : "crewlog");
    const work = ready.capacity === undefined ? "" : `${ready.running} running, ${ready.queued} queued`;
    say($("status-work"), work);
  } catch {
    say($("status-views"), token ? NO_ANSWER : "");
  }
}

function route(whySignedOut = "") {
  list.close();
  job.close();
  $("sign-in-page").hidden = true;
  showNotice("");
  if (!token) return showSignIn(whySignedOut);
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  const found = /^\/jobs\/([^/]+)$/.exec(path);
  if (found) job.open(found[1]);
  else list.open(new URLSearchParams(query).get("state") ?? "");
  return undefined;
}

function navigate() {
  route();
  const heading = document.querySelector("main > section:not([hidden]) h1");
  heading?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function showSignIn(sentence) {
  document.title = "Sign in · crewlog";
  for (const name of ["connection", "sign-out"]) $(name).hidden = true;
  for (const name of ["log", "views", "work"]) say($(`status-${name}`), "");
  say($("sign-in-error"), sentence);
  $("sign-in-page").hidden = false;
  $("token").focus();
}

function signOut(sentence) {
  token = "";
  sessionStorage.removeItem(TOKEN_KEY);
  life?.stop();
  life = null;
  route(sentence);
}

async function signIn() {
  const given = $("token").value.trim();
  const button = $("sign-in-form").querySelector("[type=submit]");
  say($("sign-in-error"), "");
  // A header carries nothing else, and no token of a server has anything else in it.
  if (!/^[\x21-\x7e]+$/.test(given)) return say($("sign-in-error"), refusal(403));
  button.disabled = true;
  token = given;
  try {
    await request("/api/log?limit=1");
    sessionStorage.setItem(TOKEN_KEY, given);
    $("token").value = "";
    begin();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    token = "";
    if (!isRefusal(problem.status)) say($("sign-in-error"), signInProblem(problem));
  } finally {
    button.disabled = false;
  }
  return undefined;
}

function signInProblem({ status, message }) {
  if (status === 0) return `${NO_ANSWER} Is crewlog serve running?`;
  if (status === 503 && /not configured/.test(message)) {
    return "The server has no token, so it lets nobody in. Set CREWLOG_TOKEN, start it again, and try again here.";
  }
  return message;
}

function begin() {
  $("sign-out").hidden = false;
  showConnection("connecting");
  route();
  watch();
  showStatus();
}

new RunForm();
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn();
});
$("sign-out").addEventListener("click", () => signOut(""));
window.addEventListener("hashchange", navigate);
document.addEventListener("visibilitychange", showStatus);
setInterval(() => {
  if (document.hidden || !token) return;
  list.tick();
  job.tick();
}, 1_000);
setInterval(() => {
  if (document.hidden || !token) return;
  showStatus();
  list.status();
  job.status();
}, STATUS_MS);

if (token) begin();
else route();
