// Sign-in with a password, a provider, or the server's token.

import { html, useEffect, useRef, useState } from "../vendor/preact/preact.js";
import { get, signedOut } from "./api.js";
import { Failure, Field, Loading, Title, submitted, useAction } from "./parts.js";
import { signInWithPassword, signInWithToken } from "./store.js";

const WAY_KEY = "crewlog.way"; // the way of the last sign-in in this browser

const ERRORS = {
  wrong: "The e-mail address or the password is wrong.",
  unavailable: "The provider cannot be reached at the moment.",
  unverified: "The provider does not vouch for your e-mail address.",
  unusable: "The provider gave an e-mail address that cannot be used.",
  no_account: "There is no account for this address. Ask an administrator for one.",
  disabled: "This account is switched off. Ask an administrator.",
};

function failedBefore() {
  const reason = new URLSearchParams(location.search).get("error");
  if (!reason) return "";
  return ERRORS[reason] ?? "Signing in did not work. Try again.";
}

/** The sign-in page leads to the profile (`contracts/board.md` §2). */
function goOn() {
  if (location.pathname === "/login/") location.assign(location.hash ? `/${location.hash}` : "/profile/");
}

export function SignIn() {
  const [chosen, setChosen] = useState(localStorage.getItem(WAY_KEY) === "token" ? "token" : "password");
  const [ways, setWays] = useState(null);
  const [before, setBefore] = useState(failedBefore());
  const action = useAction();
  const first = useRef(null);

  useEffect(() => {
    get("/auth/providers").then(setWays, () => setWays({ password: true, providers: [] }));
  }, []);
  const why = signedOut.value;
  useEffect(() => {
    if (why) setBefore(why);
  }, [why]);
  const way = ways && !ways.password ? "token" : chosen;
  useEffect(() => first.current?.focus(), [way, ways]);

  const choose = (other) => {
    setChosen(other);
    setBefore("");
    action.say("");
  };
  const enter = submitted(async ({ target }) => {
    setBefore("");
    const { email, password, token } = Object.fromEntries(new FormData(target));
    const work = way === "token" ? () => signInWithToken(token.trim()) : () => signInWithPassword(email.trim(), password);
    if (!(await action.run(work))) return first.current?.select();
    localStorage.setItem(WAY_KEY, way);
    if (way === "password") goOn();
    else if (location.pathname === "/login/") location.assign("/");
    return undefined;
  });

  if (ways === null) return html`<main id="content" class="sign-in-room"><${Loading} /></main>`;
  const { providers } = ways;
  return html`<main id="content" class="sign-in-room">
    <section class="card sign-in" aria-labelledby="room-title">
      <p class="brand" aria-hidden="true">crewlog</p>
      <${Title} document="Sign in">Sign in<//>
      <form onSubmit=${enter}>
        ${way === "password" ? html`<${Password} first=${first} />` : html`<${Token} first=${first} alone=${!ways.password} />`}
        <${Failure} problem=${action.problem ?? before} id="sign-in-error" />
        <button type="submit" class="primary" disabled=${action.busy}>Sign in</button>
      </form>
      ${providers.length > 0 && html`<div class="ways" role="group" aria-label="Other ways in">
        ${providers.map(({ name, label, url }) => html`<a key=${name} class="button" href=${url}>Sign in with ${label}</a>`)}
      </div>`}
      ${ways.password && html`<p class="hint">
        ${way === "password"
          ? html`<button type="button" class="link" onClick=${() => choose("token")}>Use a token instead</button>`
          : html`<button type="button" class="link" onClick=${() => choose("password")}>Use e-mail and password instead</button>`}
      </p>`}
    </section>
  </main>`;
}

const Password = ({ first }) => html`
  <${Field} label="E-mail">${(a) => html`<input ...${a} ref=${first} name="email" type="email" autocomplete="username"
    autocapitalize="off" spellcheck=${false} required />`}<//>
  <${Field} label="Password">${(a) => html`<input ...${a} name="password" type="password"
    autocomplete="current-password" required />`}<//>`;

/** `alone`: there is no account yet. */
const Token = ({ first, alone }) => html`
  ${alone
    ? html`<p>Nobody has an account here yet. Open the sign-in link that <code>crewlog serve</code> printed when it started,${" "}
        or give the server's token: it is in the file <code>token</code> of the data directory.</p>`
    : html`<p>The server's token is in the file <code>token</code> of the data directory, which${" "}
        <code>crewlog serve</code> prints when it starts. An API token of yours works too, in this tab.</p>`}
  <${Field} label="Token" hint="You stay signed in, in this browser, until you sign out or have not come for 30 days.">${(a) => html`<input ...${a}
    ref=${first} name="token" type="password" autocomplete="off" autocapitalize="off" spellcheck=${false} required />`}<//>`;
