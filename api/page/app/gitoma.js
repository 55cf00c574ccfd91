// gitoma: its health, and its state of each repository.

import { html, useEffect, useState } from "../vendor/preact/preact.js";
import { API, Problem, get, hasToken, heldToken } from "./api.js";
import { Failure, Loading, State } from "./parts.js";
import { me } from "./store.js";

const SUBPROTOCOL = "gitoma-bearer."; // contracts/gitoma.md §8
const OPERATOR = "operator";
const AGAIN_MS = 5_000;

export const Facts = ({ of: facts }) => html`<dl class="facts">${Object.entries(facts).filter(([, value]) => value !== null && value !== undefined)
  .map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** Loads the health once: the server asks LM Studio, which may be slow. */
export function Gitoma() {
  const [health, setHealth] = useState(null);
  const states = useStates(health?.dialects?.includes("gitoma"));
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

/** The token of this tab, if any; the browser sends a session's cookie itself. */
function credentials() {
  if (!hasToken()) return [];
  return [SUBPROTOCOL + btoa(heldToken()).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")];
}

/** The states from the socket of gitoma's dialect. Null if the dialect is not served or the person
 * is not the operator: only the operator may open the socket. */
function useStates(served) {
  const [states, setStates] = useState(null);
  useEffect(() => {
    if (!served || me.peek().id !== OPERATOR) return undefined;
    let socket;
    let again;
    const open = () => {
      socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws/state`, credentials());
      socket.onmessage = ({ data }) => setStates(JSON.parse(data));
      socket.onclose = () => (again = setTimeout(open, AGAIN_MS));
    };
    open();
    return () => {
      clearTimeout(again);
      socket.onclose = null;
      // Closing a socket that is still connecting would log an error in the console.
      if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
      else socket.close();
    };
  }, [served]);
  return states;
}
