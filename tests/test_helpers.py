"""Failed assertions in the tests' helper modules show their values."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent


def helpers() -> list[str]:
    """Every module of the tests that has assertions but no tests."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT)
        if inside.parts[0] in ("bench", "golden") or path.name.startswith(("test_", "__")):
            continue
        if "    assert " in path.read_text():
            found.append(".".join(("tests", *inside.with_suffix("").parts)))
    return [name for name in found if not name.startswith("tests.demo")]


@pytest.mark.parametrize("name", helpers())
def test_a_helper_is_registered_for_assertion_rewriting(name: str) -> None:
    module = importlib.import_module(name)
    assert type(module.__loader__).__name__ == "AssertionRewritingHook"
