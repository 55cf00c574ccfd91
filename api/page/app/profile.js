// The person's own account: the password, and API tokens for programs.

import { html, useState } from "../vendor/preact/preact.js";
import { Problem, post, remove, segment } from "./api.js";
import { Ago, Empty, Failure, Field, Title, submitted, useAction, useLoad } from "./parts.js";
import { me } from "./store.js";

export function Profile() {
  const { displayName, email, authProvider, isAdmin, id } = me.value;
  const account = id !== "operator";
  return html`<div class="room-head"><${Title} document="Profile">${displayName || email}<//></div>
    <p class="lead">${[email, isAdmin ? "administrator" : "user", account ? `signs in with ${authProvider === "local" ? "a password" : authProvider}` : "holds the server's token"].filter(Boolean).join(" · ")}</p>
    ${account ? html`<div class="halves">${authProvider === "local" && html`<${Password} />`}<${Tokens} isAdmin=${isAdmin} /></div>`
      : html`<${Empty} title="The server's token is no account.">It may do everything, so keep it to yourself.${" "}
          <a href="/#/people">Give people accounts</a>; each has tokens of their own here.<//>`}`;
}

function Password() {
  const action = useAction();
  const change = submitted(async ({ target }) => {
    const { current, fresh, again } = Object.fromEntries(new FormData(target));
    if (fresh !== again) return action.run(() => Promise.reject(new Problem(0, "The two new passwords are not the same.")));
    if (await action.run(() => post("/auth/password", { current, new: fresh }), "Your password was changed. Other sessions have ended.")) target.reset();
    return undefined;
  });
  return html`<form class="card form" onSubmit=${change} aria-label="Change your password"><h2>Password</h2>
    <input name="username" autocomplete="username" value=${me.value.email} hidden readonly />
    <${Field} label="Current password">${(a) => html`<input ...${a} name="current" type="password" autocomplete="current-password" required />`}<//>
    <${Field} label="New password">${(a) => html`<input ...${a} name="fresh" type="password" autocomplete="new-password" required />`}<//>
    <${Field} label="New password again">${(a) => html`<input ...${a} name="again" type="password" autocomplete="new-password" required />`}<//>
    <${Failure} problem=${action.problem} /><p class="said" role="status">${action.said}</p>
    <div class="choices"><button type="submit" class="primary" disabled=${action.busy}>Change password</button></div></form>`;
}

function Tokens({ isAdmin }) {
  const { data, problem, reload } = useLoad("/crewlog/v1/tokens");
  const [issued, setIssued] = useState(null);
  const action = useAction();
  const issue = submitted(async ({ target }) => {
    const form = new FormData(target);
    const days = Number(form.get("days"));
    const body = { name: form.get("name").trim(), scopes: ["read", ...form.getAll("scope")], expiresInDays: days || null };
    const token = await action.run(() => post("/crewlog/v1/tokens", body));
    if (!token) return;
    setIssued(token);
    target.reset();
    reload();
  });
  const revoke = async (id) => {
    await action.run(() => remove(`/crewlog/v1/tokens/${segment(id)}`), "The token was revoked.");
    setIssued((now) => (now?.id === id ? null : now));
    reload();
  };
  const tokens = data?.items ?? [];
  return html`<section class="card" aria-labelledby="tokens-title"><h2 id="tokens-title">API tokens</h2>
    ${issued && html`<${Issued} token=${issued} />`}
    ${tokens.length ? html`<ul class="plain">${tokens.map((token) => html`<li key=${token.id} class="token">
      <span class="stacked"><strong>${token.name}</strong><span class="soft small">${token.scopes.join(", ")} · issued <${Ago} at=${token.createdAt} />${
        token.expiresAt ? html` · expires <${Ago} at=${token.expiresAt} />` : " · never expires"}</span></span>
      <button type="button" class="quiet" disabled=${action.busy} aria-label=${`Revoke ${token.name}`} onClick=${() => revoke(token.id)}>Revoke</button></li>`)}</ul>`
      : html`<p class="soft">You have none. A program that works for you needs one.</p>`}
    <${Failure} problem=${problem} />
    <form class="form inner" onSubmit=${issue} aria-label="Issue a token"><div class="grid">
      <${Field} label="What is it for?">${(a) => html`<input ...${a} name="name" maxlength="100" required placeholder="nightly script" />`}<//>
      <${Field} label="Days until it expires" hint="Empty: never.">${(a) => html`<input ...${a} name="days" type="number" min="1" max="3650" value="90" />`}<//></div>
      <fieldset class="checks"><legend>What may it do?</legend><label class="check"><input type="checkbox" checked disabled /> Look</label>
        <label class="check"><input type="checkbox" name="scope" value="write" /> Change</label>
        ${isAdmin && html`<label class="check"><input type="checkbox" name="scope" value="admin" /> Administer</label>`}</fieldset>
      <${Failure} problem=${action.problem} /><p class="said" role="status">${action.said}</p>
      <div class="choices"><button type="submit" disabled=${action.busy}>Issue a token</button></div></form></section>`;
}

function Issued({ token }) {
  const [copied, setCopied] = useState(false);
  const copy = () => navigator.clipboard?.writeText(token.token).then(() => setCopied(true), () => {});
  return html`<div class="issued" role="status"><p><strong>${token.name}</strong>: copy it now, it is not shown again.</p>
    <div class="run-line"><input class="mono" readonly value=${token.token} aria-label="The new token" onFocus=${(e) => e.target.select()} />
      ${navigator.clipboard && html`<button type="button" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`}</div></div>`;
}
