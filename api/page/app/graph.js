// The graph of a crew: its jobs in layers, each after its parents.

import { html, signal, useEffect, useRef } from "../vendor/preact/preact.js";
import { look, stateOf } from "./states.js";

const HEIGHT = 58;
const WIDTH = { across: 196, downward: 136 }; // of a node; on a phone, layers are rows
const GAP = { along: 52, across: 16 };
const BEND = 10; // width of the lane of an edge that crosses a layer
const MARGIN = 4;
const NARROW = window.matchMedia("(max-width: 44rem)");

const downward = signal(NARROW.matches);
NARROW.addEventListener("change", () => (downward.value = NARROW.matches));

/** Layers of jobs: a job is one layer after the last of its parents. Within a layer it is near its
 * parents, so that few edges cross. An edge that crosses a layer gets a lane there,
 * `{id, lane: true, parents}`, so that it does not run behind a job. */
function layersOf(jobs) {
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const depths = new Map();
  const depth = (job) => {
    if (!depths.has(job.id)) {
      depths.set(job.id, 0); // even an impossible cycle must not hang the page
      const parents = job.parents.map((id) => byId.get(id)).filter(Boolean);
      depths.set(job.id, parents.length ? 1 + Math.max(...parents.map(depth)) : 0);
    }
    return depths.get(job.id);
  };
  const layers = [];
  for (const job of jobs) (layers[depth(job)] ??= []).push(job);
  for (const job of jobs) {
    for (const id of job.parents.filter((one) => byId.has(one))) {
      for (let layer = depths.get(id) + 1; layer < depths.get(job.id); layer += 1) {
        const before = layer === depths.get(id) + 1 ? id : laneId(id, job.id, layer - 1);
        layers[layer].push({ id: laneId(id, job.id, layer), lane: true, parents: [before] });
      }
    }
  }
  const places = new Map();
  for (const layer of layers) {
    const middle = (job) => {
      const above = job.lane ? job.parents : job.parents.filter((id) => places.has(id));
      const known = above.map((id) => places.get(id)).filter((at) => at !== undefined);
      return known.length ? known.reduce((sum, at) => sum + at, 0) / known.length : 0;
    };
    const sorted = layer.map((job) => [middle(job), job]).sort(([a], [b]) => a - b);
    layer.splice(0, layer.length, ...sorted.map(([, job]) => job));
    layer.forEach((job, index) => places.set(job.id, index - (layer.length - 1) / 2));
  }
  return layers;
}

const laneId = (from, to, layer) => `${from} ${to} ${layer}`;

/** The centres of jobs and lanes, by id, and the size of the graph. */
function positionsOf(layers, down) {
  const width = down ? WIDTH.downward : WIDTH.across;
  const [depthOf, breadthOf] = down ? [HEIGHT, width] : [width, HEIGHT];
  const step = depthOf + (down ? GAP.along - 14 : GAP.along);
  const breadth = (one) => (one.lane ? BEND : breadthOf);
  const total = (layer) => layer.reduce((sum, one) => sum + breadth(one) + GAP.across, -GAP.across);
  const widest = Math.max(...layers.map(total));
  const middles = new Map();
  layers.forEach((layer, depth) => {
    let across = MARGIN + (widest - total(layer)) / 2;
    for (const one of layer) {
      const along = MARGIN + depth * step + depthOf / 2;
      const middle = across + breadth(one) / 2;
      middles.set(one.id, down ? { x: middle, y: along } : { x: along, y: middle });
      across += breadth(one) + GAP.across;
    }
  });
  const [length, side] = [(layers.length - 1) * step + depthOf + 2 * MARGIN, widest + 2 * MARGIN];
  return { middles, box: width, width: down ? side : length, height: down ? length : side };
}

/** `links`: nodes link to their jobs. A template has no jobs yet. */
export function Graph({ jobs, links = true }) {
  const down = downward.value;
  const scroller = useRef(null);
  const layers = layersOf(jobs);
  const { middles, box, width, height } = positionsOf(layers, down);
  const depths = new Map(layers.flatMap((layer, depth) => layer.map((one) => [one.id, depth])));
  const edges = jobs.flatMap((job) =>
    job.parents.filter((id) => depths.has(id)).map((id) => ({ from: jobs.find((one) => one.id === id), to: job })),
  );
  const route = ({ from, to }) => {
    const between = [];
    for (let layer = depths.get(from.id) + 1; layer < depths.get(to.id); layer += 1) between.push(middles.get(laneId(from.id, to.id, layer)));
    return [middles.get(from.id), ...between, middles.get(to.id)];
  };
  useEffect(() => {
    if (down) scroller.current.scrollLeft = (scroller.current.scrollWidth - scroller.current.clientWidth) / 2;
  }, [down, width]);
  return html`<div class="graph" ref=${scroller}>
    <svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label="The jobs of the crew and what they wait for">
      ${edges.map((edge) => html`<${Edge} key=${`${edge.from.id} ${edge.to.id}`} route=${route(edge)} box=${box} down=${down} done=${edge.from.column === "done"} />`)}
      ${jobs.map((job) => html`<${Node} key=${job.id} job=${job} jobs=${jobs} at=${middles.get(job.id)} box=${box} links=${links} />`)}
    </svg></div>`;
}

