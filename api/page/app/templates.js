// Templates, and the form to start a crew from one.

import { html, useMemo, useState } from "../vendor/preact/preact.js";
import { API, Problem, post, segment, whole } from "./api.js";
import { counted } from "./format.js";
import { Graph } from "./graph.js";
import { Inputs, firstTexts, valuesOf } from "./inputs.js";
import { Empty, Failure, Field, Icon, Loading, Title, submitted, useAction, useLoad } from "./parts.js";

export const templatePath = (id) => `${API}/templates/${id.split("/").map(segment).join("/")}`;

export function Templates({ id }) {
  return id === null ? html`<${List} />` : html`<${Start} id=${id} />`;
}

function List() {
  const { data, problem } = useLoad(`${API}/templates`, { read: whole });
  return html`<div class="room-head"><${Title} document="Templates">Templates<//></div>
    <${Failure} problem=${problem} />
    ${!data ? !problem && html`<${Loading} what="Loading the templates" />` : !data.items.length
      ? html`<${Empty} title="There are no templates.">Put a file <code>NAME.job_workflow.yaml</code> into the folder <code>templates</code>${" "} of the data directory; it appears here at once.<//>`
      : html`<ul class="tiles">${data.items.map((template) => html`<${Tile} key=${template.id} template=${template} />`)}</ul>`}
    ${data?.faults?.length > 0 && html`<${Faults} faults=${data.faults} />`}`;
}

function Tile({ template }) {
  const count = Object.keys(template.inputs).length;
  return html`<li class="card tile">
    <h2><a href=${`/#/templates/${segment(template.id)}`}>${template.name ?? template.id}</a></h2>
    ${template.description && html`<p>${template.description}</p>`}
    <p class="soft small">${count ? counted(count, "input") : "No inputs"} · <span class="mono">${template.id}</span></p>
  </li>`;
}

function Faults({ faults }) {
  return html`<section class="card" aria-labelledby="faults-title"><h2 id="faults-title">Files with mistakes</h2>
    <ul class="plain">${faults.map((fault, index) => html`<li key=${index} class="stacked">
      <span class="mono small">${fault.file}${fault.line ? `, line ${fault.line}` : ""}${fault.path ? `, ${fault.path}` : ""}</span>
      <span class="reason">${fault.reason}</span></li>`)}</ul></section>`;
}

function Start({ id }) {
  const { data: template, problem } = useLoad(templatePath(id));
  if (problem?.status === 404) {
    return html`<${Title} document="No such template">No such template<//>
      <${Empty} title="There is no such template."><a href="/#/templates">To the templates</a><//>`;
  }
  if (!template) return html`<${Title} document="Template">Template<//>${problem ? html`<${Failure} problem=${problem} />` : html`<${Loading} />`}`;
  return html`<${StartForm} key=${template.id} template=${template} />`;
}

function StartForm({ template }) {
  const [texts, setTexts] = useState(() => firstTexts(template.inputs));
  const [later, setLater] = useState("");
  const [plan, setPlan] = useState(null);
  const action = useAction();
  const jobs = useMemo(() => nodesOf(plan?.jobs ?? template.jobs), [template, plan]);
  const body = () => {
    try {
      return { template: template.id, inputs: valuesOf(template.inputs, texts) };
    } catch (error) {
      throw new Problem(400, error.message);
    }
  };
  const look = async () => {
    const rendered = await action.run(async () => post(`${API}/templates/render`, body()), "This is what would be started.");
    if (rendered) setPlan(rendered);
  };
  const start = submitted(async () => {
    const when = later ? { notBefore: new Date(later).toISOString() } : {};
    const made = await action.run(async () => post(`${API}/crews`, { ...body(), ...when }));
    if (made) location.hash = `#/crews/${made.id}`;
  });
  return html`<p class="back"><a href="/#/templates"><${Icon} name="template" /> Templates</a></p>
    <div class="room-head"><${Title} document=${template.name ?? template.id}>${template.name ?? template.id}<//>
      <a class="button" href=${`/#/schedules?template=${segment(template.id)}`}>Make a schedule</a></div>
    ${template.description && html`<p class="lead">${template.description}</p>`}
    <div class="halves wide-left">
      <form class="card form" onSubmit=${start} aria-label="Start a crew">
        <h2>Start a crew</h2>
        ${Object.keys(template.inputs).length ? html`<${Inputs} inputs=${template.inputs} texts=${texts} wrong=${action.problem?.path}
          onChange=${(next) => { setTexts(next); setPlan(null); }} />` : html`<p class="soft">This template asks for nothing.</p>`}
        <details><summary>Later</summary>
          <${Field} label="Not before" hint="In your time zone. Empty: at once.">${(a) => html`<input ...${a} type="datetime-local" value=${later}
            onInput=${(e) => setLater(e.target.value)} />`}<//></details>
        <${Failure} problem=${action.problem} />
        <p class="said" role="status">${action.said}</p>
        <div class="choices"><button type="button" disabled=${action.busy} onClick=${look}>Look first</button>
          <button type="submit" class="primary" disabled=${action.busy}>Start</button></div>
      </form>
      <section class="card" aria-labelledby="shape-title"><h2 id="shape-title">${plan ? "What would be started" : "What it does"}</h2>
        <ol class="plain">${(plan?.jobs ?? template.jobs).map((job) => html`<li key=${job.id ?? job.key} class="stacked">
          <strong>${job.title}</strong>
          ${job.body && html`<span class="prose small">${job.body}</span>`}
          <span class="soft small">${[job.assignee ?? "command", job.parents.length ? `after ${job.parents.join(", ")}` : "at once",
            job.approval === "required" ? "asks for approval" : "", job.maxRetries ? `tried again up to ${counted(job.maxRetries, "time")}` : ""].filter(Boolean).join(" · ")}</span>
        </li>`)}</ol></section>
    </div>
    <section class="card" aria-label="Graph of the template"><${Graph} jobs=${jobs} links=${false} /></section>`;
}

/** Jobs of a template as nodes of a graph, before anything has happened. */
function nodesOf(jobs) {
  return jobs.map((job) => ({
    id: job.id ?? job.key, key: job.id ?? job.key, title: job.title, assignee: job.assignee, parents: job.parents,
    note: job.approval === "required" ? "asks for approval" : null, column: "todo", state: "queued", attempt: 0, outcome: null, gaveUp: false, strandedBy: null,
  }));
}
