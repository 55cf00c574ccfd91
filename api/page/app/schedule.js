// One schedule: its next times, its past firings, and its form.

import { html, useState } from "../vendor/preact/preact.js";
import { API, patch, remove, segment } from "./api.js";
import { duration, number, zoned } from "./format.js";
import { Values } from "./jobparts.js";
import { Ago, Confirm, Empty, Failure, Loading, State, Title, useAction, useAway, useLoad } from "./parts.js";
import { Times } from "./rules.js";
import { ScheduleForm } from "./scheduleform.js";
import { Switch, isOn } from "./schedules.js";

const LOOK_AGAIN_MS = 5_000;

export function Schedule({ id }) {
  const path = `${API}/schedules/${segment(id)}`;
  const { gone, away } = useAway();
  const { data, problem, reload } = useLoad(path, { everyMs: LOOK_AGAIN_MS, gone });
  const preview = useLoad(`${path}/preview?n=10`, { everyMs: 4 * LOOK_AGAIN_MS, gone });
  const firings = useLoad(`${path}/firings?limit=50`, { everyMs: LOOK_AGAIN_MS, gone });
  const [open, setOpen] = useState("");
  const action = useAction();
  if (problem?.status === 404) {
    return html`<${Title} document="No such schedule">No such schedule<//>
      <${Empty} title="There is no such schedule, or it was deleted."><a href="/#/schedules">To the schedules</a><//>`;
  }
  if (!data) return html`<${Title} document="Schedule">Schedule<//>${problem ? html`<${Failure} problem=${problem} />` : html`<${Loading} />`}`;
  const schedule = data;
  const refresh = () => [reload, preview.reload, firings.reload].forEach((again) => again());
  const save = async (terms) => {
    await patch(path, terms);
    setOpen("");
    refresh();
  };
  const discard = async () => {
    if (await away(() => action.run(() => remove(path)))) location.hash = "#/schedules";
  };
  return html`<p class="back"><a href="/#/schedules">Schedules</a></p>
    <div class="room-head"><${Title} document=${schedule.name}>${schedule.name}<//><${State} of=${schedule.state} role="status" />
      <div class="actions" role="group" aria-label="Actions">
        <button type="button" aria-expanded=${open === "edit"} onClick=${() => setOpen(open === "edit" ? "" : "edit")}>Edit</button>
        <button type="button" class="quiet" onClick=${() => setOpen("delete")}>Delete</button></div></div>
    <p class="lead">${schedule.ruleText}</p>
    ${schedule.stateReason && schedule.state !== "active" && html`<p class="reason">${schedule.stateReason}</p>`}
    ${schedule.lastError && html`<p class="reason">The last time did not work: ${schedule.lastError}</p>`}
    <${Switch} schedule=${schedule} reload=${refresh} />
    <${Failure} problem=${action.problem} />
    ${open === "edit" && html`<${ScheduleForm} schedule=${schedule} onSave=${save} onCancel=${() => setOpen("")} />`}
    <div class="halves">
      <section class="card" aria-labelledby="next-title"><h2 id="next-title">Next times</h2>
        ${!isOn(schedule) && html`<p class="soft small">If it were on.</p>`}
        ${preview.data ? html`<${Times} times=${preview.data.times} timezone=${schedule.timezone} />` : html`<${Failure} problem=${preview.problem} />`}</section>
      <section class="card" aria-labelledby="terms-title"><h2 id="terms-title">Terms</h2><${Terms} schedule=${schedule} />
        ${Object.keys(schedule.inputs).length > 0 && html`<h3>Inputs</h3><${Values} of=${schedule.inputs} />`}</section>
    </div>
    <section class="card" aria-labelledby="firings-title"><h2 id="firings-title">What came of its times</h2>
      <${Firings} page=${firings.data} timezone=${schedule.timezone} /></section>
    <${Confirm} open=${open === "delete"} title="Delete this schedule?" yes="Delete schedule" busy=${action.busy} onNo=${() => setOpen("")} onYes=${discard}>
      <p>It fires no more. The jobs that it started stay.</p><//>`;
}

const OVERLAP = { allow: "start beside it", skip: "skip this time", cancel: "cancel the older" };

function Terms({ schedule }) {
  const { catchUp } = schedule;
  const missed = typeof catchUp === "string" ? { latest: "fire once", none: "let them go", all: "fire for each" }[catchUp]
    : `fire for each, up to ${duration(catchUp.windowS * 1000)} back`;
  const terms = {
    Template: html`<a href=${`/#/templates/${segment(schedule.template)}`}>${schedule.template}</a>`,
    "Missed times": missed,
    "When one still runs": OVERLAP[schedule.overlap],
    Jitter: schedule.jitterS ? `up to ${duration(schedule.jitterS * 1000)}` : "none",
    Ends: schedule.endsAt ? zoned(schedule.endsAt, schedule.timezone) : "never",
    "Fires at most": schedule.maxFirings ? `${number(schedule.maxFirings)} times` : null,
    "Fired so far": `${number(schedule.firings)} times${schedule.skipped ? `, ${number(schedule.skipped)} skipped` : ""}${schedule.missed ? `, ${number(schedule.missed)} missed` : ""}`,
  };
  return html`<dl class="facts">${Object.entries(terms).filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

function Firings({ page, timezone }) {
  if (!page) return html`<${Loading} />`;
  if (!page.items.length) return html`<p class="soft">It has not fired yet.</p>`;
  return html`<div class="scroll"><table class="rows"><thead><tr><th scope="col">Time</th><th scope="col">Outcome</th><th scope="col" class="number">Late</th><th scope="col">Crew</th></tr></thead>
    <tbody>${page.items.map((one) => html`<tr key=${one.position}>
      <td data-name="Time"><span title=${zoned(one.nominal, timezone)}><${Ago} at=${one.nominal} /></span>
        <span class="soft small"> ${one.manual ? "by hand" : zoned(one.nominal, timezone)}${one.catchUp ? ", caught up" : ""}${one.count > 1 ? `, ${number(one.count)} times` : ""}</span></td>
      <td data-name="Outcome"><${State} of=${one.outcome ?? "pending"} />${one.reason && html` <span class="small">${one.reason}</span>`}</td>
      <td class="number" data-name="Late">${one.lateMs === null || one.manual ? "–" : duration(one.lateMs)}</td>
      <td data-name="Crew">${one.crewId ? html`<a href=${`/#/crews/${one.crewId}`}>look</a>` : "–"}</td></tr>`)}</tbody></table></div>`;
}
