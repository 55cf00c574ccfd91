// The parts of the server and their state: dispatcher, log, views, gitoma.

import { html } from "../vendor/preact/preact.js";
import { API, post, segment } from "./api.js";
import { counted, duration, number } from "./format.js";
import { Facts, Gitoma } from "./gitoma.js";
import { Failure, Loading, State, Title, useAction, useLoad } from "./parts.js";
import { me, waitingCount } from "./store.js";

const LOOK_AGAIN_MS = 5_000;

export function System() {
  const views = useLoad(`${API}/projections`, { everyMs: LOOK_AGAIN_MS });
  const dispatcher = useLoad(`${API}/dispatcher`, { everyMs: LOOK_AGAIN_MS });
  const overview = useLoad(`${API}/analytics/overview?period=7`, { everyMs: 6 * LOOK_AGAIN_MS });
  return html`<div class="room-head"><${Title} document="System">System<//><a class="button" href="/docs">API reference</a></div>
    <div class="halves">
      <section class="card" aria-labelledby="work-title"><h2 id="work-title">Dispatcher</h2>
        <${Failure} problem=${dispatcher.problem} />${dispatcher.data && html`<${Dispatcher} status=${dispatcher.data} />`}</section>
      <section class="card" aria-labelledby="health-title"><h2 id="health-title">Server</h2><${Health} head=${views.data?.head} /></section>
    </div>
    ${overview.data && html`<${Overview} sums=${overview.data} />`}
    <section class="card" aria-labelledby="views-title"><h2 id="views-title">Views</h2>
      <${Failure} problem=${views.problem} />
      ${views.data ? html`<${Views} views=${views.data.items} reload=${views.reload} />` : !views.problem && html`<${Loading} />`}</section>
    <${Gitoma} />`;
}

function Dispatcher({ status }) {
  return html`<${Facts} of=${{
    State: html`<${State} of=${status.running ? "running" : "failed"} word=${status.running ? "running" : "not running"} />`,
    "At work": `${number(status.active)}${status.capacity ? ` of ${number(status.capacity)}` : ""}`,
    Queued: number(status.queued),
    "Waiting for approval": number(waitingCount.value),
    "For one owner": status.ownerCapacity ? `at most ${status.ownerCapacity}` : null,
    "Last sign of life": status.ageMs === null ? "never" : `${duration(status.ageMs)} ago`,
  }} />`;
}

/** Off loopback the server does not show its version and storage. */
function Health({ head }) {
  const ready = useLoad("/readyz", { everyMs: LOOK_AGAIN_MS });
  const said = ready.data;
  return html`<${Facts} of=${{
    State: ready.problem ? html`<${State} of="failed" word="not ready" />` : said && html`<${State} of="completed" word=${said.status} />`,
    Version: said?.version,
    Log: head === undefined ? null : counted(head, "event"),
    Storage: said?.storage ? Object.entries(said.storage).map(([name, value]) => `${name} ${value}`).join(", ") : null,
  }} />`;
}

function Overview({ sums }) {
  const { byOutcome, outcomes = byOutcome ?? {}, queueWaitMs, runTimeMs } = sums;
  const ways = Object.entries(outcomes ?? {}).filter(([, count]) => typeof count === "number");
  const spans = [["median wait", queueWaitMs], ["median run time", runTimeMs]].filter(([, span]) => span && typeof span === "object");
  if (!ways.length && !spans.length) return null;
  return html`<section class="card" aria-labelledby="week-title"><h2 id="week-title">The last seven days</h2>
    <ul class="numbers">${ways.map(([name, count]) => html`<li key=${name}><strong>${number(count)}</strong><span>${name.replaceAll("_", " ")}</span></li>`)}
    ${spans.map(([name, span]) => html`<li key=${name}><strong>${span.p50 === null || span.p50 === undefined ? "–" : duration(span.p50)}</strong><span>${name}</span></li>`)}</ul></section>`;
}

function Views({ views, reload }) {
  const action = useAction();
  const rebuild = async (name) => {
    await action.run(() => post(`${API}/projections/${segment(name)}/rebuild`), `${name} is being rebuilt beside the live one.`);
    reload();
  };
  return html`<div class="scroll"><table class="rows"><thead><tr><th scope="col">View</th><th scope="col">State</th><th scope="col" class="number">Position</th><th scope="col" class="number">Behind</th>
      <th scope="col">Digest</th>${me.value.isAdmin && html`<th scope="col"><span class="unseen">Actions</span></th>`}</tr></thead>
    <tbody>${views.map((view) => html`<tr key=${view.name}><th scope="row">${view.name}</th>
      <td data-name="State">${view.failure ? html`<span class="reason">${view.failure}</span>` : view.progress !== null && view.status !== "live" ? html`${view.status} <progress class="progress" max="1" value=${view.progress} aria-label="Progress"></progress>` : view.status}</td>
      <td class="number" data-name="Position">${number(view.position)}</td><td class="number" data-name="Behind">${number(view.lag)}</td>
      <td class="mono small" data-name="Digest">${view.digest ? view.digest.slice(0, 12) : "–"}</td>
      ${me.value.isAdmin && html`<td><button type="button" class="quiet" disabled=${action.busy || view.status !== "live"} aria-label=${`Rebuild ${view.name}`} onClick=${() => rebuild(view.name)}>Rebuild</button></td>`}</tr>`)}</tbody></table></div>
    <p class="said small" role="status">${action.said}</p><${Failure} problem=${action.problem} />`;
}
