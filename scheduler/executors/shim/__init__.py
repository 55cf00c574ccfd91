"""Runs one attempt and outlives the server: `main.main(directory)`, in a session of its own.

A program of the standard library only. It lives in the attempt's directory:

| file | written by | what |
|---|---|---|
| `spec` | server | what to run (below); holds the environment, so it is removed once read |
| `lock` | shim | the attempt is alive as long as somebody holds an flock on it |
| `started` | shim | the attempt has begun; whoever finds it must not begin it again |
| `spool` | shim | the channel `output`, up to the limit: stdout, and stderr if that is no channel |
| `spool.NAME` | shim | any other channel, likewise |
| `inbox` | server | frames for the process; `scheduler/executors/inbox.py` |
| `bell` | shim | FIFO: a byte says "look again" |
| `cancel` | server | marker: the attempt must end |
| `held` | server | marker: from its time of change on, the clock of the time limit stands |
| `control` | server | FIFO: `.` means that the attempt must end, `h` that `held` has changed |
| `exit.json` | shim | the end; complete or not there |

`spec` is NUL-separated: timeout_ms, output_limit, grace_ms, cwd, the number of arguments, the
arguments, and NAME=value for each variable. It is bytes, so that no locale changes it. The channels
are in a variable, CREWLOG_CHANNELS, from which the process also knows them: names and descriptors.

`started` names the session of the first process, for when the shim is killed: its number, when that
process began, and the boot.

When an attempt ends, every process that it started ends, however it detached itself. On Linux the
shim becomes the parent of every orphan, and finds other processes by their environment. A process
that has left the session *and* has no CREWLOG_JOB_ID any more is left alive: in this way a job can
leave something running on purpose. If the first process exits by itself, processes that still hold
the output get `FINISH_S` to finish. Then, as after a cancel and at the time limit, all of them get
SIGTERM, and SIGKILL after the grace.

`main.end_left(job, attempt)` ends in the same way the rest of an attempt whose shim was killed.

Every job waits for the start of its shim, and most of the start of a small Python program is
imports. So there is no `json`, only the C halves of `signal` and `ctypes`, and no
`contextlib.suppress`.
"""
