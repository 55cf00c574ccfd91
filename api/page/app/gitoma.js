// gitoma: its health, and its state of each repository.

import { html, useEffect, useState } from "../vendor/preact/preact.js";
import { API, EventStream, Problem, get } from "./api.js";
import { Failure, Loading, State } from "./parts.js";
import { me } from "./store.js";

const OPERATOR = "operator";

export const Facts = ({ of: facts }) => html`<dl class="facts">${Object.entries(facts).filter(([, value]) => value !== null && value !== undefined)
  .map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** Loads the health once: the server asks LM Studio, which may be slow. */
export function Gitoma() {
  const [health, setHealth] = useState(null);
  const states = useStates();
  useEffect(() => {
    get(`${API}/system`).then(setHealth, (problem) => setHealth({ problem }));
  }, []);
  return html`<section class="card" aria-labelledby="gitoma-title"><h2 id="gitoma-title">gitoma</h2>
    ${health === null ? html`<${Loading} />` : health.problem instanceof Problem ? html`<${Failure} problem=${health.problem} />`
      : html`<${Facts} of=${{
        "LM Studio": health.lmStudio && (health.lmStudio.message || health.lmStudio.level),
        "GitHub token": health.githubTokenSet ? "set" : "not set",
        Repositories: states === null ? null : states.length ? null : "none yet",
      }} />`}
    ${states?.length > 0 && html`<${Repositories} states=${states} />`}</section>`;
}

function Repositories({ states }) {
  return html`<div class="scroll"><table class="rows"><thead><tr><th scope="col">Repository</th><th scope="col">Phase</th><th scope="col">Branch</th><th scope="col">Doing</th></tr></thead>
    <tbody>${states.map((state) => html`<tr key=${`${state.owner}/${state.name}`}><th scope="row">${state.owner}/${state.name}</th>
      <td data-name="Phase">${state.is_orphaned ? html`<${State} of="stranded" word="orphaned" /> ` : ""}${state.phase}</td>
      <td class="mono small" data-name="Branch">${state.branch ?? ""}</td>
      <td data-name="Doing">${state.current_operation ?? ""}${state.pr_url ? html` <a href=${safe(state.pr_url)} rel="noreferrer">pull request</a>` : ""}</td></tr>`)}</tbody></table></div>`;
}

const safe = (address) => (/^https:[/][/]/.test(address) ? address : undefined);

/** The states of the repositories, live. Null before the first ones come, and for who is not the
 * operator: only the operator may see them. */
function useStates() {
  const [states, setStates] = useState(null);
  useEffect(() => {
    if (me.peek().id !== OPERATOR) return undefined;
    const stream = new EventStream(`${API}/system/repositories/stream`, {
      frames: (list) => setStates(JSON.parse(list.at(-1).data)),
      state: () => {},
      closed: () => {},
    });
    return () => stream.stop();
  }, []);
  return states;
}
