"""Runs one attempt and outlives the server: `main(directory)`, a process in a session of its own.

A standalone program of the standard library only. It lives in the attempt's directory:

| file | written by | what |
|---|---|---|
| `spec` | server | what to run (below); holds the environment, so it is removed once read |
| `lock` | shim | the attempt is alive as long as somebody holds an flock on it |
| `started` | shim | the attempt has begun; whoever finds it must not begin it again |
| | child | in it, its process group: for whoever finds that the shim was killed |
| `spool` | shim | stdout and stderr, merged, up to the output limit |
| `bell` | shim | FIFO: a byte says "look again" |
| `cancel` | server | marker: the attempt shall end |
| `held` | server | marker: since its time of change, no time counts against the time limit |
| `control` | server | FIFO: `.` says that the attempt shall end, `h` that `held` came or went |
| `exit.json` | shim | the end; there as a whole or not at all |

`spec` is NUL-separated: timeout_ms, output_limit, grace_ms, cwd, the number of arguments, the
arguments, and NAME=value for each variable. Bytes, so that no locale changes them.

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

READ_SIZE = 262_144
PIPE_SIZE = 1_048_576
DRAIN_LIMIT = 2 * PIPE_SIZE  # after the end; a daemon that holds the pipe may write for ever
RING_INTERVAL_S = 0.005
RETRY_INTERVAL_S = 0.5
LONGEST_SLEEP_S = 60.0
HELD_BACK = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1


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
        except FileNotFoundError:
            self.limit, self.held = self.kept, b""  # the directory is gone: nobody wants it
            return
        except OSError:
            self.retry_at = time.monotonic() + RETRY_INTERVAL_S
            return
        os.close(self.fd)
        self.fd = fresh
        self.flush()

    def sync(self) -> None:
        try:
            os.fsync(self.fd)
        except OSError:
            pass  # what is kept can be read; more cannot be done for it


class Attempt:
    """The child, from fork to the end."""

    def __init__(self, spec: Spec, control: int, bell: Bell) -> None:
        self.spec = spec
        self.control = control
        self.bell = bell
        self.spool = Spool(spec.output_limit)
        self.output_bytes = 0
        self.reason = "exited"
        self.kill_at: float | None = None
        self.ring_at: float | None = None
        self.rang_at = 0.0
        self.held_at: float | None = None
        self.held_s = 0.0
        self.status: int | None = None
        self.output, child_output = os.pipe()
        self.trouble, child_trouble = os.pipe()
        grow_pipe(self.output)
        os.set_blocking(self.output, False)
        os.set_blocking(self.trouble, False)
        self.began = time.monotonic()
        shim = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            become(spec, shim, child_output, child_trouble)
        os.close(child_output)
        os.close(child_trouble)
        self.pidfd = open_pidfd(self.pid)

    def run(self) -> None:
        """Returns when the child has ended and its end is on disk."""
        self.follow()
        duration_ms = round((time.monotonic() - self.began) * 1000)
        # The child is a zombie until `reap`, so nobody else can have got its number.
        self.signal_group(signal.SIGKILL)
        self.drain()
        status = self.reap()
        trouble = self.read_trouble()
        while self.spool.held:
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
        """Until the child has ended: keeps its output, hears the server, watches the clock."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        if self.pidfd >= 0:
            poll.register(self.pidfd, select.POLLIN)
        listening = False
        open_ended = True
        self.look_if_held()
        while not self.has_ended():
            if listening != (open_ended and not self.spool.held):
                listening = not listening
                if listening:
                    poll.register(self.output, select.POLLIN)
                else:
                    poll.unregister(self.output)
            for fd, _ in poll.poll(self.sleep_ms()):
                if fd == self.output:
                    open_ended = self.take() > 0
                elif fd == self.control:
                    self.hear()
            self.keep_time(time.monotonic())

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
        """Asks the child to end. Whoever asks first gives the reason."""
        if self.kill_at is None and not self.has_ended():
            self.reason = reason
            self.kill_at = time.monotonic() + self.spec.grace_s
            self.signal_group(signal.SIGTERM)
            self.signal_group(signal.SIGCONT)  # a stopped process could not hear it

    def keep_time(self, now: float) -> None:
        if self.kill_at is not None:
            if now >= self.kill_at:
                self.signal_group(signal.SIGKILL)
                self.kill_at = now + RETRY_INTERVAL_S
        elif self.time_is_up(now):
            self.stop("timed_out")
        if self.spool.held and now >= self.spool.retry_at:
            self.spool.retry()
        if self.ring_at is not None and now >= self.ring_at:
            self.ring_at, self.rang_at = None, now
            self.bell.ring()

    def sleep_ms(self) -> int:
        now = time.monotonic()
        ends_at = self.ends_at()
        moments = [now + (LONGEST_SLEEP_S if self.pidfd >= 0 else 0.02)]
        if self.kill_at is not None:
            moments.append(self.kill_at)
        elif ends_at is not None:
            moments.append(ends_at)
        if self.spool.held:
            moments.append(self.spool.retry_at)
        if self.ring_at is not None:
            moments.append(self.ring_at)
        wait = min(moments) - now
        return int(wait * 1000) + 1 if wait > 0 else 0

    def has_ended(self) -> bool:
        """Looks without reaping, where the system lets one."""
        if self.status is not None:
            return True
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self.status = status
        return bool(ended)

    def reap(self) -> int:
        return os.waitpid(self.pid, 0)[1] if self.status is None else self.status

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


