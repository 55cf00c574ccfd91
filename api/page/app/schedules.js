// All schedules, with their times and last firings, and a form for a new one.

import { html, useState } from "../vendor/preact/preact.js";
import { API, post, segment, whole } from "./api.js";
import { zoned } from "./format.js";
import { Ago, Empty, Failure, Loading, State, Title, useAction, useLoad } from "./parts.js";
import { ScheduleForm } from "./scheduleform.js";

const LOOK_AGAIN_MS = 5_000; // no stream announces changes of schedules

export function Schedules({ query }) {
  const wanted = query.get("template");
  const [making, setMaking] = useState(wanted !== null);
  const { data, problem, reload } = useLoad(`${API}/schedules`, { read: whole, everyMs: LOOK_AGAIN_MS });
  const templates = useLoad(`${API}/templates`, { read: whole });
  const make = async (terms) => {
    const schedule = await post(`${API}/schedules`, terms);
    location.hash = `#/schedules/${schedule.id}`;
  };
  return html`<div class="room-head"><${Title} document="Schedules">Schedules<//>
      ${!making && html`<button type="button" class="primary" onClick=${() => setMaking(true)}>New schedule</button>`}</div>
    ${making && html`<${ScheduleForm} templates=${templates.data?.items} template=${wanted} onSave=${make} onCancel=${() => setMaking(false)} />`}
    <${Failure} problem=${problem} />
    ${!data ? !problem && html`<${Loading} what="Loading the schedules" />` : !data.items.length
      ? !making && html`<${Empty} title="Nothing is on a schedule yet.">A schedule starts a crew from a template by itself: every night, each Monday, on any rule.<//>`
      : html`<ul class="card list schedules">${data.items.map((one) => html`<${Row} key=${one.id} schedule=${one} reload=${reload} />`)}</ul>`}`;
}

function Row({ schedule, reload }) {
  return html`<li class="schedule-row">
    <div class="stacked"><a class="row-title" href=${`/#/schedules/${schedule.id}`}>${schedule.name}</a>
      <span class="soft small">${schedule.ruleText}</span></div>
    <div class="stacked small"><span class="soft">Next</span><span>${schedule.nextRunAt
      ? html`<span title=${zoned(schedule.nextRunAt, schedule.timezone)}><${Ago} at=${schedule.nextRunAt} /></span>` : "–"}</span></div>
    <div class="stacked small"><span class="soft">Last</span><span>${schedule.lastRunAt
      ? html`<${Ago} at=${schedule.lastRunAt} /> <${State} of=${schedule.lastOutcome ?? "pending"} />` : "never"}</span></div>
    <${Switch} schedule=${schedule} reload=${reload} />
    ${schedule.lastError && html`<p class="reason small wide">${schedule.lastError}</p>`}
    ${schedule.state === "paused" && html`<p class="reason small wide">${schedule.stateReason}</p>`}
  </li>`;
}

export const isOn = (schedule) => schedule.state === "active";

/** Buttons to enable, disable and fire the schedule. */
export function Switch({ schedule, reload }) {
  const action = useAction();
  const path = `${API}/schedules/${segment(schedule.id)}`;
  const act = async (work, said) => {
    const answer = await action.run(work, said);
    reload();
    return answer;
  };
  const turn = () => act(() => post(`${path}/${isOn(schedule) ? "disable" : "enable"}`));
  const fire = async () => {
    const made = await act(() => post(`${path}/run-now`));
    if (made?.crewId) action.say(html`Started: <a href=${`/#/crews/${made.crewId}`}>its crew</a>`);
  };
  return html`<div class="switch-line">
    <button type="button" role="switch" class="switch" aria-checked=${isOn(schedule)} disabled=${action.busy} onClick=${turn}
      aria-label=${`${schedule.name} is on`}><span class="knob" aria-hidden="true"></span><span>${isOn(schedule) ? "On" : schedule.state === "paused" ? "Paused" : schedule.state === "ended" ? "Ended" : "Off"}</span></button>
    <button type="button" class="quiet" disabled=${action.busy} onClick=${fire}>Run now</button>
    <span class="said small" role="status">${action.said}</span>
    <${Failure} problem=${action.problem} />
  </div>`;
}
