"""What helpers of the tests assert is shown with its values, as what the tests do themselves."""

import pytest

HELPERS = ("tests.server", "tests.browser", "tests.api", "tests.e2e", "tests.scheduler")

pytest.register_assert_rewrite(*HELPERS)
