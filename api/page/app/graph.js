// A crew as a picture: its jobs in layers, each after all that it waits for.

import { html, signal } from "../vendor/preact/preact.js";
import { look, stateOfNode } from "./states.js";

const NODE = { width: 196, height: 58 };
const GAP = { along: 52, across: 16 };
const MARGIN = 4;
const TITLE = 25; // characters that fit in a node
const NARROW = window.matchMedia("(max-width: 44rem)");

const downward = signal(NARROW.matches);
NARROW.addEventListener("change", () => (downward.value = NARROW.matches));

/** Layers of jobs: a job stands one layer after the last of its parents; within a layer it stands
 * where its parents do, so that edges cross little. */
export function layersOf(jobs) {
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const depths = new Map();
  const depth = (job) => {
    if (!depths.has(job.id)) {
      depths.set(job.id, 0); // a cycle cannot be, and must not hang the page
      const parents = job.parents.map((id) => byId.get(id)).filter(Boolean);
      depths.set(job.id, parents.length ? 1 + Math.max(...parents.map(depth)) : 0);
    }
    return depths.get(job.id);
  };
  const layers = [];
  for (const job of jobs) (layers[depth(job)] ??= []).push(job);
  const places = new Map();
  for (const layer of layers) {
    const middle = (job) => {
      const known = job.parents.map((id) => places.get(id)).filter((at) => at !== undefined);
      return known.length ? known.reduce((sum, at) => sum + at, 0) / known.length : 0;
    };
    const sorted = layer.map((job) => [middle(job), job]).sort(([a], [b]) => a - b);
    layer.splice(0, layer.length, ...sorted.map(([, job]) => job));
    layer.forEach((job, index) => places.set(job.id, index - (layer.length - 1) / 2));
  }
  return layers;
}

function positionsOf(layers, down) {
  const widest = Math.max(...layers.map((layer) => layer.length));
  const [step, side] = down
    ? [NODE.height + GAP.along - 14, NODE.width + GAP.across]
    : [NODE.width + GAP.along, NODE.height + GAP.across];
  const positions = new Map();
  layers.forEach((layer, depth) => {
    layer.forEach((job, index) => {
      const along = MARGIN + depth * step;
      const across = MARGIN + ((widest - layer.length) / 2 + index) * side;
      positions.set(job.id, down ? { x: across, y: along } : { x: along, y: across });
    });
  });
  const length = layers.length * step - (step - (down ? NODE.height : NODE.width)) + 2 * MARGIN;
  const breadth = widest * side - GAP.across + 2 * MARGIN;
  return { positions, width: down ? breadth : length, height: down ? length : breadth };
}

/** `links` is whether a node leads to its job: those of a template have none. */
export function Graph({ jobs, links = true }) {
  const down = downward.value;
  const { positions, width, height } = positionsOf(layersOf(jobs), down);
  const edges = jobs.flatMap((job) =>
    job.parents.filter((id) => positions.has(id)).map((id) => [id, job.id, jobs.find((one) => one.id === id)]),
  );
  return html`<div class="graph" tabindex="-1">
    <svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label="The jobs of the crew and what they wait for">
      ${edges.map(([from, to, parent]) => html`<${Edge} key=${`${from} ${to}`} from=${positions.get(from)} to=${positions.get(to)}
        down=${down} done=${parent.status === "done"} />`)}
      ${jobs.map((job) => html`<${Node} key=${job.id} job=${job} jobs=${jobs} at=${positions.get(job.id)} links=${links} />`)}
    </svg></div>`;
}

function Edge({ from, to, down, done }) {
  const [x1, y1] = down ? [from.x + NODE.width / 2, from.y + NODE.height] : [from.x + NODE.width, from.y + NODE.height / 2];
  const [x2, y2] = down ? [to.x + NODE.width / 2, to.y] : [to.x, to.y + NODE.height / 2];
  const bend = (down ? y2 - y1 : x2 - x1) / 2;
  const d = down
    ? `M${x1} ${y1} C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2 - 5}`
    : `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 5} ${y2}`;
  const head = down ? `M${x2 - 4} ${y2 - 7}L${x2} ${y2 - 1}L${x2 + 4} ${y2 - 7}z` : `M${x2 - 7} ${y2 - 4}L${x2 - 1} ${y2}L${x2 - 7} ${y2 + 4}z`;
  return html`<g class="edge" data-done=${done} aria-hidden="true"><path d=${d} fill="none" /><path class="head" d=${head} /></g>`;
}

function Node({ job, jobs, at, links }) {
  const state = stateOfNode(job);
  const { word, tone } = look(state);
  const after = job.parents.map((id) => jobs.find((one) => one.id === id)?.title).filter(Boolean);
  const said = `${job.title}${links ? `: ${word}` : ""}${after.length ? `, after ${after.join(", ")}` : ""}`;
  const title = job.title.length > TITLE ? `${job.title.slice(0, TITLE - 1)}…` : job.title;
  const second = [links ? word : "", job.attempts > 1 ? `#${job.attempts}` : "", job.assignee ?? ""].filter(Boolean).join(" · ");
  const leads = links ? { href: `/#/jobs/${job.id}`, "aria-label": said } : { role: "img", "aria-label": said };
  const tag = links ? "a" : "g";
  return html`<${tag} class="node" ...${leads} data-tone=${tone} data-state=${state} data-key=${job.key ?? ""}>
    <title>${said}</title>
    <rect x=${at.x} y=${at.y} width=${NODE.width} height=${NODE.height} rx="9" />
    <rect class="stripe" x=${at.x} y=${at.y + 9} width="4" height=${NODE.height - 18} rx="2" />
    <text class="node-title" x=${at.x + 16} y=${at.y + 25}>${title}</text>
    ${links && html`<${Mark} state=${state} x=${at.x + 16} y=${at.y + 34} />`}
    <text class="node-state" x=${at.x + (links ? 34 : 16)} y=${at.y + 45}>${second.length > 26 ? `${second.slice(0, 25)}…` : second}</text>
  <//>`;
}

const MARKS = {
  good: "M2 7l3 3 6-6.5",
  bad: "M2.5 2.5l8 8M10.5 2.5l-8 8",
  busy: "M3.5 2v9l7.5-4.5z",
  warn: "M4 2.5v8M9 2.5v8",
  idle: "M6.5 2a4.5 4.5 0 100 9 4.5 4.5 0 100-9",
};

function Mark({ state, x, y }) {
  const { tone } = look(state);
  return html`<path class="mark" transform=${`translate(${x} ${y})`} d=${MARKS[tone]} data-filled=${tone === "busy"} />`;
}
