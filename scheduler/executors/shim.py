"""Runs one attempt and outlives the server: `main(directory)`, a process in a session of its own.

A standalone program of the standard library only. It lives in the attempt's directory:

| file | written by | what |
|---|---|---|
| `spec` | server | what to run (below); holds the environment, so it is removed once read |
| `lock` | shim | the attempt is alive as long as somebody holds an flock on it |
| `started` | shim | the attempt has begun; whoever finds it must not begin it again |
| `spool` | shim | stdout and stderr, merged, up to the output limit |
| `bell` | shim | FIFO: a byte says "look again" |
| `cancel` | server | marker: the attempt shall end |
| `held` | server | marker: since its time of change, no time counts against the time limit |
| `control` | server | FIFO: `.` says that the attempt shall end, `h` that `held` came or went |
| `exit.json` | shim | the end; there as a whole or not at all |

`spec` is NUL-separated: timeout_ms, output_limit, grace_ms, cwd, the number of arguments, the
arguments, and NAME=value for each variable. Bytes, so that no locale changes them.

The end of an attempt is the end of all that it started, however that detached itself: the shim is
the parent of whatever loses its own (Linux), and looks for the rest by its environment. What has
left the session *and* has no CREWLOG_JOB_ID any more is let live: that is the way out for a job
that means to leave something running. When the first process has left by itself, what still holds
the output gets `FINISH_S` to finish. Then, as after a cancel and at the time limit, all of it gets
SIGTERM, and SIGKILL once the grace is over.

`end_left(job, attempt)` ends in the same way what is left of an attempt whose shim was killed.

Start-up is on the way of every job, and most of what a small Python program costs is imports: hence
no `json`, of `signal` and `ctypes` only the C halves, and no `contextlib.suppress`.
"""

# ruff: noqa: S606, SIM105

import _signal as signal  # type: ignore[import-not-found]
import errno
import fcntl
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

READ_SIZE = 262_144
PIPE_SIZE = 1_048_576
DRAIN_LIMIT = 2 * PIPE_SIZE  # after the end; a daemon that holds the pipe may write for ever
RING_INTERVAL_S = 0.005
RETRY_INTERVAL_S = 0.5
LONGEST_SLEEP_S = 60.0
HELD_BACK = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
FINISH_S = 2.0  # for what still writes when the first process has left
LOOK_INTERVAL_S = 0.02  # between looks at what is asked to end; longer where a look takes long
LAST_WAIT_S = 5.0  # after SIGKILL: what the system does not let go by then runs nothing any more
LEFT_GRACE_S = 5.0
HELD_S = 2.0  # after a cancel: for output that a full disk does not take
PASSING = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
    )
)
"""Errors of the disk that may pass by themselves. After any other, trying again is no use."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Spec:
    """What to run, as the server wrote it."""

    __slots__ = ("argv", "cwd", "env", "grace_s", "output_limit", "timeout_s")

    def __init__(self, encoded: bytes) -> None:
        timeout_ms, output_limit, grace_ms, cwd, count, *rest = encoded.split(b"\0")
        self.timeout_s = int(timeout_ms) / 1000
        self.output_limit = int(output_limit)
        self.grace_s = int(grace_ms) / 1000
        self.cwd = cwd
        self.argv = rest[: int(count)]
        self.env = dict(variable.split(b"=", 1) for variable in rest[int(count) :])


class Bell:
    """Tells whoever listens, if anybody does."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1

    def ring(self) -> None:
        try:
            if self.fd < 0:
                self.fd = os.open("bell", os.O_WRONLY | os.O_NONBLOCK)
            os.write(self.fd, b".")
        except BlockingIOError:
            pass  # full: the listener has more than enough to wake up
        except OSError:
            self.close()  # nobody listens now; somebody may later

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Spool:
    """Keeps the first `limit` bytes; what a full disk does not take is held until it does."""

    __slots__ = ("fd", "held", "kept", "limit", "retry_at")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = 0
        self.held = b""
        self.retry_at = 0.0
        self.fd = self._open()

    @staticmethod
    def _open() -> int:
        return os.open("spool", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, data: bytes) -> None:
        self.held += data[: self.limit - self.kept - len(self.held)]
        self.flush()

    def flush(self) -> None:
        try:
            while self.held:
                written = os.write(self.fd, self.held)
                self.kept += written
                self.held = self.held[written:]
        except OSError as error:
            if error.errno == errno.EFBIG:
                self.limit, self.held = self.kept, b""
            else:
                self.retry_at = time.monotonic() + RETRY_INTERVAL_S

    def retry(self) -> None:
        try:
            fresh = self._open()
        except OSError as error:
            if error.errno in PASSING:
                self.retry_at = time.monotonic() + RETRY_INTERVAL_S
            else:
                self.limit, self.held = self.kept, b""  # the directory is gone, or as good as that
            return
        os.close(self.fd)
        self.fd = fresh
        self.flush()

    def sync(self) -> None:
        try:
            os.fsync(self.fd)
        except OSError:
            pass  # what is kept can be read; more cannot be done for it


