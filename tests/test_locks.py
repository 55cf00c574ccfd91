"""The lock files: installed packages are the locked ones, from any index."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

_NAME = r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*(?:\[[a-z0-9,_-]+\])?"
_MARKER = r"(?: ; [A-Za-z0-9_ '.<>=!-]+)?"
_HASH = r"    --hash=sha256:[0-9a-f]{64}"
_WHY = rf"    #(?: via)?(?: +{_NAME}(?: \(pyproject\.toml\))?)?"
_entry = re.compile(
    rf"{_NAME}==[0-9][0-9a-z.]*{_MARKER} \\\n(?:{_HASH} \\\n)*{_HASH}(?:\n{_WHY})*"
).fullmatch


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_requirement_has_hashes_and_no_line_says_where_from(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().rstrip("\n"))

    assert len(entries) > 20
    assert [entry for entry in entries if not _entry(entry)] == []
