"""The scripted agent: follows the steps written in its prompt. There is no model behind it.

It speaks the Agent Client Protocol on standard input and output, and needs only the standard
library, so it starts fast and nothing that it does depends on what others install:

    python -P -m scheduler.agents.scripted

The same prompts give the same messages, for the demo, tests and checks. One step a line; empty
lines and lines that begin with `#` are passed over:

| step | what it does |
|---|---|
| `say TEXT` | says it |
| `think TEXT` | thinks it |
| `plan A; B; C` | shows a plan of these entries |
| `edit PATH <<END` | writes the following lines, up to the line `END`, to the file (any word) |
| `run COMMAND` | runs it with the shell, in the worktree |
| `ask TITLE` | asks for permission: `allow`, `always` or `reject` |
| `sleep SECONDS` | is silent for so long |
| `usage TOKENS [COST]` | reports that it used these tokens more, and this cost in USD |
| `flood COUNT` | says `flood 1` to `flood COUNT`, as fast as it can |
| `fail TEXT` | answers the prompt with this error |
| `crash [CODE]` | exits at once, with code 1 or this one |
| `hang` | does nothing until it is cancelled |
| `hang deaf` | does nothing, and does not hear that it is cancelled |
| `file: PATH` | follows the steps of that file |

If a step cannot be read, no step is done: the prompt is answered with an error that lists them.

Modes: in `review_and_approve` (the first one) it asks before it edits or runs; in `full_auto` it
does not ask; in `observe_only` it refuses to. After a rejected permission it goes on with the next
step. A cancelled permission ends the turn.

Sessions are kept in CREWLOG_SCRIPTED_STATE, else `$XDG_STATE_HOME/crewlog-scripted` or
`~/.local/state/crewlog-scripted`, each as one JSON file; `session/load` repeats what was said,
except floods, and `session/resume` does not.
"""