class Process:
    """What the system says of a process right now."""

    __slots__ = ("began", "group", "lives", "parent", "pid", "session")

    def __init__(self, pid: int, stat: bytes) -> None:
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.parent, self.group, self.session = map(int, fields[1:4])
        # Whose first thread has left is shown as a zombie while the others go on.
        self.lives = fields[0] not in b"ZX" or int(fields[17]) > 1
        self.began = fields[19]

    def signal(self, *numbers: int) -> None:
        """PermissionError: it runs as somebody else. Nothing where it has gone."""
        try:
            held = os.pidfd_open(self.pid)
        except AttributeError:
            held = -1
        except OSError as error:
            if error.errno != errno.ENOSYS:
                return
            held = -1
        try:
            # Numbers recur: from here on the descriptor holds on to what is looked at.
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
    """Finds the processes of an attempt, as long as it has /proc to look into.

    They are those below this process, but for what has left the session and the environment that
    the attempt began with; and, wherever they are, those that have `marks` in their environment.
    """

    def __init__(self, marks: tuple[bytes, bytes]) -> None:
        self.marks = marks
        self.session = -1
        self.before = {os.getpid()}  # they cannot be of the attempt
        self.beyond: set[int] = set()  # they are, and run as somebody else

    def note_others(self) -> None:
        """Before the attempt begins anything."""
        self.before.update(numbers())

    def find(self, below: bool = True) -> list[Process]:
        """Those that live. `below`: whether there may be any below this process."""
        if not below:
            return self.elsewhere(pid for pid in numbers() if pid not in self.before)
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
        return mine + self.elsewhere(seen.keys() - self.before - set(tree))

    def is_of_it(self, found: Process) -> bool:
        """Whether a process below this one lives and has not gone its own way."""
        if not found.lives or found.pid in self.beyond:
            return False
        return found.session == self.session or not self.has_gone_its_own_way(found.pid)

    def has_gone_its_own_way(self, pid: int) -> bool:
        for _ in range(3):
            try:
                environment = read_file(f"/proc/{pid}/environ")
            except OSError:
                return False  # it hides its environment, as an agent of keys does
            if environment:
                break
            time.sleep(0.001)  # it may be about to become another program
        # What writes its title over its environment leaves nothing in it but zeros.
        return not environment or (
            environment.strip(b"\0") != b"" and self.marks[0] not in environment.split(b"\0")
        )

    def elsewhere(self, pids: "Iterable[int]") -> list[Process]:
        found = []
        for pid in pids:
            try:
                environment = read_file(f"/proc/{pid}/environ").split(b"\0")
            except OSError:
                continue  # gone, or somebody else's
            if self.marks[0] in environment and self.marks[1] in environment:
                process = look_at_process(pid)
                if process is not None and process.lives and pid not in self.beyond:
                    found.append(process)
        return found

    def signal(self, found: "Iterable[Process]", *numbers: int) -> None:
        for process in found:
            try:
                process.signal(*numbers)
            except PermissionError:
                self.beyond.add(process.pid)


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


def limit_descriptors(soft: int) -> None:
    if soft < 0:
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or soft <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def become(spec: Spec, shim: int, output: int, trouble: int) -> None:
    """In the child: becomes the program, or reports at which stage that failed. Never returns."""
    stage = b"session"
    try:
        os.setsid()
        die_with_parent()
        if os.getppid() != shim:
            os._exit(127)
        stage = b"cwd"
        os.chdir(spec.cwd)
        stage = b"program"
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        restore_signals()
        execute(spec.argv, spec.env)
    except OSError as error:
        os.write(trouble, b"%s %d" % (stage, error.errno or 0))
    finally:
        os._exit(127)


def die_with_parent() -> None:
    """Linux kills the child when the shim dies, so that no lost attempt goes on unseen."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def become_reaper(marks: tuple[bytes, bytes]) -> Kin | None:
    """From now on what loses its parent below this process becomes its child. None where the
    system knows no such thing: there, the attempt is its first process and the group of that.
    """
    if sys.platform != "linux" or not os.path.exists("/proc/self/environ"):
        return None
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    kin = Kin(marks)
    kin.note_others()
    return kin


def hear_of_children() -> int:
    """A descriptor that can be read once a child has ended."""
    news, told = os.pipe()
    os.set_blocking(news, False)
    os.set_blocking(told, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    return news


def prctl(option: int, value: int) -> None:
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), "prctl")  # type: ignore[arg-type]
        _ctypes.call_function(function, (option, value))
    except (ImportError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value)


def marks_of(env: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """The variables by which a process of the attempt is known."""
    job, attempt = env.get(b"CREWLOG_JOB_ID", b""), env.get(b"CREWLOG_ATTEMPT", b"")
    return b"CREWLOG_JOB_ID=" + job, b"CREWLOG_ATTEMPT=" + attempt


def numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def look_at_process(pid: int) -> Process | None:
    """None where there is none of that number."""
    try:
        return Process(pid, read_file(f"/proc/{pid}/stat"))
    except OSError:
        return None


def read_file(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        whole = b""
        while data := os.read(fd, READ_SIZE):
            whole += data
        return whole
    finally:
        os.close(fd)


def restore_signals() -> None:
    """Default handlers, then an empty mask: now a SIGTERM that came since the fork arrives."""
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # the C library keeps a few numbers for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """execvpe with the PATH of `env`; raises the error that tells most."""
    program = argv[0]
    if b"/" in program:
        os.execve(program, argv, env)
    failure = OSError(errno.ENOENT, "")
    for folder in env.get(b"PATH", os.defpath.encode()).split(b":"):
        try:
            os.execve(os.path.join(folder, program), argv, env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
                if error.errno != errno.EACCES:
                    break
    raise failure


def grow_pipe(fd: int) -> None:
    """A larger pipe is fewer wake-ups; a system that refuses is as good, only slower."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except (AttributeError, OSError):
        pass


