// The form for the inputs that a template declares (JSON Schema), and its values.

import { html } from "../vendor/preact/preact.js";
import { Field } from "./parts.js";

const TEXTS = new Set(["string", "path", undefined]);

const kindOf = ({ type, enum: choices }) => (choices ? "choice" : Array.isArray(type) ? type[0] : type);

/** The first texts of the form, from the given values or the defaults. */
export function firstTexts(inputs, given = {}) {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, schema]) => {
      const value = name in given ? given[name] : schema.default;
      if (kindOf(schema) === "boolean") return [name, value === true];
      if (value === undefined || value === null) return [name, ""];
      return [name, typeof value === "object" ? JSON.stringify(value, null, 2) : String(value)];
    }),
  );
}

/** The inputs from the texts. Empty texts are left out, so that the defaults apply. Throws Error
 * with a sentence if a text is not valid. */
export function valuesOf(inputs, texts) {
  const values = {};
  for (const [name, schema] of Object.entries(inputs)) {
    const text = texts[name];
    const kind = kindOf(schema);
    if (kind === "boolean") values[name] = text;
    else if (text === "" || text === undefined) continue;
    else if (kind === "choice") values[name] = schema.enum.find((one) => String(one) === text) ?? text;
    else if (TEXTS.has(kind)) values[name] = text;
    else if (kind === "number" || kind === "integer") values[name] = Number(text);
    else {
      try {
        values[name] = JSON.parse(text);
      } catch {
        throw new Error(`${name} is to be ${kind === "array" ? "a list" : "an object"} in JSON, like ${kind === "array" ? '["a", "b"]' : '{"a": 1}'}.`);
      }
    }
  }
  return values;
}

export function Inputs({ inputs, texts, onChange, wrong = "" }) {
  return Object.entries(inputs).map(([name, schema]) => html`<${Input} key=${name} name=${name} schema=${schema}
    text=${texts[name]} wrong=${wrong === `inputs.${name}` || wrong === name} onChange=${(text) => onChange({ ...texts, [name]: text })} />`);
}

function Input({ name, schema, text, wrong, onChange }) {
  const kind = kindOf(schema);
  const label = `${schema.title ?? name}${schema.required ? "" : " (optional)"}`;
  const changed = (event) => onChange(event.target.value);
  const said = { name, required: schema.required && kind !== "boolean", "aria-invalid": wrong || undefined };
  if (kind === "boolean") {
    return html`<div class="field"><label class="check"><input type="checkbox" name=${name} checked=${text}
      onChange=${(e) => onChange(e.target.checked)} /> ${schema.title ?? name}</label>
      ${schema.description && html`<p class="hint">${schema.description}</p>`}</div>`;
  }
  return html`<${Field} label=${label} hint=${schema.description} wide=${kind === "array" || kind === "object"}>${(a) =>
    kind === "choice"
      ? html`<select ...${a} ...${said} value=${text} onChange=${changed}>
          ${!schema.required && schema.default === undefined && html`<option value=""></option>`}
          ${schema.enum.map((one) => html`<option key=${one} value=${String(one)}>${String(one)}</option>`)}</select>`
      : kind === "number" || kind === "integer"
        ? html`<input ...${a} ...${said} type="number" step=${kind === "integer" ? 1 : "any"} min=${schema.minimum} max=${schema.maximum} value=${text} onInput=${changed} />`
        : kind === "array" || kind === "object"
          ? html`<textarea ...${a} ...${said} class="mono" rows="4" value=${text} onInput=${changed}></textarea>`
          : html`<input ...${a} ...${said} value=${text} maxlength=${schema.maxLength} spellcheck=${false} onInput=${changed} />`}<//>`;
}
