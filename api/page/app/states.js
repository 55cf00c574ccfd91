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

/** name: [word, icon, tone] */
const LOOKS = {
  triage: ["triage", "queued", "idle"],
  todo: ["to do", "todo", "idle"],
  ready: ["ready", "queued", "idle"],
  queued: ["queued", "queued", "idle"],
  running: ["running", "running", "busy"],
  waiting_for_approval: ["waiting for approval", "waiting", "warn"],
  blocked: ["blocked", "blocked", "bad"],
  review: ["in review", "waiting", "warn"],
  done: ["done", "completed", "good"],
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

/** The most telling state of a job: what it waits for, or how it ended, before the column. */
export function stateOf(job) {
  if (job.archivedAt) return "archived";
  if (job.strandedBy) return "stranded";
  if (isOver(job)) return job.gaveUp ? "gave_up" : job.outcome;
  if (job.status === "blocked" && job.gaveUp) return "gave_up";
  if (job.cancelRequestedAt) return "cancelling";
  if (job.pendingApprovals.length) return "waiting_for_approval";
  return job.status;
}

/** A node of a graph has only its column, and what CodePlane calls its state. */
export function stateOfNode(node) {
  if (node.strandedBy) return "stranded";
  if (node.status === "blocked" && node.state === "failed") return "failed";
  if (node.status === "blocked" && node.state === "canceled") return "cancelled";
  if (node.state === "waiting_for_approval" && node.status !== "blocked") return node.state;
  return node.status;
}

/** Why a job stands still, in a sentence; "" where it does not. */
export function reasonOf(job) {
  if (job.strandedBy) return "A job that it waits for will never be done.";
  if (job.blockReason) return job.blockReason;
  return job.failureReason ?? "";
}
