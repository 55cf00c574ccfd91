"""The agent host: starts an agent, speaks the Agent Client Protocol with it, and keeps a journal.

An executor starts it in the worktree, with the channels `journal` and `stderr` and an inbox:

    python -P -m scheduler.agents.host

`-P` is needed: without it Python would import modules from the worktree. Standard output is not
used. The agent runs in the same session, so that the end of the attempt ends it too, and writes to
the channel `stderr`.

Configuration: a JSON object in CREWLOG_AGENT, which the agent does not get to see.

| key | what | default |
|---|---|---|
| `argv` | the agent's program and arguments | required |
| `env` | variables beside those of the host; null removes one | `{}` |
| `cwd` | the worktree, absolute; nothing outside is written for the agent | of the host |
| `mode` | the mode to set before the first turn; null: the agent's own | null |
| `model` | the model to set before the first turn; null: the agent's own | null |
| `model_option` | id of the agent's option for the model | that of category `model` |
| `begin` | `{"how": "new"}`, or `load`, `resume` or `continue` with a `session` | new |
| `limits` | `initialize_s` 60, `silence_warn_s` 300, `silence_fail_s` 900, `cancel_grace_s` 5 | |

`continue` resumes if the agent offers that, and otherwise loads. A silence limit of 0 is none.

The journal: one JSON object a line. `n` counts from 1 without gaps, `at` is UTC. A line is written
before anything that follows from it.

* A message: `{"n", "at", "dir": "in"|"out", "message": {...}}`, raw and in order. `"replay": true`
  marks an update that repeats the history while a session is loaded.
* A note: `{"n", "at", "note": NAME, ...}`:

| note | fields | when |
|---|---|---|
| `started` | `argv`, `pid` | the agent's process has begun |
| `initialized` | `agent` (name, version), `load`, `resume`, `auth` (names) | it has answered |
| `session` | `session`, `how` (new, load, resume) | there is a session |
| `mode`, `model` | `mode`/`model`, `frame` (null: from the configuration) | the agent has set it |
| `frame` | `number`, `do` | a frame was read, before its effect |
| `refused` | `frame`, `sentence` | a frame has no effect |
| `turn_started` | `turn` (from 1), `prompt` (its id), `frame` | before the prompt is sent |
| `turn_ended` | `turn`, `prompt`, `stop` (null with an error), `error` (a sentence or null) | |
| `permission` | `request`, `turn` (null: between turns), `options` (ids) | the agent asks |
| `answered` | `request`, `option` (null: cancelled), `why`, `frame` | before the answer is sent |
| `paused`, `resumed` | `frame` | |
| `warned` | `why` (silent, busy), `sentence` | |
| `noise` | `text` (at most 500 characters), `bytes` | standard output that is no message |
| `agent_exited` | `code` (negative: killed by that signal) | |
| `done`, `failed` | `why`, `code`, `sentence`, `unsaid` (prompt ids) | always the last line |

A host that is killed writes no last line.

The number of a permission request is the `n` of the line that holds the agent's message. `why` of
`answered` is `answer` (by a frame), `turn_ended`, `interrupted`, `cancelled` or `ended`.

Frames of the inbox are JSON objects. Each is acted on once, in order:

| `do` | other keys | effect |
|---|---|---|
| `prompt` | `id`, `text`, `when` | queued; `when` = `interrupt` goes before `after` |
| `answer` | `request`, `option` | the agent gets the option's id; null: cancelled |
| `cancel` | | cancels the turn, and ends the host after that or after the grace |
| `mode` | `mode` | set at once, and before any prompt that follows |
| `model` | `model` | likewise |
| `pause` | | until `resume` no turn begins, and answers are held |
| `resume` | | |
| `end` | | ends the host after the last prompt in the queue |

`interrupt` also cancels the turn. The prompt is sent when that has ended.

Exit codes and `why` of the last line: see `scheduler.agents.host.endings`.
"""
