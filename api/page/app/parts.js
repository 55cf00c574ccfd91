// Small components that every room uses.

import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../vendor/preact/preact.js";
import { Problem, get } from "./api.js";
import { ago, elapsed, moment } from "./format.js";
import { look } from "./states.js";
import { onChange, second } from "./store.js";

const PATHS = {
  todo: html`<circle cx="8" cy="8" r="5" />`,
  queued: html`<circle cx="8" cy="8" r="5" stroke-dasharray="2.6 2.6" />`,
  running: html`<path d="M5.2 3.2v9.6L13 8z" fill="currentColor" stroke="none" />`,
  waiting: html`<path d="M5.4 3.4v9.2M10.6 3.4v9.2" />`,
  blocked: html`<path d="M5.2 2h5.6L14 5.2v5.6L10.8 14H5.2L2 10.8V5.2zM8 5v3.6M8 10.9v.2" />`,
  completed: html`<path d="M3 8.5l3.4 3.4L13 4.8" />`,
  failed: html`<path d="M4 4l8 8M12 4l-8 8" />`,
  cancelled: html`<path d="M4.2 11.8l7.6-7.6" /><circle cx="8" cy="8" r="5.4" />`,
  timed_out: html`<circle cx="8" cy="8" r="5.4" /><path d="M8 5v3.3l2 1.4" />`,
  stranded: html`<path d="M6.5 9.5l3-3M7 4.5l1-1a3 3 0 014.3 4.3l-1 1M9 11.5l-1 1a3 3 0 01-4.3-4.3l1-1M3 3l10 10" />`,
  archived: html`<path d="M2.5 4h11v2.5h-11zM3.5 6.5V13h9V6.5M6.5 9h3" />`,
  board: html`<path d="M2.5 3h3v10h-3zM6.5 3h3v6.5h-3zM10.5 3h3v8h-3z" />`,
  inbox: html`<path d="M2.5 9l2-6h7l2 6v4h-11zM2.5 9h3.5l1 1.7h2L10 9h3.5" />`,
  clock: html`<circle cx="8" cy="8" r="5.5" /><path d="M8 4.8V8l2.3 1.5" />`,
  template: html`<path d="M4 2.5h5.5L12.5 5.5v8h-8.5zM9.3 2.7v3h3M6 8.5h4.5M6 11h4.5" />`,
  jobs: html`<path d="M2.8 4h1M2.8 8h1M2.8 12h1M6 4h7.5M6 8h7.5M6 12h7.5" />`,
  people: html`<circle cx="6" cy="5.5" r="2.3" /><path d="M2 13c0-2.5 1.7-4 4-4s4 1.5 4 4M10.5 3.5a2.3 2.3 0 010 4M11.5 9.3c1.6.5 2.5 1.9 2.5 3.7" />`,
  system: html`<path d="M2 8h3l2-5 2.5 10L11.5 8H14" />`,
  crew: html`<circle cx="3.5" cy="8" r="1.6" /><circle cx="12.5" cy="4" r="1.6" /><circle cx="12.5" cy="12" r="1.6" /><path d="M5 7.3l6-2.6M5 8.7l6 2.6" />`,
  theme: html`<circle cx="8" cy="8" r="5.5" /><path d="M8 2.5v11a5.5 5.5 0 000-11z" fill="currentColor" />`,
  menu: html`<path d="M2.5 4.5h11M2.5 8h11M2.5 11.5h11" />`,
};

export function Icon({ name, label }) {
  const said = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return html`<svg class="icon" viewBox="0 0 16 16" focusable="false" ...${said}>${PATHS[name]}</svg>`;
}

const TYPING_MS = 250;

/** A state as an icon and a word. */
export function State({ of, id, role, word }) {
  const seen = look(of);
  return html`<span class="state" data-tone=${seen.tone} data-state=${of} id=${id} role=${role}
    ><${Icon} name=${seen.icon} />${word ?? seen.word}</span>`;
}

/** A time relative to now, with the exact time as its title. */
export function Ago({ at, prefix = "" }) {
  void second.value;
  if (!at) return null;
  return html`<time datetime=${at} title=${moment(at)}>${prefix}${ago(at)}</time>`;
}

/** The time since something began that still runs. */
export function Running({ since }) {
  void second.value;
  return html`<time datetime=${since} title=${`Since ${moment(since)}`}>${elapsed(since)}</time>`;
}

export const Empty = ({ title, children }) =>
  html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;

