"""The processes of an attempt, however they detached themselves."""

import _signal as signal  # type: ignore[import-not-found]
import errno
import os
import sys
import time

from scheduler.executors.shim.directory import read_file
from scheduler.executors.shim.process_control import prctl
from scheduler.executors.shim.regular_file import read_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PR_SET_CHILD_SUBREAPER = 36
KNOWN_FOR_S = 1.0
LARGEST_MARKER = 1_024


class Process:
    """What the system says about a process now."""

    __slots__ = ("began", "group", "lives", "parent", "pid", "session")

    def __init__(self, pid: int, stat: bytes) -> None:
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.parent, self.group, self.session = map(int, fields[1:4])
        # A process whose first thread has ended shows as a zombie while its other threads run.
        self.lives = fields[0] not in b"ZX" or int(fields[17]) > 1
        self.began = fields[19]

    def signal(self, *numbers: int) -> None:
        """Raises PermissionError if it runs as another user. Does nothing if it has ended."""
        try:
            held = os.pidfd_open(self.pid)
        except AttributeError:
            held = -1
        except OSError as error:
            if error.errno != errno.ENOSYS:
                return
            held = -1
        try:
            # Numbers are reused: from here on the descriptor refers to the process that is
            # examined.
            now = look_at_process(self.pid)
            if now is None or now.began != self.began:
                return
            for number in numbers:
                if held < 0:
                    os.kill(self.pid, number)
                else:
                    signal.pidfd_send_signal(held, number)
        except ProcessLookupError:
            pass
        finally:
            if held >= 0:
                os.close(held)


class Kin:
    """Finds the processes of an attempt, if there is a /proc.

    They are the descendants of this process, except those that have left the session and the
    environment of the attempt; and, wherever they are, the processes with `marks` in their
    environment.
    """

    def __init__(self, marks: tuple[bytes, bytes]) -> None:
        self.marks = marks
        self.session = -1
        self.left_session = -1  # of the attempt, if its shim was killed
        self.before: set[str] = set()  # entries of /proc that cannot be of the attempt
        self.beyond: set[int] = set()  # processes of the attempt that run as another user

    def find(self, below: bool = True) -> list[Process]:
        """The live processes. `below`: whether this process may have descendants."""
        if not below:
            return list(self.each())
        seen = {pid: found for pid in numbers() if (found := look_at_process(pid)) is not None}
        children: dict[int, list[int]] = {}
        for pid, found in seen.items():
            children.setdefault(found.parent, []).append(pid)
        tree: list[int] = []
        parents = [os.getpid()]
        while parents:
            born = children.get(parents.pop(), [])
            tree += born
            parents += born
        mine = [seen[pid] for pid in tree if self.is_of_it(seen[pid])]
        others = seen.keys() - set(tree)
        return mine + list(self.elsewhere(pid for pid in others if str(pid) not in self.before))

    def each(self) -> "Iterator[Process]":
        """The live processes that are no descendants, one by one. The newest first: one that soon
        begins another and ends is still there then.
        """
        new = set(os.listdir("/proc")) - self.before
        return self.elsewhere(sorted(map(int, filter(str.isdecimal, new)), reverse=True))

    def is_of_it(self, found: Process) -> bool:
        """Whether a descendant of this process is alive and has not left the attempt."""
        if not found.lives or found.pid in self.beyond:
            return False
        return found.session == self.session or not self.has_gone_its_own_way(found.pid)

    def has_gone_its_own_way(self, pid: int) -> bool:
        for _ in range(3):
            try:
                environment = read_file(f"/proc/{pid}/environ")
            except OSError:
                return False  # it hides its environment, as a key agent does
            if environment:
                break
            time.sleep(0.001)  # it may be about to become another program
        # A process that writes its title over its environment leaves the title, blanks or zeros:
        # that says nothing of what it was given.
        entries = environment.split(b"\0")
        return not environment or (
            self.marks[0] not in entries and any(is_variable(entry) for entry in entries)
        )

    def elsewhere(self, pids: "Iterable[int]") -> "Iterator[Process]":
        for pid in pids:
            if self.left_session < 0 and not self.is_marked(pid):
                continue
            process = look_at_process(pid)
            if process is None or not process.lives or pid in self.beyond:
                continue
            if self.left_session < 0 or (
                process.session == self.left_session or self.is_marked(pid)
            ):
                yield process

    def is_marked(self, pid: int) -> bool:
        """Whether its environment names the attempt, or the job and no attempt."""
        try:
            environment = read_file(f"/proc/{pid}/environ").split(b"\0")
        except OSError:
            return False  # it has ended, or belongs to another user
        if self.marks[0] not in environment:
            return False
        attempt = self.marks[1].partition(b"=")[0] + b"="
        named = [entry for entry in environment if entry.startswith(attempt)]
        return not named or self.marks[1] in named

    def children(self) -> list[int]:
        """The children of this process now; none if the system does not say."""
        own = os.getpid()
        try:
            return [int(pid) for pid in read_file(f"/proc/self/task/{own}/children").split()]
        except OSError:
            return []

    def signal(self, found: "Iterable[Process]", *numbers: int) -> None:
        for process in found:
            try:
                process.signal(*numbers)
            except PermissionError:
                self.beyond.add(process.pid)


