// All accounts, for administrators.

import { html, useState } from "../vendor/preact/preact.js";
import { patch, post, remove, segment } from "./api.js";
import { Ago, Confirm, Empty, Failure, Field, Loading, Title, submitted, useAction, useLoad } from "./parts.js";
import { me } from "./store.js";

export function People() {
  const { data, problem, reload } = useLoad("/crewlog/v1/users");
  const [adding, setAdding] = useState(false);
  return html`<div class="room-head"><${Title} document="People">People<//>
      ${!adding && !problem && html`<button type="button" class="primary" onClick=${() => setAdding(true)}>Add somebody</button>`}</div>
    ${adding && html`<${Add} onDone=${() => { setAdding(false); reload(); }} onCancel=${() => setAdding(false)} />`}
    <${Failure} problem=${problem} />
    ${!data ? !problem && html`<${Loading} what="Loading the accounts" />` : !data.items.length
      ? html`<${Empty} title="Nobody has an account yet.">Whoever gets one can sign in with a password, and owns what they start.<//>`
      : html`<ul class="card list">${data.items.map((user) => html`<${Person} key=${user.id} user=${user} reload=${reload} />`)}</ul>`}`;
}

function Add({ onDone, onCancel }) {
  const action = useAction();
  const send = submitted(async ({ target }) => {
    const { email, name, role, password } = Object.fromEntries(new FormData(target));
    const body = { email: email.trim(), name: name.trim(), role, ...(password ? { password } : {}) };
    if (await action.run(() => post("/crewlog/v1/users", body))) onDone();
  });
  return html`<form class="card form" onSubmit=${send} aria-label="Add somebody"><h2>Add somebody</h2><div class="grid">
    <${Field} label="E-mail">${(a) => html`<input ...${a} name="email" type="email" autocomplete="off" required />`}<//>
    <${Field} label="Name">${(a) => html`<input ...${a} name="name" autocomplete="off" maxlength="200" />`}<//>
    <${Field} label="Role">${(a) => html`<select ...${a} name="role"><option value="user">User</option><option value="admin">Administrator</option></select>`}<//>
    <${Field} label="Password" hint="Empty: only through a provider.">${(a) => html`<input ...${a} name="password" type="password" autocomplete="new-password" />`}<//>
    </div><${Failure} problem=${action.problem} />
    <div class="choices"><button type="button" onClick=${onCancel}>Leave it</button><button type="submit" class="primary" disabled=${action.busy}>Add</button></div></form>`;
}

function Person({ user, reload }) {
  const [open, setOpen] = useState("");
  const action = useAction();
  const path = `/crewlog/v1/users/${segment(user.id)}`;
  const self = user.id === me.value.id;
  const act = async (work, said) => {
    if (await action.run(work, said)) {
      setOpen("");
      reload();
    }
  };
  const setPassword = submitted(({ target }) =>
    act(() => post(`${path}/password`, { password: new FormData(target).get("password") }), "The password was set; their sessions have ended."));
  return html`<li class="person" data-off=${user.disabled}>
    <div class="stacked"><span class="row-title">${user.displayName || user.email}${self ? html` <span class="soft small">(you)</span>` : ""}</span>
      <span class="soft small">${user.email}</span></div>
    <span class="small">${user.disabled ? html`<strong class="reason">switched off</strong>` : user.role === "admin" ? "Administrator" : "User"}</span>
    <span class="soft small">${user.signedInAt ? html`signed in <${Ago} at=${user.signedInAt} />` : "never signed in"}</span>
    <div class="actions" role="group" aria-label=${`Actions for ${user.email}`}>
      <button type="button" class="quiet" disabled=${action.busy || self} onClick=${() => act(() => patch(path, { role: user.role === "admin" ? "user" : "admin" }))}>
        ${user.role === "admin" ? "Make a user" : "Make an administrator"}</button>
      <button type="button" class="quiet" aria-expanded=${open === "password"} onClick=${() => setOpen(open ? "" : "password")}>Set password</button>
      ${user.sessions > 0 && html`<button type="button" class="quiet" disabled=${action.busy} onClick=${() => act(() => remove(`${path}/sessions`), "Signed out everywhere.")}>Sign out everywhere</button>`}
      ${user.disabled
        ? html`<button type="button" class="quiet" disabled=${action.busy} onClick=${() => act(() => post(`${path}/enable`))}>Enable</button>`
        : html`<button type="button" class="quiet" disabled=${action.busy || self} onClick=${() => setOpen("disable")}>Disable</button>`}
    </div>
    ${open === "password" && html`<form class="inline-form" onSubmit=${setPassword}>
      <${Field} label=${`New password for ${user.email}`}>${(a) => html`<input ...${a} name="password" type="password" autocomplete="new-password" required />`}<//>
      <button type="submit" class="primary" disabled=${action.busy}>Set it</button></form>`}
    <p class="said small" role="status">${action.said}</p><${Failure} problem=${action.problem} />
    <${Confirm} open=${open === "disable"} title=${`Disable ${user.email}?`} yes="Disable" no="Leave it on" busy=${action.busy} onNo=${() => setOpen("")}
      onYes=${() => act(() => post(`${path}/disable`))}><p>Their sessions end at once, and their tokens rest. What they started stays.</p><//>
  </li>`;
}
