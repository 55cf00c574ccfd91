// The editor of a schedule's rule, with a live preview of its times.

import { html, useEffect, useRef, useState } from "../vendor/preact/preact.js";
import { API, Problem, post } from "./api.js";
import { zoned } from "./format.js";
import { Ago, Field } from "./parts.js";

const KINDS = {
  daily: "Every day",
  weekly: "On days of the week",
  monthly: "On a day of the month",
  hourly: "Every so many hours",
  minutely: "Every so many minutes",
  cron: "Cron expression",
  rrule: "Recurrence rule (RFC 5545)",
  once: "Once",
};
const DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const FIRST = {
  at: "09:00", days: [1, 2, 3, 4, 5], dayOfMonth: "1", everyHours: "1", everyMinutes: "15",
  cron: "*/15 * * * *", rrule: "FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=9;BYMINUTE=0", once: "",
};
const PATIENCE_MS = 250;

export const hereZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The editor's draft of a rule. */
export function draftOf(rule = { cadence: "daily" }) {
  const kind = rule.cadence ?? Object.keys(KINDS).find((name) => name in rule) ?? "daily";
  const said = Object.fromEntries(Object.entries(rule).map(([name, value]) => [name, Array.isArray(value) ? value : String(value)]));
  const draft = { ...FIRST, ...said, kind };
  draft.days = daysOf(rule.days ?? FIRST.days);
  if (rule.once) draft.once = String(rule.once).slice(0, 16);
  return draft;
}

function daysOf(days) {
  const named = (typeof days === "string" ? days.split(",") : days).map((day) => String(day).trim().toLowerCase());
  return named.map((day) => Number(day) || 1 + DAYS.findIndex((name) => day.startsWith(name.toLowerCase())));
}

/** The rule of a draft. */
export function ruleOf({ kind, at, days, dayOfMonth, everyHours, everyMinutes, ...texts }) {
  if (kind in { cron: 1, rrule: 1, once: 1 }) return { [kind]: texts[kind] };
  const rule = { cadence: kind };
  if (kind === "hourly") return { ...rule, everyHours: Number(everyHours) };
  if (kind === "minutely") return { ...rule, everyMinutes: Number(everyMinutes) };
  rule.at = at;
  if (kind === "weekly") rule.days = [...days].sort();
  if (kind === "monthly") rule.dayOfMonth = Number(dayOfMonth);
  return rule;
}

export function RuleEditor({ draft, timezone, onDraft, onZone }) {
  const set = (name) => (event) => onDraft({ ...draft, [name]: event.target.value });
  const { kind } = draft;
  return html`<fieldset class="rule"><legend>When</legend>
    <div class="grid">
      <${Field} label="Repeats">${(a) => html`<select ...${a} value=${kind} onChange=${set("kind")}>
        ${Object.entries(KINDS).map(([name, word]) => html`<option key=${name} value=${name}>${word}</option>`)}</select>`}<//>
      ${["daily", "weekly", "monthly"].includes(kind) && html`<${Field} label="At">${(a) => html`<input ...${a} type="time" value=${draft.at} onInput=${set("at")} required />`}<//>`}
      ${kind === "monthly" && html`<${Field} label="Day of the month" hint="In a shorter month, its last day.">${(a) => html`<input ...${a} type="number" min="1" max="31" value=${draft.dayOfMonth} onInput=${set("dayOfMonth")} required />`}<//>`}
      ${kind === "hourly" && html`<${Field} label="Hours">${(a) => html`<input ...${a} type="number" min="1" max="24" value=${draft.everyHours} onInput=${set("everyHours")} required />`}<//>`}
      ${kind === "minutely" && html`<${Field} label="Minutes">${(a) => html`<input ...${a} type="number" min="1" max="59" value=${draft.everyMinutes} onInput=${set("everyMinutes")} required />`}<//>`}
      ${kind === "cron" && html`<${Field} label="Cron expression" hint="Minute, hour, day of month, month, day of week.">${(a) => html`<input ...${a} class="mono" spellcheck=${false} value=${draft.cron} onInput=${set("cron")} required />`}<//>`}
      ${kind === "rrule" && html`<${Field} wide label="Recurrence rule">${(a) => html`<textarea ...${a} class="mono" rows="2" spellcheck=${false} value=${draft.rrule} onInput=${set("rrule")} required></textarea>`}<//>`}
      ${kind === "once" && html`<${Field} label="At">${(a) => html`<input ...${a} type="datetime-local" value=${draft.once} onInput=${set("once")} required />`}<//>`}
      <${Field} label="Time zone">${(a) => html`<input ...${a} list="zones" value=${timezone} spellcheck=${false} onInput=${(e) => onZone(e.target.value)} required />`}<//>
    </div>
    ${kind === "weekly" && html`<${Days} days=${draft.days} onDays=${(days) => onDraft({ ...draft, days })} />`}
    <datalist id="zones">${zones().map((zone) => html`<option key=${zone} value=${zone} />`)}</datalist>
  </fieldset>`;
}

const zones = () => ["UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])];

function Days({ days, onDays }) {
  return html`<div class="days" role="group" aria-label="Days of the week">${DAYS.map((name, index) => {
    const day = index + 1;
    const on = days.includes(day);
    return html`<label key=${name} class="day"><input type="checkbox" checked=${on}
      onChange=${() => onDays(on ? days.filter((one) => one !== day) : [...days, day])} /><span>${name}</span></label>`;
  })}</div>`;
}

/** The next times of an unsaved rule, while the person edits it. */
export function Preview({ rule, timezone }) {
  const [shown, setShown] = useState({ times: null, ruleText: "", problem: "" });
  const asked = JSON.stringify({ rule, timezone, n: 5 });
  const latest = useRef(asked);
  latest.current = asked;
  useEffect(() => {
    const timer = setTimeout(async () => {
      try {
        const { times, ruleText } = await post(`${API}/schedules/preview`, JSON.parse(asked));
        if (latest.current === asked) setShown({ times, ruleText, problem: "" });
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (latest.current === asked) setShown({ times: null, ruleText: "", problem: problem.message });
      }
    }, PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [asked]);
  return html`<div class="preview" role="status" aria-live="polite">
    ${shown.problem ? html`<p class="error">${shown.problem}</p>` : html`<p><strong>${shown.ruleText || "…"}</strong></p>`}
    ${shown.times && html`<${Times} times=${shown.times} timezone=${timezone} />`}
  </div>`;
}

export function Times({ times, timezone }) {
  if (!times.length) return html`<p class="soft">It never fires again.</p>`;
  return html`<ol class="times" aria-label="Next times">${times.map((at) => html`<li key=${at}><span>${zoned(at, timezone)}</span>
    <span class="soft small"><${Ago} at=${at} /></span></li>`)}</ol>`;
}
