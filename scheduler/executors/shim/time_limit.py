"""How long the attempt may run: its limit, plus the time that it was held."""

import os
import time


class TimeLimit:
    """`seconds` from `began` on; 0: no limit. While the marker `held` exists, the clock stands."""

    __slots__ = ("began", "held_at", "held_s", "seconds")

    def __init__(self, seconds: float, began: float) -> None:
        self.seconds = seconds
        self.began = began
        self.held_at: float | None = None
        self.held_s = 0.0

    def look(self) -> None:
        """Notes the marker, and adds the time that it existed once it is gone."""
        now = time.monotonic()
        try:
            changed = os.stat("held").st_mtime
        except OSError:
            if self.held_at is not None:
                self.held_s += now - self.held_at
                self.held_at = None
        else:
            if self.held_at is None:
                # It may be older than the message about it, but never older than the attempt.
                ago = min(max(0.0, time.time() - changed), now - self.began - self.held_s)
                self.held_at = now - ago

    def ends_at(self) -> float | None:
        """When it passes, as it is now."""
        if not self.seconds or self.held_at is not None:
            return None
        return self.began + self.seconds + self.held_s

    def is_over(self, now: float) -> bool:
        ends_at = self.ends_at()
        if self.held_at is None and (ends_at is None or now < ends_at):
            return False
        self.look()  # the server that should have told of a change may have been killed
        ends_at = self.ends_at()
        return ends_at is not None and now >= ends_at
