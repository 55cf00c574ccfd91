// What states are called, and how they look: an icon and a word, so colour is never the only sign.

export const COLUMNS = {
  triage: "Triage",
  todo: "To do",
  ready: "Ready",
  running: "Running",
  blocked: "Blocked",
  done: "Done",
  archived: "Archived",
};

/** name: [word, icon, tone]. States of jobs and crews are those of JSON and of the filters. */
const LOOKS = {
  held: ["held", "todo", "idle"],
  queued: ["queued", "queued", "idle"],
  running: ["running", "running", "busy"],
  waiting_for_approval: ["waiting for approval", "waiting", "warn"],
  blocked: ["blocked", "blocked", "bad"],
  review: ["in review", "waiting", "warn"],
  completed: ["completed", "completed", "good"],
  failed: ["failed", "failed", "bad"],
  gave_up: ["gave up", "failed", "bad"],
  crashed: ["crashed", "failed", "bad"],
  cancelling: ["cancelling", "cancelled", "warn"],
  cancelled: ["cancelled", "cancelled", "idle"],
  timed_out: ["timed out", "timed_out", "warn"],
  stale: ["stale", "timed_out", "warn"],
  stranded: ["stranded", "stranded", "bad"],
  archived: ["archived", "archived", "idle"],
  pending: ["pending", "waiting", "warn"],
  approved: ["approved", "completed", "good"],
  rejected: ["rejected", "failed", "bad"],
  expired: ["expired", "timed_out", "idle"],
  withdrawn: ["withdrawn", "cancelled", "idle"],
  active: ["on", "completed", "good"],
  disabled: ["off", "cancelled", "idle"],
  paused: ["paused", "waiting", "warn"],
  ended: ["ended", "archived", "idle"],
  spawned: ["started", "completed", "good"],
  skipped: ["skipped", "cancelled", "warn"],
  missed: ["missed", "timed_out", "bad"],
};

export function look(state) {
  const [word, icon, tone] = LOOKS[state] ?? [String(state).replaceAll("_", " "), "todo", "idle"];
  return { word, icon, tone };
}

export const isOver = (job) => job.outcome !== null;

/** The state of a job, or how it ended; before it what is known beside it: that the job was put
 * away, cannot start as things are, or is to end. */
export function stateOf(job) {
  if (job.archivedAt) return "archived";
  if (isOver(job)) return job.outcome;
  if (job.gaveUp) return "failed";
  if (job.strandedBy) return "stranded";
  return job.cancelRequestedAt ? "cancelling" : job.state;
}

/** Whether it goes on only when a person does something. */
export const needsPerson = (job) =>
  !job.archivedAt && (["waiting_for_approval", "blocked"].includes(job.state) || job.gaveUp);

/** Whether it stands where its last attempt has left it: what that came to is how the job is. */
export const atRest = (job) => isOver(job) || job.column === "blocked";

export const labelsOf = (job) => [...new Set([job.label, ...job.labels])];

/** Why a job stands still, in a sentence; "" where it does not. */
export function reasonOf(job) {
  if (job.strandedBy && !isOver(job)) return "A job that it waits for will not be done.";
  if (job.gaveUp) return `Gave up${job.failures > 1 ? ` after ${job.failures} attempts` : ""}: ${job.blockReason}`;
  if (job.blockReason) return job.blockReason;
  return job.reason ?? "";
}
