// The form to make or change a schedule.

import { html, useState } from "../vendor/preact/preact.js";
import { Problem } from "./api.js";
import { Inputs, firstTexts, valuesOf } from "./inputs.js";
import { Failure, Field, submitted, useAction, useLoad } from "./parts.js";
import { Preview, RuleEditor, draftOf, hereZone, ruleOf } from "./rules.js";
import { templatePath } from "./templates.js";

const CATCH_UP = { latest: "Fire once, for the latest", all: "Fire for each, within a window", none: "Let them go" };
const OVERLAP = { allow: "Start beside it", skip: "Skip this time", cancel: "Cancel the older" };

function optionsOf(schedule) {
  const catchUp = schedule?.catchUp ?? "latest";
  return {
    mode: typeof catchUp === "string" ? catchUp : catchUp.mode,
    windowH: String((catchUp.windowS ?? 86_400) / 3_600),
    overlap: schedule?.overlap ?? "allow",
    jitterS: String(schedule?.jitterS ?? 0),
    endsAt: schedule?.endsAt ? schedule.endsAt.slice(0, 16) : "",
    maxFirings: schedule?.maxFirings ? String(schedule.maxFirings) : "",
  };
}

const termsOf = ({ mode, windowH, overlap, jitterS, endsAt, maxFirings }) => ({
  catchUp: mode === "all" ? { mode, windowS: Number(windowH) * 3_600 } : mode,
  overlap,
  jitterS: Number(jitterS) || 0,
  endsAt: endsAt ? `${endsAt}:00Z` : null,
  maxFirings: maxFirings ? Number(maxFirings) : null,
});

/** `schedule` is null for a new one; `template` is preselected. `onSave(terms)` sends them. */
export function ScheduleForm({ schedule = null, templates, template: chosen, onSave, onCancel }) {
  const [name, setName] = useState(schedule?.name ?? "");
  const [template, setTemplate] = useState(schedule?.template ?? chosen ?? "");
  const [draft, setDraft] = useState(() => draftOf(schedule?.rule));
  const [zone, setZone] = useState(schedule?.timezone ?? hereZone());
  const [options, setOptions] = useState(() => optionsOf(schedule));
  const [texts, setTexts] = useState(null);
  const { data: known, problem: unknown } = useLoad(template ? templatePath(template) : null);
  const action = useAction();

  const inputs = known?.inputs ?? {};
  const written = texts ?? firstTexts(inputs, schedule?.inputs);
  const rule = ruleOf(draft);
  const save = submitted(() =>
    action.run(async () => {
      let values;
      try {
        values = valuesOf(inputs, written);
      } catch (error) {
        throw new Problem(400, error.message);
      }
      const terms = { name: name.trim() || known?.name || template, rule, timezone: zone, ...termsOf(options) };
      // Without its template the form shows no inputs: those of the schedule stay as they are.
      if (known) terms.inputs = values;
      return onSave(schedule ? terms : { ...terms, template });
    }),
  );
  const choose = (id) => {
    setTemplate(id);
    setTexts(null);
  };

  return html`<form class="card form" onSubmit=${save} aria-label=${schedule ? "Change the schedule" : "New schedule"}>
    <h2>${schedule ? "Change the schedule" : "New schedule"}</h2>
    <div class="grid">
      ${!schedule && html`<${Field} label="Template">${(a) => html`<select ...${a} value=${template} onChange=${(e) => choose(e.target.value)} required>
        <option value="">Choose …</option>
        ${(templates ?? []).map((one) => html`<option key=${one.id} value=${one.id}>${one.name ?? one.id}</option>`)}</select>`}<//>`}
      <${Field} label="Name">${(a) => html`<input ...${a} value=${name} maxlength="200" placeholder=${known?.name ?? ""} onInput=${(e) => setName(e.target.value)} />`}<//>
    </div>
    ${Object.keys(inputs).length > 0 && html`<fieldset><legend>Inputs</legend>
      <${Inputs} inputs=${inputs} texts=${written} wrong=${action.problem?.path} onChange=${setTexts} /></fieldset>`}
    <${RuleEditor} draft=${draft} timezone=${zone} onDraft=${setDraft} onZone=${setZone} />
    <${Preview} rule=${rule} timezone=${zone} />
    <${Options} options=${options} onChange=${setOptions} open=${schedule !== null} />
    <${Failure} problem=${action.problem} />
    <div class="choices">
      <button type="button" onClick=${onCancel}>Leave it</button>
      <button type="submit" class="primary" disabled=${action.busy || (template !== "" && !known && !unknown)}>${schedule ? "Save" : "Make the schedule"}</button>
    </div>
  </form>`;
}

function Options({ options, onChange, open }) {
  const set = (name) => (event) => onChange({ ...options, [name]: event.target.value });
  const choice = (name, choices) => (a) => html`<select ...${a} value=${options[name]} onChange=${set(name)}>
    ${Object.entries(choices).map(([value, word]) => html`<option key=${value} value=${value}>${word}</option>`)}</select>`;
  return html`<details open=${open}><summary>Options</summary><div class="grid">
    <${Field} label="Times that were missed">${choice("mode", CATCH_UP)}<//>
    ${options.mode === "all" && html`<${Field} label="Window in hours">${(a) => html`<input ...${a} type="number" min="0" step="any" value=${options.windowH} onInput=${set("windowH")} />`}<//>`}
    <${Field} label="When the last one still runs">${choice("overlap", OVERLAP)}<//>
    <${Field} label="Jitter in seconds" hint="Each time is up to so much later.">${(a) => html`<input ...${a} type="number" min="0" step="any" value=${options.jitterS} onInput=${set("jitterS")} />`}<//>
    <${Field} label="Ends at (UTC)">${(a) => html`<input ...${a} type="datetime-local" value=${options.endsAt} onInput=${set("endsAt")} />`}<//>
    <${Field} label="Fires at most">${(a) => html`<input ...${a} type="number" min="1" placeholder="for ever" value=${options.maxFirings} onInput=${set("maxFirings")} />`}<//>
  </div></details>`;
}
