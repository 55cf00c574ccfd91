"""The bell."""

import os


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
