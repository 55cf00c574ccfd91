"""What helpers of the tests assert is shown with its values, as what the tests do themselves; and
the servers of the suite are forked from an interpreter that has imported them.
"""

import pytest

HELPERS = (
    "tests.server",
    "tests.kit",
    "tests.browser",
    "tests.api",
    "tests.e2e",
    "tests.scheduler",
)

pytest.register_assert_rewrite(*HELPERS)


def pytest_configure() -> None:
    from tests.kit.forkserver import ForkServer
    from tests.server import Server

    Server.forks = ForkServer()