/** A line from one job to another, through its lanes. */
function Edge({ route, box, down, done }) {
  const half = (down ? HEIGHT : box) / 2;
  const last = route[route.length - 1];
  const out = down ? { x: route[0].x, y: route[0].y + half } : { x: route[0].x + half, y: route[0].y };
  const end = down ? { x: last.x, y: last.y - half } : { x: last.x - half, y: last.y };
  const tip = down ? { x: end.x, y: end.y - 5 } : { x: end.x - 5, y: end.y };
  const pieces = [`M${out.x} ${out.y}`];
  const bow = (a, b) => (down
    ? `C${a.x} ${(a.y + b.y) / 2} ${b.x} ${(a.y + b.y) / 2} ${b.x} ${b.y}`
    : `C${(a.x + b.x) / 2} ${a.y} ${(a.x + b.x) / 2} ${b.y} ${b.x} ${b.y}`);
  let at = out;
  for (const lane of route.slice(1, -1)) {
    const [into, from] = down ? [{ x: lane.x, y: lane.y - half }, { x: lane.x, y: lane.y + half }] : [{ x: lane.x - half, y: lane.y }, { x: lane.x + half, y: lane.y }];
    pieces.push(bow(at, into), `L${from.x} ${from.y}`);
    at = from;
  }
  pieces.push(bow(at, tip));
  const head = down ? `M${end.x - 4} ${end.y - 7}L${end.x} ${end.y - 1}L${end.x + 4} ${end.y - 7}z` : `M${end.x - 7} ${end.y - 4}L${end.x - 1} ${end.y}L${end.x - 7} ${end.y + 4}z`;
  return html`<g class="edge" data-done=${done} aria-hidden="true"><path d=${pieces.join("")} fill="none" /><path class="head" d=${head} /></g>`;
}

const ruler = document.createElement("canvas").getContext("2d");

/** The part of a text that fits the width in this font. */
function fitting(text, font, width) {
  ruler.font = `${font} ${getComputedStyle(document.body).fontFamily}`;
  if (ruler.measureText(text).width <= width) return text;
  let shown = text;
  while (shown && ruler.measureText(`${shown}…`).width > width) shown = shown.slice(0, -1);
  return `${shown.trimEnd()}…`;
}

function Node({ job, jobs, at, box, links }) {
  const state = stateOf(job);
  const { word, tone } = look(state);
  const after = job.parents.map((id) => jobs.find((one) => one.id === id)?.title).filter(Boolean);
  const said = `${job.title}${links ? `: ${word}` : ""}${after.length ? `, after ${after.join(", ")}` : ""}`;
  const facts = links ? [word, job.attempt > 1 ? `#${job.attempt}` : "", job.assignee] : [job.note ?? job.key];
  const leads = links ? { href: `/#/jobs/${job.id}`, "aria-label": said } : { role: "img", "aria-label": said };
  const tag = links ? "a" : "g";
  const [x, y] = [at.x - box / 2, at.y - HEIGHT / 2];
  const indent = links ? 34 : 16;
  return html`<${tag} class="node" ...${leads} data-tone=${tone} data-state=${state} data-key=${job.key ?? ""}>
    <title>${said}</title>
    <rect x=${x} y=${y} width=${box} height=${HEIGHT} rx="9" />
    <rect class="stripe" x=${x} y=${y + 9} width="4" height=${HEIGHT - 18} rx="2" />
    <text class="node-title" x=${x + 16} y=${y + 25}>${fitting(job.title, "600 13.5px", box - 24)}</text>
    ${links && html`<${Mark} tone=${tone} x=${x + 16} y=${y + 34} />`}
    <text class="node-state" x=${x + indent} y=${y + 45}>${fitting(facts.filter(Boolean).join(" · "), "12px", box - indent - 8)}</text>
  <//>`;
}

const MARKS = {
  good: "M2 7l3 3 6-6.5",
  bad: "M2.5 2.5l8 8M10.5 2.5l-8 8",
  busy: "M3.5 2v9l7.5-4.5z",
  warn: "M4 2.5v8M9 2.5v8",
  idle: "M6.5 2a4.5 4.5 0 100 9 4.5 4.5 0 100-9",
};

function Mark({ tone, x, y }) {
  return html`<path class="mark" transform=${`translate(${x} ${y})`} d=${MARKS[tone]} data-filled=${tone === "busy"} />`;
}
