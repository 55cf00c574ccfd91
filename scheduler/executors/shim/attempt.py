"""One attempt, from the fork of its first process to the end of all that it began."""

# ruff: noqa: SIM105

import _signal as signal  # type: ignore[import-not-found]
import fcntl
import os
import select
import time

from scheduler.executors.shim.bell import Bell
from scheduler.executors.shim.child import become
from scheduler.executors.shim.directory import READ_SIZE
from scheduler.executors.shim.ending import failure, reserve_exit, write_exit
from scheduler.executors.shim.kin import Process, become_reaper, marks_of
from scheduler.executors.shim.spec import Spec
from scheduler.executors.shim.spool import RETRY_INTERVAL_S, Spool

PIPE_SIZE = 1_048_576
DRAIN_LIMIT = 2 * PIPE_SIZE  # after the end; a daemon that holds the pipe may write for ever
RING_INTERVAL_S = 0.005
LONGEST_SLEEP_S = 60.0
FINISH_S = 2.0  # for what still writes when the first process has left
LOOK_INTERVAL_S = 0.02  # between looks at what is asked to end; longer where a look takes long
LAST_WAIT_S = 5.0  # after SIGKILL: what the system does not let go by then runs nothing any more
HELD_S = 2.0  # after a cancel: for output that a full disk does not take


