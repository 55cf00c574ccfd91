"""Splits the output of a process into lines, independent of how it was read."""

from collections.abc import Callable
from typing import NamedTuple

LINE_LIMIT = 1_048_576
"""Bytes of a line that are kept, by default."""


class Lines(NamedTuple):
    """Consecutive lines, without their terminators."""

    texts: list[str]  # UTF-8; other bytes, and NUL, as \xNN
    end: int  # offset in the stream right after the last terminator: a reader resumes here


class LineSplitter:
    """Turns chunks of bytes into lines. The lines depend only on the bytes, never on the chunks.

    A line ends at LF, CRLF or a lone CR (with which progress bars redraw). A CR at the end of a
    chunk waits for the next byte, which may be its LF. Of a line over `limit` bytes the first
    `limit` are kept, cut between two characters, and the text says how many were dropped. Never
    more than `limit` bytes are held. `start` is the offset of the first byte in the stream. `clip`
    returns the part of a cut line that may be kept: its end may be half a secret.

    If no line can be over the limit, nothing is done line by line: there may be millions.
    """

    def __init__(
        self, limit: int = LINE_LIMIT, start: int = 0, clip: Callable[[str], str] = str
    ) -> None:
        if limit < 1:
            raise ValueError("A line must be allowed at least one byte.")
        self._clip = clip
        self._limit = limit
        self._fed = self._end = start
        self._held = bytearray()  # the beginning of an unfinished line
        self._dropped = 0  # bytes of that line beyond the limit
        self._after_cr = False

    def feed(self, data: bytes) -> Lines:
        """The lines that `data` completes."""
        texts: list[str] = []
        if self._after_cr and data:
            self._after_cr = False
            lf = data.startswith(b"\n")
            texts.append(self._completed())
            self._end = self._fed + lf
            data = data[lf:]
            self._fed += lf
        self._fed += len(data)
        if data.endswith(b"\r"):
            self._after_cr = True
            data = data[:-1]
        rest = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))
        if rest:
            texts += self._split(data[:rest])
            data = data[rest:]
            self._end = self._fed - self._after_cr - len(data)
        self._hold(data)
        return Lines(texts, self._end)

    def finish(self, cut: bool = False) -> Lines:
        """The last line, if no terminator ended it. `cut`: more of it was written and is not
        here.
        """
        if not (self._after_cr or self._held or self._dropped):
            return Lines([], self._end)
        cut = cut and not self._after_cr
        self._after_cr = False
        self._end = self._fed
        text = self._completed()
        return Lines([self._clip(text) if cut else text], self._end)

    def beginning(self, most: int) -> str | None:
        """The beginning of the unfinished line, in at most `most` bytes; None if there is none."""
        if not self._held:
            return None
        held = bytes(self._held[:most])
        return _decode(held[: _character_boundary(held)])

    def _split(self, whole: bytes) -> list[str]:
        """The lines of a text that ends with a terminator. The held beginning is part of the
        first.
        """
        if self._dropped or len(self._held) + len(whole) > self._limit:
            first, *others = whole.splitlines()
            self._hold(first)
            return [self._completed(), *map(self._text, others)]
        text = _decode(bytes(self._held) + whole)
        self._held.clear()
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        texts = text.split("\n")
        texts.pop()
        return texts

    def _text(self, content: bytes) -> str:
        if len(content) > self._limit:
            return self._cut(content[: self._limit], len(content))
        return _decode(content)

    def _completed(self) -> str:
        """The held line."""
        held, dropped = bytes(self._held), self._dropped
        self._held.clear()
        self._dropped = 0
        return self._cut(held, len(held) + dropped) if dropped else _decode(held)

    def _hold(self, piece: bytes) -> None:
        room = self._limit - len(self._held)
        self._held += piece[:room]
        self._dropped += max(0, len(piece) - room)

    def _cut(self, kept: bytes, length: int) -> str:
        kept = kept[: _character_boundary(kept)]
        shown, dropped = self._clip(_decode(kept)), length - len(kept)
        return f"{shown} …(line cut: {dropped} bytes over the limit of {self._limit} were dropped)"


def _decode(content: bytes) -> str:
    text = content.decode("utf-8", "backslashreplace")
    return text.replace("\0", "\\x00") if "\0" in text else text


def _character_boundary(content: bytes) -> int:
    """The length of `content` without an incomplete character at its end."""
    for back in range(1, min(4, len(content) + 1)):
        byte = content[-back]
        if byte & 0xC0 != 0x80:
            wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return len(content) - back if wanted > back else len(content)
    return len(content)
