"""The lines are the same for any cuts between reads, and each line says where to resume."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.drivers.lines import Lines, LineSplitter

PIECES = st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bc", b"\xc3\xa9", "🙂".encode(), b"\xff"])
STREAMS = st.lists(PIECES | st.binary(max_size=4), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=12)
LIMITS = st.integers(1, 12) | st.just(1_048_576)


def split(data: bytes, limit: int = 1_048_576, start: int = 0) -> Lines:
    return split_at([0, len(data)], data, limit, start)


def split_at(edges: list[int], data: bytes, limit: int, start: int = 0) -> Lines:
    splitter = LineSplitter(limit, start)
    given = [splitter.feed(data[a:b]) for a, b in pairwise(edges)] + [splitter.finish()]
    return Lines([text for lines in given for text in lines.texts], given[-1].end)


def one_by_one(data: bytes, limit: int = 1_048_576) -> list[tuple[str, int]]:
    """Each line with its end offset: no byte completes more than one line."""
    splitter = LineSplitter(limit)
    given = [splitter.feed(bytes([byte])) for byte in data] + [splitter.finish()]
    return [(text, lines.end) for lines in given for text in lines.texts]


def texts(data: bytes, limit: int = 1_048_576) -> list[str]:
    return split(data, limit).texts


@given(STREAMS, CUTS, LIMITS)
def test_any_cut_of_the_input_gives_the_same_lines(
    data: bytes, cuts: list[int], limit: int
) -> None:
    edges = [0, *sorted(cuts), max(len(data), *cuts, 0)]
    assert split_at(edges, data, limit) == split(data, limit)


@given(STREAMS, CUTS, LIMITS)
def test_resuming_at_any_end_that_was_given_gives_the_rest(
    data: bytes, cuts: list[int], limit: int
) -> None:
    everything = texts(data, limit)
    splitter = LineSplitter(limit)
    edges = [0, *sorted(cuts), max(len(data), *cuts, 0)]
    number = 0
    for lines in [*(splitter.feed(data[a:b]) for a, b in pairwise(edges)), splitter.finish()]:
        number += len(lines.texts)
        assert split(data[lines.end :], limit, lines.end) == (everything[number:], len(data))


@given(STREAMS)
def test_the_lines_account_for_every_byte(data: bytes) -> None:
    lines = one_by_one(data)
    ends = [0, *(end for _, end in lines)]
    assert ends[-1] == len(data)
    assert sorted(ends) == ends
    for (begin, end), (text, _) in zip(pairwise(ends), lines, strict=True):
        content = data[begin:end].rstrip(b"\r\n")
        assert text == content.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"10%\r20%\r\n", ["10%", "20%"]),
        (b"\n\r\n\r", ["", "", ""]),
        (b"a\r", ["a"]),
        (b"nul\0 esc\x1b[1m", ["nul\\x00 esc\x1b[1m"]),
        (b"bad \xff\xc3\n", ["bad \\xff\\xc3"]),
        ("form\x0cfeed\x85 and\u2028line".encode(), ["form\x0cfeed\x85 and\u2028line"]),
    ],
)
def test_lines_end_at_lf_crlf_and_lone_cr_only(data: bytes, expected: list[str]) -> None:
    assert texts(data) == expected


def test_a_line_is_given_as_soon_as_it_is_complete() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == (["one"], 4)
    assert splitter.feed(b"o\r") == ([], 4)
    assert splitter.feed(b"\n") == (["two"], 9)
    assert splitter.feed(b"50%\r") == ([], 9)
    assert splitter.feed(b"6") == (["50%"], 13)
    assert splitter.finish() == (["6"], 14)
    assert splitter.finish() == ([], 14)


def test_offsets_count_from_the_start_offset() -> None:
    splitter = LineSplitter(start=100)
    assert splitter.feed(b"a\nb") == (["a"], 102)
    assert splitter.finish() == (["b"], 103)


def test_a_line_over_the_limit_is_cut_and_says_so() -> None:
    note = " …(line cut: 3 bytes over the limit of 4 were dropped)"
    assert texts(b"abcd\nabcdefg\nx", 4) == ["abcd", "abcd" + note, "x"]


def test_a_line_is_cut_between_two_characters() -> None:
    note = " …(line cut: {} bytes over the limit of 4 were dropped)"
    assert texts("abcé".encode(), 4) == ["abc" + note.format(2)]
    assert texts("🙂🙂".encode(), 4) == ["🙂" + note.format(4)]
    assert texts("a🙂".encode(), 4) == ["a" + note.format(4)]


def test_a_line_of_any_length_takes_bounded_memory() -> None:
    chunk = b"x" * 65_536
    splitter = LineSplitter(limit=1_000)
    tracemalloc.start()
    try:
        for _ in range(1_000):
            assert splitter.feed(chunk).texts == []
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    (line,), end = splitter.feed(b"\n")
    assert end == 65_536_001
    assert line.startswith("x" * 1_000 + " …(line cut: 65535000 bytes")


def test_a_limit_below_one_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        LineSplitter(0)
