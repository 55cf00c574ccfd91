"""The sign-in link's code: once, in time, and one at a time."""

from api.people.sign_in_link import LINK_LIFETIME_S, SignInLink


def test_a_code_is_good_once() -> None:
    link = SignInLink()
    assert not link.redeem("")
    code = link.issue()
    assert not link.redeem(code[:-1])
    assert link.redeem(code)
    assert not link.redeem(code)


def test_a_code_is_good_for_a_short_time() -> None:
    now = 0.0
    link = SignInLink(lambda: now)
    code = link.issue()
    now = LINK_LIFETIME_S
    assert not link.redeem(code)


def test_a_new_code_replaces_the_last() -> None:
    link = SignInLink()
    first, second = link.issue(), link.issue()
    assert not link.redeem(first)
    assert link.redeem(second)
