"""What helpers of the tests assert is shown with its values, as what the tests do themselves; and
the servers of the suite are forked from an interpreter that has imported them.
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
    # A machine that does much else is slow: no example is failed for its time.
    settings.register_profile("crewlog", settings(), deadline=None)
    settings.load_profile("crewlog")