def become_reaper(marks: tuple[bytes, bytes]) -> Kin | None:
    """From now on this process becomes the parent of its orphaned descendants. None if the system
    cannot do that: then the attempt is its first process and the group of that.
    """
    if sys.platform != "linux" or not os.path.exists("/proc/self/environ"):
        return None
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    kin = Kin(marks)
    kin.before = there_before()
    return kin


class Known:
    """The entries of /proc when this process, or the one that forked it, looked last."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.at = -float("inf")


known = Known()


def there_before() -> set[str]:
    """The entries of /proc a moment ago, as far as they were examined. A process that begins now is
    not among them.
    """
    now = time.monotonic()
    if now >= known.at + KNOWN_FOR_S:
        known.names, known.at = set(os.listdir("/proc")), now
    return known.names


def session_of(pid: int) -> bytes:
    """The session that this process leads, so that it can be known again: the number, when the
    process began, and where numbers mean the same: this start of the system, and of its namespace.
    """
    found = look_at_process(pid)
    return b"" if found is None else b"%d %s %s" % (pid, found.began, this_space())


def present_session(marker: str) -> int:
    """The session that a marker names, if it may still be that one; -1: it is not known."""
    try:
        number, began, space = read_regular(marker, LARGEST_MARKER).split()
        pid = int(number)
    except (OSError, ValueError):
        return -1
    # No process gets the number of a session that is in use. One that has it leads another.
    leader = look_at_process(pid)
    if space != this_space() or (leader is not None and leader.began != began):
        return -1
    return pid


def this_space() -> bytes:
    try:
        boot = read_file("/proc/sys/kernel/random/boot_id").strip()
        return boot + b"/" + os.readlink(b"/proc/self/ns/pid")
    except OSError:
        return b"unknown"


def marks_of(env: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """The variables by which a process of the attempt is recognised."""
    job, attempt = env.get(b"CREWLOG_JOB_ID", b""), env.get(b"CREWLOG_ATTEMPT", b"")
    return b"CREWLOG_JOB_ID=" + job, b"CREWLOG_ATTEMPT=" + attempt


def is_variable(entry: bytes) -> bool:
    """Whether it looks like a variable that a program was given."""
    name, equals, _ = entry.partition(b"=")
    return bool(equals) and name.replace(b"_", b"a").isalnum() and not name[:1].isdigit()


def numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def look_at_process(pid: int) -> Process | None:
    """None if there is no process with that number."""
    try:
        return Process(pid, read_file(f"/proc/{pid}/stat"))
    except OSError:
        return None