export const Loading = ({ what = "Loading" }) =>
  html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>${what} …</p>`;

export const Failure = ({ problem, id }) =>
  html`<p class="error" role="alert" id=${id}>${problem ? (problem.message ?? problem) : ""}</p>`;

/** `fresh`: the person has just entered a room and done nothing there yet. */
export const arrival = { fresh: false };
for (const act of ["keydown", "pointerdown"]) addEventListener(act, () => (arrival.fresh = false), true);

/** The title of a room. It gets the focus on entry, so that a screen reader starts there, and again
 * when it replaces the title that the room had while loading. */
export function Title({ children, document: said, id }) {
  const heading = useRef(null);
  useLayoutEffect(() => {
    if (arrival.fresh && document.activeElement === document.body) heading.current.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    document.title = `${said} · crewlog`;
  }, [said]);
  return html`<h1 id=${id ?? "room-title"} tabindex="-1" ref=${heading}>${children}</h1>`;
}

/** A search box; `onText` gets the text when the typing pauses. */
export function Search({ label, placeholder = label, text, onText }) {
  const [typed, setTyped] = useState(text);
  const told = useRef(text);
  useEffect(() => {
    if (text === told.current) return;
    told.current = text;
    setTyped(text);
  }, [text]);
  useEffect(() => {
    if (typed.trim() === told.current) return undefined;
    const timer = setTimeout(() => {
      told.current = typed.trim();
      onText(told.current);
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return html`<input type="search" aria-label=${label} placeholder=${placeholder} maxlength="200" value=${typed}
    onInput=${(e) => setTyped(e.target.value)} />`;
}

export function Field({ label, hint, children, wide }) {
  const id = useId();
  const told = hint ? `${id}-hint` : undefined;
  return html`<div class=${wide ? "field wide" : "field"}>
    <label for=${id}>${label}</label>
    ${children({ id, "aria-describedby": told })}
    ${hint && html`<p class="hint" id=${told}>${hint}</p>`}
  </div>`;
}

/** For a room whose own object is deleted: aborts its requests and sends no more, because the
 * answers would be 404. `{gone, away}`: `away(work)` calls `work` to delete it; `gone` is the
 * signal. */
export function useAway() {
  const [controller, setController] = useState(() => new AbortController());
  const away = async (work) => {
    controller.abort();
    const done = await work();
    if (!done) setController(new AbortController());
    return done;
  };
  return { gone: controller.signal, away };
}

/** Loads a path with `read`: `{data, problem, reload}`. Loads again on each change for which `wanted(change)`
 * is true, and every `everyMs`, but not after `gone`. Old data stays until new data comes. */
export function useLoad(path, { read = get, wanted = () => false, everyMs = 0, gone = null } = {}) {
  const [state, setState] = useState({ path, data: null, problem: null });
  const [round, setRound] = useState(0);
  const again = useRef(null);
  const reload = () => setRound((n) => n + 1);
  const asks = useRef(wanted);
  asks.current = wanted;

  useEffect(() => {
    if (path === null || gone?.aborted) return undefined;
    const asking = new AbortController();
    const letGo = () => asking.abort();
    gone?.addEventListener("abort", letGo);
    read(path, asking.signal).then(
      (data) => asking.signal.aborted || setState({ path, data, problem: null }),
      (problem) => {
        if (problem.letGo) return;
        setState((old) => ({ path, data: old.path === path && problem.status !== 404 ? old.data : null, problem }));
        if (problem.status === 0 || problem.status >= 500) again.current = setTimeout(reload, 2_000);
      },
    );
    return () => {
      gone?.removeEventListener("abort", letGo);
      letGo();
      clearTimeout(again.current);
    };
  }, [path, round, gone]);

  useEffect(() => {
    let soon = null;
    const stop = onChange((change) => {
      if (!change.all && !asks.current(change)) return;
      soon ??= setTimeout(() => {
        soon = null;
        reload();
      }, 150);
    });
    const timer = everyMs ? setInterval(() => document.hidden || reload(), everyMs) : null;
    return () => {
      stop();
      clearTimeout(soon);
      clearInterval(timer);
    };
  }, [path, everyMs]);

  const fresh = state.path === path;
  return { data: fresh ? state.data : null, problem: fresh ? state.problem : null, reload };
}

/** Runs one action on the server: `{busy, problem, said, run, say}`. */
export function useAction() {
  const [state, setState] = useState({ busy: false, problem: null, said: "" });
  const run = async (work, said = "") => {
    setState({ busy: true, problem: null, said: "" });
    try {
      const result = await work();
      setState({ busy: false, problem: null, said });
      return result ?? true;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      setState({ busy: false, problem, said: "" });
      return null;
    }
  };
  return { ...state, run, say: (said) => setState({ busy: false, problem: null, said }) };
}

/** Asks before an action that cannot be undone. `children` says what the action does. */
export function Confirm({ open, title, children, yes, no = "Keep it", danger = true, busy, onYes, onNo }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    if (open && !dialog.current.open) dialog.current.showModal();
    if (!open && dialog.current.open) dialog.current.close();
  }, [open]);
  return html`<dialog ref=${dialog} aria-labelledby=${`${id}-t`} aria-describedby=${`${id}-d`} onClose=${onNo}>
    <h2 id=${`${id}-t`}>${title}</h2>
    <div id=${`${id}-d`}>${children}</div>
    <div class="choices">
      <button type="button" onClick=${onNo}>${no}</button>
      <button type="button" class=${danger ? "danger" : "primary"} disabled=${busy} onClick=${onYes}>${yes}</button>
    </div>
  </dialog>`;
}

export const submitted = (work) => (event) => {
  event.preventDefault();
  work(event);
};
