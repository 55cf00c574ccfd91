"""Runs one attempt and outlives the server: `main.main(directory)`, in a session of its own.

A program of the standard library only. It lives in the attempt's directory:

| file | written by | what |
|---|---|---|
| `spec` | server | what to run (below); holds the environment, so it is removed once read |
| `lock` | shim | the attempt is alive as long as somebody holds an flock on it |
| `started` | shim | the attempt has begun; whoever finds it must not begin it again |
| `spool` | shim | the channel `output`, up to the limit: stdout, and stderr if that is no channel |
| `spool.NAME` | shim | any other channel, likewise |
| `inbox` | server | what is said to the process; `scheduler/executors/inbox.py` |
| `bell` | shim | FIFO: a byte says "look again" |
| `cancel` | server | marker: the attempt shall end |
| `held` | server | marker: since its time of change, no time counts against the time limit |
| `control` | server | FIFO: `.` says that the attempt shall end, `h` that `held` came or went |
| `exit.json` | shim | the end; there as a whole or not at all |

`spec` is NUL-separated: timeout_ms, output_limit, grace_ms, cwd, the number of arguments, the
arguments, and NAME=value for each variable. Bytes, so that no locale changes them. The channels are
in a variable, CREWLOG_CHANNELS, which also tells the process of them: names and descriptors.

The end of an attempt is the end of all that it started, however that detached itself: the shim is
the parent of whatever loses its own (Linux), and looks for the rest by its environment. What has
left the session *and* has no CREWLOG_JOB_ID any more is let live: that is the way out for a job
that means to leave something running. When the first process has left by itself, what still holds
the output gets `FINISH_S` to finish. Then, as after a cancel and at the time limit, all of it gets
SIGTERM, and SIGKILL once the grace is over.

`main.end_left(job, attempt)` ends in the same way what is left of an attempt whose shim was killed.

Start-up is on the way of every job, and most of what a small Python program costs is imports: hence
no `json`, of `signal` and `ctypes` only the C halves, and no `contextlib.suppress`.
"""
