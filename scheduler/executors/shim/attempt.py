"""One attempt: its first process, which waits until `begin`, to the end of all that it began."""

import os
import select
import time

from scheduler.executors.shim.bell import Bell
from scheduler.executors.shim.channels import channels_of
from scheduler.executors.shim.ending import failure, quoted, reserve_exit, write_exit
from scheduler.executors.shim.processes import Processes
from scheduler.executors.shim.spec import Spec
from scheduler.executors.shim.spool import RETRY_INTERVAL_S
from scheduler.executors.shim.time_limit import TimeLimit

LONGEST_SLEEP_S = 60.0
FINISH_S = 2.0  # for processes that still write after the first process has exited
LOOK_INTERVAL_S = 0.02  # between looks at ending processes; longer if a look takes long
LAST_WAIT_S = 5.0  # after SIGKILL: whatever is still there then runs no code any more
HELD_S = 2.0  # after a cancel: for output that a full disk does not accept


class Attempt:
    """Keeps its output, listens to the server, watches the clock, and brings it to its end."""

    def __init__(self, spec: Spec, control: int, bell: Bell) -> None:
        self.spec = spec
        self.control = control
        self.bell = bell
        self.reason = "exited"
        self.ended_at: float | None = None
        self.kill_at: float | None = None
        self.look_at = 0.0
        self.channels = channels_of(spec.env, spec.output_limit)
        self.limit = TimeLimit(spec.timeout_s, time.monotonic())
        self.processes = Processes(spec, self.channels)

    def drop(self) -> None:
        """Ends the child before it has become the program."""
        self.processes.drop()

    def begin(self) -> None:
        """Lets the child become the program."""
        self.limit.began = time.monotonic()
        self.processes.begin()

    def run(self) -> None:
        """Returns when no process of the attempt is alive and its end is on disk."""
        reserve_exit()  # not earlier: the program should start first
        self.follow()
        ended_at = time.monotonic() if self.ended_at is None else self.ended_at
        duration_ms = round((ended_at - self.limit.began) * 1000)
        self.processes.end_without_kin()
        for channel in self.channels:
            channel.drain()
        status = self.processes.reap()
        trouble = self.processes.read_trouble()
        # A person who cancels a job on a full disk wants its end, even without its last output.
        give_up_at = time.monotonic() + (HELD_S if self.reason == "cancelled" else float("inf"))
        while any(c.spool.held for c in self.channels) and time.monotonic() < give_up_at:
            time.sleep(RETRY_INTERVAL_S)
            for channel in self.channels:
                channel.spool.retry()
        for channel in self.channels:
            channel.spool.sync()
        if trouble:
            reason = "spawn_failed" if self.reason == "exited" else self.reason
            self.report(reason, None, duration_ms, self.explain(trouble))
        else:
            self.report(self.reason, os.waitstatus_to_exitcode(status), duration_ms, "null")

    def report(self, reason: str, code: int | None, duration_ms: int, error: str) -> None:
        output, *others = self.channels
        more = ",".join(
            f"{quoted(channel.name.encode())}:[{channel.written},{channel.spool.kept}]"
            for channel in others
        )
        write_exit(reason, code, output.written, output.spool.kept, duration_ms, error, more)

    def explain(self, trouble: bytes) -> str:
        stage, number = trouble.split()
        return failure(stage, int(number), self.spec.cwd if stage == b"cwd" else self.spec.argv[0])

    def follow(self) -> None:
        """Runs until everything has ended."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.processes.news, select.POLLIN)
        by_fd = {channel.fd: channel for channel in self.channels}
        heard = set[int]()
        self.limit.look()
        while not self.is_over(time.monotonic()):
            wanted = {fd for fd, channel in by_fd.items() if channel.is_read}
            for fd in wanted - heard:
                poll.register(fd, select.POLLIN)
            for fd in heard - wanted:
                poll.unregister(fd)
            heard = wanted
            for fd, _ in poll.poll(self.sleep_ms()):
                if fd == self.control:
                    self.hear()
                elif fd == self.processes.news:
                    self.processes.hear()
                elif by_fd[fd].take() > 0:
                    self.bell.soon()
            self.keep_time(time.monotonic())

    def is_over(self, now: float) -> bool:
        """Whether no process of the attempt is alive. Also ends the processes that should end."""
        if not self.processes.has_ended():
            if self.kill_at is not None and now >= self.look_at:
                self.look(now)
            return False
        if self.ended_at is None:
            self.ended_at = now
        if self.kill_at is None:
            if self.is_written_to and now < self.ended_at + FINISH_S:
                return False
            return not self.ask(now)
        if now >= self.kill_at + LAST_WAIT_S:
            return True
        return now >= self.look_at and not self.look(now)

    @property
    def is_written_to(self) -> bool:
        return any(channel.is_open for channel in self.channels)

    def ask(self, now: float) -> bool:
        """Asks every live process to end, each once. False: there is none."""
        lives = self.processes.ask()
        self.kill_at = now + self.spec.grace_s
        self.look_at = now + LOOK_INTERVAL_S
        return lives

    def look(self, now: float) -> bool:
        """Whether a process that was asked to end is alive. Kills it once the grace is over."""
        lives = self.processes.look(self.kill_at is not None and now >= self.kill_at)
        took = time.monotonic() - now
        self.look_at = now + max(LOOK_INTERVAL_S, 20 * took)
        return lives

    def hear(self) -> None:
        """Reads the server's messages."""
        received = os.read(self.control, 4096)
        if b"." in received:
            self.stop("cancelled")
        if b"h" in received:
            self.limit.look()

    def stop(self, reason: str) -> None:
        """Asks the attempt to end. The first call gives the reason, unless the first process has
        already exited by itself: then this only ends the rest sooner.
        """
        if self.kill_at is None:
            if not self.processes.has_ended():
                self.reason = reason
            self.ask(time.monotonic())

    def keep_time(self, now: float) -> None:
        if self.kill_at is None and self.ended_at is None and self.limit.is_over(now):
            self.stop("timed_out")
        for channel in self.channels:
            if channel.spool.held and now >= channel.spool.retry_at:
                channel.spool.retry()
        self.bell.keep_time(now)

    def sleep_ms(self) -> int:
        now = time.monotonic()
        ends_at = self.limit.ends_at()
        moments = [now + LONGEST_SLEEP_S]
        if self.kill_at is not None:
            moments.append(self.look_at)
        elif self.ended_at is not None:
            moments.append(self.ended_at + FINISH_S)
        elif ends_at is not None:
            moments.append(ends_at)
        moments += [channel.spool.retry_at for channel in self.channels if channel.spool.held]
        if self.bell.due is not None:
            moments.append(self.bell.due)
        wait = min(moments) - now
        return int(wait * 1000) + 1 if wait > 0 else 0
