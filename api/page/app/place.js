// Where one is. The room, and what is looked for in it, stand in the address: they survive a
// reload, and can be linked.

import { signal } from "../vendor/preact/preact.js";
import { query } from "./api.js";

const PAGES = { "/profile/": "/profile" }; // pages of the server that are a room here

function where() {
  const [path, said = ""] = location.hash.replace(/^#/, "").split("?");
  return { path: path || PAGES[location.pathname] || "/", query: new URLSearchParams(said) };
}

export const place = signal(where());

const LINK = /^#\/sign-in\/([\w-]+)$/; // what `crewlog serve` prints

/** The code of a sign-in link, if the address is one. It is taken out of the address: it is good
 * once. */
export function takeLink() {
  const found = LINK.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", "/#/");
  arrive();
  return found[1];
}

/** Look at the address again. */
export function arrive() {
  place.value = where();
}

/** Look for something else in the same room: no step back leads to each letter. */
export function lookFor(parts) {
  const said = { ...Object.fromEntries(place.peek().query), ...parts };
  history.replaceState(null, "", `#${query(place.peek().path, said)}`);
  arrive();
}