class Attempt:
    """The child, from fork to the end of all that it began."""

    def __init__(self, spec: Spec, control: int, bell: Bell) -> None:
        self.spec = spec
        self.control = control
        self.bell = bell
        self.spool = Spool(spec.output_limit)
        self.output_bytes = 0
        self.reason = "exited"
        self.ended_at: float | None = None
        self.kill_at: float | None = None
        self.look_at = 0.0
        self.ring_at: float | None = None
        self.rang_at = 0.0
        self.held_at: float | None = None
        self.held_s = 0.0
        self.status: int | None = None
        self.output, child_output = os.pipe()
        self.open_ended = True
        self.trouble, child_trouble = os.pipe()
        grow_pipe(self.output)
        os.set_blocking(self.output, False)
        os.set_blocking(self.trouble, False)
        self.kin = become_reaper(marks_of(spec.env))
        self.news = hear_of_children()
        self.began = time.monotonic()
        shim = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            become(spec, shim, child_output, child_trouble)
        os.close(child_output)
        os.close(child_trouble)
        if self.kin is not None:
            self.kin.session = self.pid
        reserve_exit()  # only now: the child is on its way already

    def run(self) -> None:
        """Returns when nothing of the attempt lives and its end is on disk."""
        self.follow()
        duration_ms = round(((self.ended_at or time.monotonic()) - self.began) * 1000)
        if self.kin is None:
            # The child is a zombie until `reap`, so nobody else can have got its number.
            self.signal_group(signal.SIGKILL)
        self.drain()
        status = self.reap()
        trouble = self.read_trouble()
        # Who cancels a job on a full disk wants it gone, its last output or not.
        give_up_at = time.monotonic() + (HELD_S if self.reason == "cancelled" else float("inf"))
        while self.spool.held and time.monotonic() < give_up_at:
            time.sleep(RETRY_INTERVAL_S)
            self.spool.retry()
        self.spool.sync()
        if trouble:
            reason = "spawn_failed" if self.reason == "exited" else self.reason
            self.report(reason, None, duration_ms, self.explain(trouble))
        else:
            self.report(self.reason, os.waitstatus_to_exitcode(status), duration_ms, "null")

    def report(self, reason: str, code: int | None, duration_ms: int, error: str) -> None:
        write_exit(reason, code, self.output_bytes, self.spool.kept, duration_ms, error)

    def follow(self) -> None:
        """Until all has ended: keeps the output, hears the server, watches the clock."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.news, select.POLLIN)
        listening = False
        self.look_if_held()
        while not self.is_over(time.monotonic()):
            if listening != (self.open_ended and not self.spool.held):
                listening = not listening
                if listening:
                    poll.register(self.output, select.POLLIN)
                else:
                    poll.unregister(self.output)
            for fd, _ in poll.poll(self.sleep_ms()):
                if fd == self.output:
                    self.open_ended = self.take() > 0
                elif fd == self.control:
                    self.hear()
                else:
                    os.read(self.news, 4096)
                    self.reap_orphans()
            self.keep_time(time.monotonic())

    def is_over(self, now: float) -> bool:
        """Whether nothing of the attempt lives. Sees to it that this comes true."""
        if not self.has_ended():
            if self.kill_at is not None and now >= self.look_at:
                self.look(now)
            return False
        if self.ended_at is None:
            self.ended_at = now
        if self.kill_at is None:
            if self.open_ended and now < self.ended_at + FINISH_S:
                return False
            return not self.ask(now)
        if now >= self.kill_at + LAST_WAIT_S:
            return True
        return now >= self.look_at and not self.look(now)

    def ask(self, now: float) -> bool:
        """Asks all that lives to end, each once. False: nothing does."""
        alive = not self.has_ended()
        if alive:
            # First, and at once, so that none of it can begin another unseen.
            self.signal_group(signal.SIGTERM)
            self.signal_group(signal.SIGCONT)  # a stopped process could not hear it
        left = self.find()
        if self.kin is not None:
            others = [process for process in left if not alive or process.group != self.pid]
            self.kin.signal(others, signal.SIGTERM, signal.SIGCONT)
        self.kill_at = now + self.spec.grace_s
        self.look_at = now + LOOK_INTERVAL_S
        return alive or bool(left)

    def find(self) -> list[Process]:
        """What lives of the attempt, as far as can be seen."""
        if self.kin is None:
            return []
        # Where something is below, nothing counts as seen only the second time: it may have begun
        # another behind the first look, and left before it was looked at.
        return (self.has_children() and self.kin.find()) or self.kin.find(self.has_children())

    def look(self, now: float) -> bool:
        """Whether anything lives that was asked to end. Once the grace is over, it is killed."""
        kills = self.kill_at is not None and now >= self.kill_at
        if kills and self.status is None:
            self.signal_group(signal.SIGKILL)
        left = self.find()
        if kills and self.kin is not None:
            self.kin.signal(left, signal.SIGKILL)
        took = time.monotonic() - now
        self.look_at = now + max(LOOK_INTERVAL_S, 20 * took)
        return bool(left)

    def take(self) -> int:
        """Reads once from the child. 0: nothing will come any more."""
        try:
            data = os.read(self.output, READ_SIZE)
        except BlockingIOError:
            return 1
        self.output_bytes += len(data)
        self.spool.write(data)
        if data and self.ring_at is None:
            self.ring_at = self.rang_at + RING_INTERVAL_S
        return len(data)

    def hear(self) -> None:
        said = os.read(self.control, 4096)
        if b"." in said:
            self.stop("cancelled")
        if b"h" in said:
            self.look_if_held()

    def look_if_held(self) -> None:
        """Takes note of the marker, and counts how long it was there when it is gone."""
        now = time.monotonic()
        try:
            changed = os.stat("held").st_mtime
        except OSError:
            if self.held_at is not None:
                self.held_s += now - self.held_at
                self.held_at = None
        else:
            if self.held_at is None:
                # It may be older than the news of it, never older than the attempt.
                ago = min(max(0.0, time.time() - changed), now - self.began - self.held_s)
                self.held_at = now - ago

    def ends_at(self) -> float | None:
        """When the time limit passes, as things are."""
        if not self.spec.timeout_s or self.held_at is not None:
            return None
        return self.began + self.spec.timeout_s + self.held_s

    def time_is_up(self, now: float) -> bool:
        ends_at = self.ends_at()
        if self.held_at is None and (ends_at is None or now < ends_at):
            return False
        self.look_if_held()  # whoever should have told of a change may have been killed
        ends_at = self.ends_at()
        return ends_at is not None and now >= ends_at

    def stop(self, reason: str) -> None:
        """Asks the attempt to end. Whoever asks first gives the reason, unless its first process
        has left by itself: then what is left of it is only hurried.
        """
        if self.kill_at is None:
            if not self.has_ended():
                self.reason = reason
            self.ask(time.monotonic())

    def keep_time(self, now: float) -> None:
        if self.kill_at is None and self.ended_at is None and self.time_is_up(now):
            self.stop("timed_out")
        if self.spool.held and now >= self.spool.retry_at:
            self.spool.retry()
        if self.ring_at is not None and now >= self.ring_at:
            self.ring_at, self.rang_at = None, now
            self.bell.ring()

    def sleep_ms(self) -> int:
        now = time.monotonic()
        ends_at = self.ends_at()
        moments = [now + LONGEST_SLEEP_S]
        if self.kill_at is not None:
            moments.append(self.look_at)
        elif self.ended_at is not None:
            moments.append(self.ended_at + FINISH_S)
        elif ends_at is not None:
            moments.append(ends_at)
        if self.spool.held:
            moments.append(self.spool.retry_at)
        if self.ring_at is not None:
            moments.append(self.ring_at)
        wait = min(moments) - now
        return int(wait * 1000) + 1 if wait > 0 else 0

    def has_ended(self) -> bool:
        """Looks at the first process. Where only its number leads to its group, it is not reaped
        yet, if the system lets one look without.
        """
        if self.status is not None:
            return True
        if self.kin is None and hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self.status = status
        return bool(ended)

    def reap(self) -> int:
        return os.waitpid(self.pid, 0)[1] if self.status is None else self.status

    def reap_orphans(self) -> None:
        """All that has ended but the first process, if that is not known yet."""
        if self.has_ended():
            self.has_children()
        elif self.kin is not None:
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid == self.pid:
                    return
                os.waitpid(ended.si_pid, 0)

    def has_children(self) -> bool:
        """Whether anything is left below this process. Reaps what has ended."""
        if self.status is None:
            return True
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    def drain(self) -> None:
        """What the child had written when it ended. Others may hold the pipe: never waits."""
        limit = self.output_bytes + DRAIN_LIMIT
        while self.output_bytes < limit:
            before = self.output_bytes
            if not self.take() or self.output_bytes == before:
                return

    def read_trouble(self) -> bytes:
        """Stage and errno of a child that could not become the program; empty when it did."""
        try:
            return os.read(self.trouble, 64)
        except BlockingIOError:
            return b""

    def explain(self, trouble: bytes) -> str:
        stage, number = trouble.split()
        return failure(stage, int(number), self.spec.cwd if stage == b"cwd" else self.spec.argv[0])

    def signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            self.signal_child(number)  # it has not made its group yet
        except PermissionError:
            pass  # what is left of the group runs as somebody else

    def signal_child(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)


def hear_of_children() -> int:
    """A descriptor that can be read once a child has ended."""
    news, told = os.pipe()
    os.set_blocking(news, False)
    os.set_blocking(told, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    return news


def grow_pipe(fd: int) -> None:
    """A larger pipe is fewer wake-ups; a system that refuses is as good, only slower."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except (AttributeError, OSError):
        pass
