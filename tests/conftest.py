"""Asserts in test helpers show their values, like those in tests. The suite forks its servers from
an interpreter that has already imported them.
"""

import pytest
from hypothesis import settings

HELPERS = (
    "tests.kit.server",
    "tests.kit",
    "tests.browser",
    "tests.api",
    "tests.e2e",
    "tests.projections",
    "tests.scheduler",
)

pytest.register_assert_rewrite(*HELPERS)


def pytest_configure() -> None:
    from tests.kit.forkserver import ForkServer
    from tests.kit.server import Server

    Server.forks = ForkServer()
    # On a busy machine an example may be slow, but must not fail for that.
    settings.register_profile("crewlog", settings(), deadline=None)
    settings.load_profile("crewlog")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests come first, so that one worker does not go on with them alone."""
    items.sort(key=lambda item: "test_schemathesis" not in item.name)
