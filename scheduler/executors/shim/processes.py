"""The first process of an attempt, and every process that it began."""

# ruff: noqa: SIM105

import _signal as signal  # type: ignore[import-not-found]
import os

from scheduler.executors.shim.channels import Channel
from scheduler.executors.shim.child import become
from scheduler.executors.shim.kin import Kin, Process, become_reaper, look_at_process, marks_of
from scheduler.executors.shim.spec import Spec

CHASES = 50


class Processes:
    """All processes of an attempt, from the fork of the first one on."""

    def __init__(self, spec: Spec, channels: list[Channel]) -> None:
        self.status: int | None = None
        self.restless = False
        """The last look found nobody, but children came and went meanwhile."""
        self.trouble, trouble = os.pipe()
        os.set_blocking(self.trouble, False)
        waits, self.go = os.pipe()
        self.kin = become_reaper(marks_of(spec.env))
        self.news = hear_of_children()
        shim = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.go)
            become(spec, shim, channels, trouble, waits)
        os.close(trouble)
        os.close(waits)
        for channel in channels:
            os.close(channel.child)
        if self.kin is not None:
            self.kin.session = self.pid

    def begin(self) -> None:
        """Lets the first process become the program."""
        try:
            os.write(self.go, b".")
        except BrokenPipeError:
            pass  # it has found a trouble, or was killed
        os.close(self.go)

    def drop(self) -> None:
        """Ends the first process without letting it become the program."""
        os.close(self.go)
        os.kill(self.pid, signal.SIGKILL)  # it may hang in the working directory
        self.reap()

    def has_ended(self) -> bool:
        """Looks at the first process. If only its number leads to its group, it is not reaped yet,
        as far as the system allows a look without reaping.
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
        """Reaps every ended process except the first one, as long as the end of that is not
        known.
        """
        if self.has_ended():
            self.has_children()
        elif self.kin is not None:
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid == self.pid:
                    return
                os.waitpid(ended.si_pid, 0)

    def has_children(self) -> bool:
        """Whether this process has children. Reaps those that have ended."""
        if self.status is None:
            return True
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    def hear(self) -> None:
        """A process has ended."""
        os.read(self.news, 4096)
        self.reap_orphans()

    def find(self) -> list[Process]:
        """The live processes of the attempt, as far as they can be seen."""
        self.restless = False
        if self.kin is None:
            return []
        # If there are descendants, only a second empty look counts: a process may have started
        # another one behind the first look, and ended before it was examined.
        has_children = self.has_children()
        before = self.kin.children()
        found = (has_children and self.kin.find()) or self.kin.find(self.has_children())
        if not found and self.has_children():
            self.restless = self.kin.children() != before
        return found

    def chase(self, kin: Kin) -> None:
        """Kills children that begin others and end faster than all processes can be examined."""
        for _ in range(CHASES):
            for pid in kin.children():
                found = look_at_process(pid)
                if found is not None and kin.is_of_it(found):
                    try:
                        os.kill(pid, signal.SIGKILL)  # nobody else reaps it: it has this number
                    except PermissionError:
                        kin.beyond.add(pid)
            if not self.has_children():
                return

    def ask(self) -> bool:
        """Asks every live process to end. False: there is none. Call it once: many programs take a
        second SIGTERM as an order to end at once.
        """
        alive = not self.has_ended()
        if alive:
            # The group first, and at once, so that none of it can start another process unseen.
            self.signal_group(signal.SIGTERM)
            self.signal_group(signal.SIGCONT)  # a stopped process would not get it
        left = self.find()
        if self.kin is not None:
            others = [process for process in left if not alive or process.group != self.pid]
            self.kin.signal(others, signal.SIGTERM, signal.SIGCONT)
        return alive or bool(left) or self.restless

    def look(self, kills: bool) -> bool:
        """Whether a process is alive. With `kills` it kills them."""
        if kills and self.status is None:
            self.signal_group(signal.SIGKILL)
        left = self.find()
        if kills and self.kin is not None:
            self.kin.signal(left, signal.SIGKILL)
            if self.restless:
                self.chase(self.kin)
        return bool(left) or self.restless

    def end_without_kin(self) -> None:
        """For systems where only the group of the first process is known. That process is a zombie
        until it is reaped, so its number cannot belong to another process.
        """
        if self.kin is None:
            self.signal_group(signal.SIGKILL)

    def read_trouble(self) -> bytes:
        """Stage and errno of a child that could not become the program; empty if it did."""
        try:
            return os.read(self.trouble, 64)
        except BlockingIOError:
            return b""

    def signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            self.signal_child(number)  # it has not made its group yet
        except PermissionError:
            pass  # the rest of the group runs as another user

    def signal_child(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)


def hear_of_children() -> int:
    """A descriptor that is readable once a child has ended."""
    news, wakeup = os.pipe()
    os.set_blocking(news, False)
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    return news
