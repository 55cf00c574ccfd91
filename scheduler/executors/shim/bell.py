"""Tells followers of the attempt that there is something new."""

import os

RING_INTERVAL_S = 0.005


class Bell:
    """Tells the listener, if there is one."""

    __slots__ = ("due", "fd", "rang_at")

    def __init__(self) -> None:
        self.fd = -1
        self.due: float | None = None
        self.rang_at = 0.0

    def soon(self) -> None:
        """Ring soon, but not more often than once per interval."""
        if self.due is None:
            self.due = self.rang_at + RING_INTERVAL_S

    def keep_time(self, now: float) -> None:
        if self.due is not None and now >= self.due:
            self.due, self.rang_at = None, now
            self.ring()

    def ring(self) -> None:
        try:
            if self.fd < 0:
                self.fd = os.open("bell", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            os.write(self.fd, b".")
        except BlockingIOError:
            pass  # full: the listener has enough bytes to wake up
        except OSError:
            self.close()  # nobody listens now, but somebody may later

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
