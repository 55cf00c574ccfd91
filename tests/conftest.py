"""Asserts in helpers of the tests show their values, as those of the tests do. The servers of the
suite are forked from an interpreter that has already imported them.
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
    # A busy machine is slow: no example may fail because of its time.
    settings.register_profile("crewlog", settings(), deadline=None)
    settings.load_profile("crewlog")