def take_lock() -> bool:
    """Holds the lock until this process ends, however it ends."""
    fd = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True


def read_spec() -> Spec | None:
    try:
        return Spec(read_file("spec"))
    except FileNotFoundError:
        return None


def forget_spec() -> None:
    try:
        os.unlink("spec")
    except FileNotFoundError:
        pass


def mark_started() -> None:
    os.close(os.open("started", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    sync_directory()


def reserve_exit() -> None:
    """Room for the end, which is to be written down also when the job has filled the disk."""
    try:
        fd = os.open("exit.json.new", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b" " * 512)
        os.close(fd)
    except OSError:
        pass  # it is full already: the end will wait


def sync_directory() -> None:
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def failure(stage: bytes, number: int, what: bytes) -> str:
    """Why nothing ran, as JSON; the server makes a sentence of it."""
    return f'{{"stage":{quoted(stage)},"errno":{number},"what":{quoted(what)}}}'


def write_exit(
    reason: str, code: int | None, written: int, kept: int, duration_ms: int, error: str = "null"
) -> None:
    """Keeps trying while the disk is full: an end that is not on disk has not happened."""
    encoded = (
        f'{{"reason":"{reason}","exit_code":{"null" if code is None else code},'
        f'"output_bytes":{written},"kept_bytes":{kept},'
        f'"duration_ms":{duration_ms},"error":{error}}}\n'
    ).encode()
    while True:
        try:
            fd = os.open("exit.json.new", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.write(fd, encoded) == len(encoded):
                    os.ftruncate(fd, len(encoded))
                    os.fsync(fd)
                    os.rename("exit.json.new", "exit.json")
                    sync_directory()
                    return
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in PASSING:
                return  # the directory is gone, or as good as that: nobody can be told
        time.sleep(RETRY_INTERVAL_S)


def quoted(text: bytes) -> str:
    """A JSON string, in ASCII."""
    units = text.decode("utf-8", "backslashreplace").encode("utf-16-be")
    codes = (units[at] << 8 | units[at + 1] for at in range(0, len(units), 2))
    return '"' + "".join(map(escaped, codes)) + '"'


def escaped(code: int) -> str:
    return chr(code) if 32 <= code < 127 and code not in b'"\\' else f"\\u{code:04x}"


def main(directory: str, descriptors: str = "-1") -> None:
    """Runs the attempt in `directory`, unless somebody does or did. `descriptors` is the soft limit
    of open files that it begins with; -1 leaves it as it is.
    """
    os.closerange(3, 65_536)
    limit_descriptors(int(descriptors))
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    os.chdir(directory)
    if not take_lock() or os.path.exists("started"):
        if os.path.exists("started"):
            forget_spec()
        return
    spec = read_spec()
    if spec is None:
        return
    mark_started()
    forget_spec()
    control = os.open("control", os.O_RDWR | os.O_NONBLOCK)
    bell = Bell()
    bell.ring()
    if os.path.exists("cancel"):
        write_exit("cancelled", None, 0, 0, 0)
    else:
        attempt(spec, control, bell)
    bell.ring()


def attempt(spec: Spec, control: int, bell: Bell) -> None:
    try:
        child = Attempt(spec, control, bell)
    except OSError as error:
        why = failure(b"process", error.errno or 0, spec.argv[0])
        write_exit("spawn_failed", None, 0, 0, 0, why)
    else:
        child.run()


def end_left(job: str, attempt: str) -> None:
    """Ends what a shim that was killed could not: the system ended its first process, no more."""
    os.closerange(3, 65_536)
    if not os.path.exists("/proc/self/environ"):
        return
    kin = Kin(marks_of({b"CREWLOG_JOB_ID": job.encode(), b"CREWLOG_ATTEMPT": attempt.encode()}))
    left = kin.find(below=False)
    kin.signal(left, signal.SIGTERM, signal.SIGCONT)
    kill_at = time.monotonic() + LEFT_GRACE_S
    took = 0.0
    while left:
        time.sleep(LOOK_INTERVAL_S + 20 * took)
        now = time.monotonic()
        if now >= kill_at + LAST_WAIT_S:
            return
        left = kin.find(below=False)
        if now >= kill_at:
            kin.signal(left, signal.SIGKILL)
        took = time.monotonic() - now


if __name__ == "__main__":
    main(sys.argv[1])