def become(spec: Spec, shim: int, output: int, trouble: int) -> None:
    """In the child: becomes the program, or reports at which stage that failed. Never returns."""
    stage = b"session"
    try:
        os.setsid()
        note_group()
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


def note_group() -> None:
    """The child itself does, before it can have a child that outlives its shim."""
    try:
        fd = os.open("started", os.O_WRONLY)
        os.write(fd, b"%d" % os.getpid())
        os.close(fd)
    except OSError:
        pass  # a full disk: the attempt runs nevertheless


def die_with_parent() -> None:
    """Linux kills the child when the shim dies, so that no lost attempt goes on unseen."""
    if sys.platform != "linux":
        return
    try:
        import _ctypes

        prctl = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), "prctl")  # type: ignore[arg-type]
        _ctypes.call_function(prctl, (PR_SET_PDEATHSIG, signal.SIGKILL))
    except (ImportError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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


def open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


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
        fd = os.open("spec", os.O_RDONLY)
    except FileNotFoundError:
        return None
    encoded = b""
    while data := os.read(fd, READ_SIZE):
        encoded += data
    os.close(fd)
    return Spec(encoded)


def forget_spec() -> None:
    try:
        os.unlink("spec")
    except FileNotFoundError:
        pass


def mark_started() -> None:
    os.close(os.open("started", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    sync_directory()


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
            fd = os.open("exit.json.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                if os.write(fd, encoded) == len(encoded):
                    os.fsync(fd)
                    os.rename("exit.json.new", "exit.json")
                    sync_directory()
                    return
            finally:
                os.close(fd)
        except FileNotFoundError:
            return  # the directory is gone: nobody wants to know
        except OSError:
            pass
        time.sleep(RETRY_INTERVAL_S)


def quoted(text: bytes) -> str:
    """A JSON string, in ASCII."""
    units = text.decode("utf-8", "backslashreplace").encode("utf-16-be")
    codes = (units[at] << 8 | units[at + 1] for at in range(0, len(units), 2))
    return '"' + "".join(map(escaped, codes)) + '"'


def escaped(code: int) -> str:
    return chr(code) if 32 <= code < 127 and code not in b'"\\' else f"\\u{code:04x}"


def main(directory: str) -> None:
    """Runs the attempt in `directory`, unless somebody does or did."""
    os.closerange(3, 65_536)
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


if __name__ == "__main__":
    main(sys.argv[1])
