// The page: the room that is shown, the navigation, the theme.

import { batch, html, render, signal, useLayoutEffect, useRef } from "../vendor/preact/preact.js";
import { Approvals } from "./approvals.js";
import { Board } from "./board.js";
import { Crew } from "./crew.js";
import { Job } from "./job.js";
import { Jobs } from "./jobs.js";
import { Empty, Icon, Loading, Title, arrival } from "./parts.js";
import { People } from "./people.js";
import { arrive, place, takeLink } from "./place.js";
import { Profile } from "./profile.js";
import { Schedule } from "./schedule.js";
import { Schedules } from "./schedules.js";
import { SignIn } from "./signin.js";
import { begin, connection, me, notice, signInWithLink, signOut, waitingCount } from "./store.js";
import { System } from "./system.js";
import { Templates } from "./templates.js";

const ROOMS = [
  [/^\/?$/, Board, "/"],
  [/^\/board$/, Board, "/"],
  [/^\/jobs$/, Jobs, "/jobs"],
  [/^\/jobs\/([^/]+)$/, Job, "/"],
  [/^\/crews\/([^/]+)$/, Crew, "/"],
  [/^\/approvals$/, Approvals, "/approvals"],
  [/^\/schedules$/, Schedules, "/schedules"],
  [/^\/schedules\/([^/]+)$/, Schedule, "/schedules"],
  [/^\/templates$/, Templates, "/templates"],
  [/^\/templates\/(.+)$/, Templates, "/templates"],
  [/^\/people$/, People, "/people"],
  [/^\/profile$/, Profile, "/profile"],
  [/^\/system$/, System, "/system"],
];

const WAYS = [
  ["/", "board", "Board"],
  ["/approvals", "inbox", "Approvals"],
  ["/schedules", "clock", "Schedules"],
  ["/templates", "template", "Templates"],
  ["/jobs", "jobs", "All jobs"],
  ["/people", "people", "People"],
  ["/system", "system", "System"],
];

const WORDS = { live: "Live", reconnecting: "Reconnecting …", connecting: "Connecting" };
const THEME_KEY = "crewlog.theme";
const THEMES = { "": "as the system", light: "light", dark: "dark" };

const theme = signal(document.documentElement.dataset.theme ?? "");
const menuOpen = signal(false);

function room({ path }) {
  for (const [pattern, Room, way] of ROOMS) {
    const found = pattern.exec(path);
    if (found) return { Room, way, id: found[1] === undefined ? null : decodeURIComponent(found[1]) };
  }
  return { Room: Nowhere, way: "", id: null };
}

const Nowhere = () => html`<${Title} document="Not found">There is nothing here<//>
  <${Empty} title="This address leads nowhere."><a href="/#/">To the board</a><//>`;

function App() {
  if (me.value === undefined) return html`<main id="content" class="sign-in-room">${notice.value ? html`<${Notice} />` : html`<${Loading} />`}</main>`;
  if (me.value === null) return html`<${SignIn} />`;
  return html`<${Shell} />`;
}

function Shell() {
  const { Room, way, id } = room(place.value);
  const main = useRef(null);
  const came = useRef(null);
  const here = `${place.value.path}`;
  useLayoutEffect(() => {
    const arrived = came.current !== null && came.current !== here;
    came.current = here;
    if (!arrived) return;
    arrival.fresh = true;
    window.scrollTo(0, 0);
    main.current.querySelector("h1")?.focus({ preventScroll: true });
  }, [here]);
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    ${Room === Board && html`<a class="skip" href="#cards" onClick=${skipToCards}>Skip to the first job</a>`}
    <${Header} way=${way} />
    <${Notice} />
    <main id="content" tabindex="-1" ref=${main}><${Room} key=${here} id=${id} query=${place.value.query} /></main>`;
}

/** The skip link must not change the address, because the address names the room. */
function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

function skipToCards(event) {
  event.preventDefault();
  const cards = [...document.querySelectorAll(".card-title")];
  (cards.find((card) => card.checkVisibility()) ?? document.getElementById("content")).focus();
}

function Notice() {
  return html`<p class="notice" role="status" hidden=${!notice.value}>${notice.value}</p>`;
}

function Header({ way }) {
  const { displayName, email, isAdmin } = me.value;
  return html`<header class="bar">
    <a class="brand" href="/#/" aria-label="crewlog, to the board">crewlog</a>
    <button type="button" class="quiet menu" aria-expanded=${menuOpen.value} aria-controls="ways"
      onClick=${() => (menuOpen.value = !menuOpen.value)}><${Icon} name="menu" label="Menu" /></button>
    <nav id="ways" class="ways-between" aria-label="Main" data-open=${menuOpen.value}>
      ${WAYS.filter(([path]) => isAdmin || path !== "/people").map(
        ([path, icon, name]) => html`<a key=${path} href=${`/#${path}`} aria-current=${way === path ? "page" : undefined}
          onClick=${() => (menuOpen.value = false)}><${Icon} name=${icon} /><span>${name}</span>
          ${path === "/approvals" && html`<${Waiting} />`}</a>`,
      )}
      <a class="only-phone" href="/#/profile" aria-current=${way === "/profile" ? "page" : undefined}><${Icon} name="people" /><span>Profile</span></a>
    </nav>
    <p id="connection" class="connection" role="status" data-state=${connection.value}>
      <span class="lamp" aria-hidden="true"></span><span>${WORDS[connection.value]}</span>
    </p>
    <button type="button" class="quiet theme" onClick=${nextTheme} title=${`Theme: ${THEMES[theme.value]}`}>
      <${Icon} name="theme" label=${`Theme: ${THEMES[theme.value]}`} /></button>
    <a class="who" href="/#/profile" aria-current=${way === "/profile" ? "page" : undefined} title=${email || displayName}>${displayName || email}</a>
    <button type="button" class="quiet" onClick=${leave}>Sign out</button>
  </header>`;
}

function Waiting() {
  const count = waitingCount.value;
  if (!count) return null;
  return html`<span class="count" aria-label=${`${count} waiting`}>${count > 999 ? "999+" : count}</span>`;
}

async function leave() {
  await signOut();
  if (location.pathname !== "/") location.assign("/");
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const chosen = names[(names.indexOf(theme.value) + 1) % names.length];
  theme.value = chosen;
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem(THEME_KEY, chosen);
}

/** Sign in if the address is a sign-in link. */
function enterByLink() {
  const code = takeLink();
  if (code !== null) signInWithLink(code);
  return code !== null;
}

window.addEventListener("hashchange", () => {
  if (enterByLink()) return;
  batch(() => {
    menuOpen.value = false;
    arrive();
  });
});

render(html`<${App} />`, document.getElementById("page"));
if (!enterByLink()) begin();
