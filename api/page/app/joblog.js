// The live log of a job, over all its attempts.

import { html, useEffect, useRef, useState } from "../vendor/preact/preact.js";
import { API, EventStream, segment } from "./api.js";
import { counted, number } from "./format.js";
import { OutputView, printable } from "./output.js";
import { look } from "./states.js";

const NOTHING_YET = { all: true, count: 0, follow: true, earlier: false, later: false };

const note = (text) => ({ text, kind: "note" });

const attemptOver = ({ attempt, reason, outcome }) => (attempt ? [note(`Attempt ${attempt} over: ${reason || outcome}`)] : []);

/** The lines that show an event of the job, by its type. */
const LINES = {
  "job.output": ({ lines }) => lines.map((text) => ({ text, kind: "" })),
  "job.started": ({ attempt }) => [note(`Attempt ${attempt} started`)],
  "job.attempt_ended": attemptOver,
  "job.finished": attemptOver,
  "job.blocked": ({ gave_up: gaveUp, reason }) => [note(`${gaveUp ? "Gave up" : "Blocked"}: ${reason}`)],
  "job.approval_requested": ({ description }) => [note(`Waits for approval: ${description}`)],
  "job.approval_answered": ({ resolution }) => [note(`The answer: ${resolution}`)],
  "job.commented": ({ text }, { actor }) => [note(`Comment by ${actor}: ${text}`)],
  "job.redone": () => [note("To be done again.")],
  "job.made_stale": () => [note("A parent is done again.")],
};

const AGAIN = ["job.redone", "job.made_stale"]; // after one of these, the job ends again

const linesOf = (event) => LINES[event.type]?.(event.data, event) ?? [];

/** `over`: the job has ended in this attempt; if it is redone, the log is followed again. An open
 * stream is read to its end, because the page may know of the end before the last lines come. */
export function JobLog({ id, gone, over, attempt }) {
  const box = useRef(null);
  const view = useRef(null);
  const seen = useRef(null); // the last id that this page has read
  const open = useRef(null); // the open stream
  const read = useRef(null); // the last attempt that was read to its end
  const newest = useRef(attempt);
  newest.current = attempt;
  const [shown, setShown] = useState(NOTHING_YET);
  const [state, setState] = useState("Connecting");
  const [wrap, setWrap] = useState(true);
  const [begun, setBegun] = useState(""); // the line that has no end yet

  useEffect(() => {
    view.current = new OutputView(box.current, setShown);
    return () => {
      open.current?.stop();
      view.current.close();
    };
  }, []);

  useEffect(() => {
    if (gone.aborted || open.current !== null || (over && read.current === attempt)) return;
    let end = null; // data of the last end
    const stream = new EventStream(
      `${API}/jobs/${segment(id)}/stream?partial=true`,
      {
        frames(frames) {
          const lines = [];
          for (const { event: name, data } of frames) {
            const event = JSON.parse(data);
            if (name === "partial") {
              setBegun(event.text);
              continue;
            }
            if (end && AGAIN.includes(event.type)) {
              lines.push(note(`Ended: ${end.reason || end.outcome}`));
              end = null;
            }
            lines.push(...linesOf(event));
            if (event.type !== "job.finished") continue;
            end = event.data;
            setBegun("");
          }
          view.current.add(lines);
          seen.current = stream.lastId;
          setState(end ? `Ended: ${look(end.outcome).word}` : "Live");
        },
        // The server closes the stream at the end of the job, and answers a resume with 204.
        state(now) {
          setBegun(""); // the server sends it again if it is still open
          if (!end) setState(now === "live" ? "Live" : "Reconnecting …");
        },
        closed(status) {
          seen.current = stream.lastId ?? "";
          open.current = null;
          read.current = newest.current;
          if (status === 204 && !end) setState("Ended");
          else if (status === 400) {
            seen.current = null;
            view.current.reset();
            setState("The log is another one than before. Reload the page.");
          }
        },
      },
      seen.current || null,
    );
    open.current = stream;
    gone.addEventListener("abort", () => {
      if (open.current !== stream) return;
      stream.stop();
      seen.current = stream.lastId ?? "";
      open.current = null;
    });
  }, [over, attempt, gone]);

  return html`<section class="card output" aria-labelledby="output-title">
    <div class="output-head">
      <h2 id="output-title">Log</h2>
      <span id="output-state" class="output-state" role="status">${state}</span>
      <label class="check"><input type="checkbox" checked=${shown.follow}
        onChange=${(e) => view.current.follow(e.target.checked)} /> Follow</label>
      <label class="check"><input type="checkbox" checked=${wrap} onChange=${(e) => {
        setWrap(e.target.checked);
        requestAnimationFrame(() => view.current.rewrapped());
      }} /> Wrap</label>
    </div>
    <div ref=${box} id="output" class=${wrap ? "lines wrap" : "lines"} role="region" aria-label="Output of the job" tabindex="0"></div>
    ${begun && html`<div id="output-begun" class="begun">${printable(begun)}</div>`}
    <div class="output-foot">
      <span>${rangeOf(shown)}</span>
      <button type="button" class="quiet" hidden=${!shown.earlier} onClick=${() => view.current.earlier()}>Show earlier</button>
      <button type="button" class="quiet" hidden=${!shown.later} onClick=${() => view.current.follow(true)}>Jump to the end</button>
    </div>
  </section>`;
}

function rangeOf({ all, first, last, count, gone }) {
  if (all) return count ? counted(count, "line") : "Nothing was written yet.";
  const earlier = gone ? "; earlier ones are in the log only" : "";
  return `Lines ${number(first)} to ${number(last)} of ${number(count)}${earlier}`;
}
