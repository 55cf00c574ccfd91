// Names and looks of states: an icon and a word, so that colour is never the only sign.

export const COLUMNS = {
  triage: "Triage",
  todo: "To do",
  ready: "Ready",
  running: "Running",
  blocked: "Blocked",
  done: "Done",
  archived: "Archived",
};

/** name: [word, icon, tone]. States of jobs and crews are named as in the API. */
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

/** The state to show. These come before the job's own state: archived, its outcome, gave up,
 * stranded, cancelling. */
export function stateOf(job) {
  if (job.archivedAt) return "archived";
  if (isOver(job)) return job.outcome;
  if (job.gaveUp) return "failed";
  if (job.strandedBy) return "stranded";
  return job.cancelRequestedAt ? "cancelling" : job.state;
}

/** Whether the job is in the state in which its last attempt left it. */
export const atRest = (job) => isOver(job) || job.column === "blocked";

export const labelsOf = (job) => [...new Set([job.label, ...job.labels])];

/** Why a job does not go on, in a sentence; "" if there is no reason. */
export function reasonOf(job) {
  if (job.strandedBy && !isOver(job)) return "A job that it waits for will not be done.";
  if (job.gaveUp) return `Gave up${job.failures > 1 ? ` after ${job.failures} attempts` : ""}: ${job.blockReason}`;
  if (job.blockReason) return job.blockReason;
  return job.reason ?? "";
}
