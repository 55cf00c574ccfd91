// One crew: its graph, its progress, its inputs.

import { html } from "../vendor/preact/preact.js";
import { API, segment } from "./api.js";
import { counted } from "./format.js";
import { Graph } from "./graph.js";
import { Values } from "./jobparts.js";
import { Ago, Empty, Failure, Loading, State, Title, useLoad } from "./parts.js";
import { reasonOf, stateOf } from "./states.js";

export function Crew({ id }) {
  const { data: crew, problem } = useLoad(`${API}/crews/${segment(id)}`, {
    wanted: ({ jobs }) => crew?.jobs.some((job) => jobs.has(job.id)),
  });
  if (problem?.status === 404) {
    return html`<${Title} document="No such crew">No such crew<//>
      <${Empty} title="There is no such crew."><a href="/#/">To the board</a><//>`;
  }
  if (!crew) return html`<${Title} document="Crew">Crew<//>${problem ? html`<${Failure} problem=${problem} />` : html`<${Loading} what="Loading the crew" />`}`;
  const done = crew.jobs.filter(({ column }) => column === "done").length;
  return html`
    <p class="back"><a href="/#/">Board</a></p>
    <div class="room-head"><${Title} document=${crew.name}>${crew.name}<//><${State} of=${crew.state} role="status" /></div>
    <p class="card-line crew-line">
      <span>${done} of ${counted(crew.jobs.length, "job")} done</span>
      <progress class="progress" max=${crew.jobs.length} value=${done} aria-label="Jobs that are done"></progress>
      <span>${crew.template} #${crew.number}</span>
      <span>started <${Ago} at=${crew.createdAt} /> by ${crew.owner}</span>
      ${crew.notBefore && html`<span>not before <${Ago} at=${crew.notBefore} /></span>`}
      ${crew.scheduleId && html`<a href=${`/#/schedules/${crew.scheduleId}`}>its schedule</a>`}
    </p>
    <section class="card" aria-label="Graph"><${Graph} jobs=${crew.jobs} /></section>
    <div class="halves">
      <section class="card" aria-labelledby="crew-jobs"><h2 id="crew-jobs">Jobs</h2>
        <ol class="plain">${crew.jobs.map((job) => html`<li key=${job.id} class="crew-job">
          <${State} of=${stateOf(job)} /><a href=${`/#/jobs/${job.id}`}>${job.title}</a>
          <span class="soft small"><${Ago} at=${job.endedAt} /></span>
          ${reasonOf(job) && html`<span class="reason small">${reasonOf(job)}</span>`}</li>`)}</ol></section>
      <section class="card" aria-labelledby="crew-inputs"><h2 id="crew-inputs">Inputs</h2>
        ${crew.template && html`<p class="small from">From <a href=${`/#/templates/${segment(crew.template)}`}>${crew.template}</a></p>`}
        <${Values} of=${crew.inputs} /></section>
    </div>`;
}
