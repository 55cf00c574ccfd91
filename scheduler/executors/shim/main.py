"""The entry points of the process."""

import _signal as signal  # type: ignore[import-not-found]
import os
import time

from scheduler.executors.shim.attempt import LAST_WAIT_S, LOOK_INTERVAL_S, Attempt
from scheduler.executors.shim.bell import Bell
from scheduler.executors.shim.directory import mark_started, take_lock
from scheduler.executors.shim.ending import failure, write_exit
from scheduler.executors.shim.kin import Kin, marks_of, present_session, session_of
from scheduler.executors.shim.spec import Spec, forget_spec, read_spec

HELD_BACK = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
LEFT_GRACE_S = 5.0
EMPTY_LOOKS = 3  # in a row: a process may begin another one behind a look, and end


def limit_descriptors(soft: int) -> None:
    if soft < 0:
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or soft <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main(directory: str, descriptors: str = "-1") -> None:
    """Runs the attempt in `directory`, unless it runs or has run already. `descriptors` is its soft
    limit of open files; -1: unchanged.
    """
    os.closerange(3, 65_536)
    limit_descriptors(int(descriptors))
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    os.chdir(directory)
    if take_lock("lock") is None or os.path.exists("started"):
        if os.path.exists("started"):
            forget_spec()
        return
    spec = read_spec()
    if spec is None:
        return
    control = os.open("control", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    bell = Bell()
    attempt, trouble = prepared(spec, control, bell)
    mark_started(b"" if attempt is None else session_of(attempt.processes.pid))
    cancelled = os.path.exists("cancel")
    if attempt is not None and not cancelled:
        attempt.begin()
    forget_spec()
    bell.ring()
    if attempt is None:
        reason = "cancelled" if cancelled else "spawn_failed"
        write_exit(reason, None, 0, 0, 0, "null" if cancelled else trouble)
    elif cancelled:
        attempt.drop()
        write_exit("cancelled", None, 0, 0, 0)
    else:
        attempt.run()
    bell.ring()


def prepared(spec: Spec, control: int, bell: Bell) -> tuple[Attempt | None, str]:
    """The attempt, with a child that waits: it is forked while the marker goes to the disk. Or why
    there is none.
    """
    try:
        return Attempt(spec, control, bell), ""
    except OSError as error:
        return None, failure(b"process", error.errno or 0, spec.argv[0])


def end_left(job: str, attempt: str) -> None:
    """Ends the rest of an attempt whose shim was killed: the system has ended only its first
    process.
    """
    os.closerange(3, 65_536)
    if not os.path.exists("/proc/self/environ"):
        return
    kin = Kin(marks_of({b"CREWLOG_JOB_ID": job.encode(), b"CREWLOG_ATTEMPT": attempt.encode()}))
    marker = f"{job}/{attempt}/started"
    left = signal_each(kin, marker, signal.SIGTERM, signal.SIGCONT)
    kill_at = time.monotonic() + LEFT_GRACE_S
    took = 0.0
    empty = 0 if left else 1
    while empty < EMPTY_LOOKS:
        time.sleep(LOOK_INTERVAL_S + 20 * took if left else 0.0)
        now = time.monotonic()
        if now >= kill_at + LAST_WAIT_S:
            return
        left = signal_each(kin, marker, *((signal.SIGKILL,) if now >= kill_at else ()))
        empty = 0 if left else empty + 1
        took = time.monotonic() - now


def signal_each(kin: Kin, marker: str, *numbers: int) -> bool:
    """Signals each process that is left when it is found. Whether there was one."""
    kin.left_session = present_session(marker)  # anew: its number may be another's by now
    left = False
    for process in kin.each():
        kin.signal([process], *numbers)
        left = True
    return left
