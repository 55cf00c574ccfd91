"""The child process, until it becomes the program."""

# ruff: noqa: S606, SIM105

import _signal as signal  # type: ignore[import-not-found]
import errno
import os
import sys

from scheduler.executors.shim.channels import Channel
from scheduler.executors.shim.process_control import prctl
from scheduler.executors.shim.spec import Spec

PR_SET_PDEATHSIG = 1


def become(spec: Spec, shim: int, channels: list[Channel], trouble: int, waits: int) -> None:
    """In the child: becomes the program once a byte comes from `waits`, or reports at which stage
    that failed. Never returns.
    """
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
        # Each pipe has a higher number than the targets of its channel and of those before, so none
        # is overwritten.
        for channel in channels:
            for target in channel.targets:
                os.dup2(channel.child, target)
        reset_handlers()
        if not os.read(waits, 1):
            os._exit(127)  # it is not to run
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a SIGTERM since the fork arrives now
        execute(spec.argv, spec.env)
    except OSError as error:
        os.write(trouble, b"%s %d" % (stage, error.errno or 0))
    finally:
        os._exit(127)


def die_with_parent() -> None:
    """Linux kills the child if the shim dies, so that no lost attempt goes on unseen."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def reset_handlers() -> None:
    """Default handlers, as a program expects them."""
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # the C library reserves a few numbers


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """execvpe with the PATH of `env`. Raises the most informative error."""
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
