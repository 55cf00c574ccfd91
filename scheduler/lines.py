"""Splits what a process wrote into lines, however the reads cut it."""

from typing import NamedTuple

LINE_LIMIT = 1_048_576
"""Bytes of a line that are kept, unless said otherwise."""


class Line(NamedTuple):
    """A line without its terminator."""

    text: str  # UTF-8; other bytes, and NUL, as \xNN
    end: int  # offset in the stream just after the terminator: where a reader resumes


class LineSplitter:
    """Turns chunks of bytes into lines; the lines depend on the bytes alone, never on the chunks.

    A line ends at LF, CRLF or a lone CR (which is how progress bars redraw). A CR at the end of a
    chunk waits for the next byte, which may be its LF. Of a line over `limit` bytes the first
    `limit` are kept, cut between two characters, and the text says how many were dropped; no more
    than `limit` bytes are ever held. `start` is the offset of the first byte in the stream.
    """

    def __init__(self, limit: int = LINE_LIMIT, start: int = 0) -> None:
        if limit < 1:
            raise ValueError("A line must be allowed at least one byte.")
        self._limit = limit
        self._end = start
        self._held = bytearray()  # the beginning of a line whose terminator has not come
        self._dropped = 0  # bytes of that line that are not held
        self._after_cr = False

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` completes."""
        if not data:
            return []
        lines = []
        if self._after_cr:
            self._after_cr = False
            if data.startswith(b"\n"):
                self._end += 1
                data = data[1:]
            lines.append(self._complete())
        if data.endswith(b"\r"):
            self._after_cr = True
            data = data[:-1]
        pieces = data.splitlines(keepends=True)
        rest = pieces.pop() if pieces and not pieces[-1].endswith((b"\n", b"\r")) else b""
        if pieces and (self._held or self._dropped):
            lines.append(self._complete(pieces.pop(0)))
        lines += map(self._line, pieces)
        self._hold(rest)
        self._end += len(rest) + self._after_cr
        return lines

    def finish(self) -> list[Line]:
        """The last line, when no terminator ended it."""
        if self._after_cr or self._held or self._dropped:
            self._after_cr = False
            return [self._complete()]
        return []

    def _line(self, piece: bytes) -> Line:
        self._end += len(piece)
        content = piece.rstrip(b"\r\n")  # one terminator: `splitlines` left no other in it
        if len(content) > self._limit:
            return Line(self._cut(content[: self._limit], len(content)), self._end)
        return Line(_decode(content), self._end)

    def _complete(self, piece: bytes = b"") -> Line:
        """The held line, with its last piece."""
        self._end += len(piece)
        self._hold(piece.rstrip(b"\r\n"))
        held, dropped = bytes(self._held), self._dropped
        self._held.clear()
        self._dropped = 0
        text = self._cut(held, len(held) + dropped) if dropped else _decode(held)
        return Line(text, self._end)

    def _hold(self, piece: bytes) -> None:
        room = self._limit - len(self._held)
        self._held += piece[:room]
        self._dropped += max(0, len(piece) - room)

    def _cut(self, kept: bytes, length: int) -> str:
        kept = kept[: _character_boundary(kept)]
        dropped = length - len(kept)
        return (
            f"{_decode(kept)} …(line cut: {dropped} bytes over the limit of {self._limit} "
            "were dropped)"
        )


def _decode(content: bytes) -> str:
    text = content.decode("utf-8", "backslashreplace")
    return text.replace("\0", "\\x00") if "\0" in text else text


def _character_boundary(content: bytes) -> int:
    """The length of `content` without a character that its end cuts in two."""
    for back in range(1, min(4, len(content) + 1)):
        byte = content[-back]
        if byte & 0xC0 != 0x80:
            wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return len(content) - back if wanted > back else len(content)
    return len(content)
