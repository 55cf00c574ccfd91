// The current place. The address holds the room and its filter, so that both survive a reload and
// can be linked.

import { signal } from "../vendor/preact/preact.js";
import { query } from "./api.js";

const PAGES = { "/profile/": "/profile" }; // paths of the server that are rooms of the page

function where() {
  const [path, said = ""] = location.hash.replace(/^#/, "").split("?");
  return { path: path || PAGES[location.pathname] || "/", query: new URLSearchParams(said) };
}

export const place = signal(where());

const LINK = /^#\/sign-in\/([\w-]+)$/; // what `crewlog serve` prints

/** The code of a sign-in link, if the address is one. Removes it from the address, because it works
 * only once. */
export function takeLink() {
  const found = LINK.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", "/#/");
  arrive();
  return found[1];
}

/** Read the address again. */
export function arrive() {
  place.value = where();
}

/** Change the filter of the room, without a step in the browser's history for each letter. */
export function lookFor(parts) {
  const said = { ...Object.fromEntries(place.peek().query), ...parts };
  history.replaceState(null, "", `#${query(place.peek().path, said)}`);
  arrive();
}
