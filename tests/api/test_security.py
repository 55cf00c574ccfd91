"""Access: the order of refusals, cookies and their age, pages of other sites, wrong passwords."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from api.edge.owners import is_named
from api.edge.security import (
    COOKIE,
    FOREIGN_PAGE,
    MALFORMED,
    NO_TOKEN,
    NO_WRITE,
    NOT_READY,
    OPERATOR,
    WORKERS_ONLY,
    WRONG,
    Principal,
    Security,
)
from api.people.passwords import PasswordStore
from api.people.sessions import LIFETIME_S, Cookies, session_key
from api.people.throttle import ACCOUNT_PACE, ADDRESS_PACE, MOST_KEYS, Attempts, Refused
from api.settings import Settings
from domain.errors import BadInput

ADA = Principal(actor="user:ada", owner="user:ada", session="s")
READER = Principal(actor="token:t", owner="user:ada", scopes=frozenset({"read"}))


@dataclass
class Known:
    """Identities that a test chooses."""

    loaded: bool = True
    empty: bool = False
    changes: int = 0
    tokens: dict[str, Principal] = field(default_factory=lambda: {"crewlog_u_read": READER})
    cookies: dict[str, Principal] = field(default_factory=lambda: {"good": ADA})

    def of_token(self, token: str) -> Principal | None:
        return self.tokens.get(token)

    def of_cookie(self, cookie: str) -> Principal | None:
        return self.cookies.get(cookie)


def connection(**headers: str) -> HTTPConnection:
    sent = {"host": "crew.example.org", **{k.replace("_", "-"): v for k, v in headers.items()}}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
    return HTTPConnection({"type": "http", "headers": raw})


@contextmanager
def refused(status: int, sentence: str) -> Iterator[None]:
    with pytest.raises(HTTPException) as caught:
        yield
    assert (caught.value.status_code, caught.value.detail) == (status, sentence)


# Bearer tokens


@pytest.mark.parametrize("token", ["crewlog_w_Zm9v", "crewlog_u_Zm9v", "crewlog_u_read"])
def test_the_servers_token_is_good_whatever_it_begins_with(token: str) -> None:
    """It is random: one in some thousands begins like a worker token or an API token."""
    security = Security(lambda: token, Known())
    assert security.resolve(f"Bearer {token}") == OPERATOR


def test_without_any_way_in_it_is_503_whatever_is_sent() -> None:
    security = Security(lambda: "", Known(empty=True))
    for sent in (None, "Basic x", "Bearer x", "Bearer crewlog_u_read"):
        with refused(503, NO_TOKEN):
            security.resolve(sent)


@pytest.mark.parametrize("sent", [None, "", "Basic abc", "Bearer", "Bearer  ", "crewlog_u_read"])
def test_no_or_a_malformed_header_is_401(sent: str | None) -> None:
    with refused(401, MALFORMED):
        Security(lambda: "secret", Known()).resolve(sent)


@pytest.mark.parametrize("sent", ["x", "secrets", "crewlog_u_other", "crewlog_w_x", "\xe9"])
def test_a_wrong_token_is_403(sent: str) -> None:
    with refused(403, WRONG):
        Security(lambda: "secret", Known()).resolve(f"Bearer {sent}")


def test_the_servers_token_is_the_operator_and_all_else_is_asked_of_the_accounts() -> None:
    security = Security(lambda: "secret", Known())
    assert security.resolve("bEARER   secret ") == OPERATOR
    assert security.resolve("Bearer crewlog_u_read") == READER


def test_until_the_accounts_are_read_only_the_operator_is_let_in() -> None:
    security = Security(lambda: "secret", Known(loaded=False))
    assert security.resolve("Bearer secret") == OPERATOR
    with refused(503, NOT_READY):
        security.resolve("Bearer crewlog_u_read")
    with refused(503, NOT_READY):
        security.authenticate(connection(cookie=f"{COOKIE}=good"), "GET")
    with refused(503, NOT_READY):
        security.principal_or_none(connection(cookie=f"{COOKIE}=good"))


def test_a_workers_token_opens_ordinary_routes_to_nobody() -> None:
    security = Security(lambda: "secret", Known())
    worker = Principal(actor="job:1", owner="user:ada")
    security.worker = {"crewlog_w_1": worker}.get
    with refused(403, WORKERS_ONLY):
        security.resolve("Bearer crewlog_w_1")
    with refused(403, WRONG):
        security.resolve("Bearer crewlog_w_2")
    assert security.resolve_worker("Bearer crewlog_w_1") == worker
    with pytest.raises(HTTPException):
        security.resolve_worker("Bearer secret")


def test_a_token_that_may_only_read_changes_nothing() -> None:
    security = Security(lambda: "secret", Known())
    sent = connection(authorization="Bearer crewlog_u_read")
    assert security.authenticate(sent, "GET") == READER
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        with refused(403, NO_WRITE):
            security.authenticate(sent, method)


# Cookies


def test_a_cookie_that_is_no_good_is_nobody() -> None:
    security = Security(lambda: "secret", Known())
    sent = connection(cookie=f"{COOKIE}=bad")
    with refused(401, MALFORMED):
        security.authenticate(sent, "GET")
    assert security.principal_or_none(sent) is None
    assert security.principal_or_none(connection()) is None


SITE = "https://crew.example.org"


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"origin": SITE}, True),
        ({"origin": "http://crew.example.org"}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"origin": SITE, "sec_fetch_site": "same-origin"}, True),
        ({"origin": "https://friend.example.org"}, True),
        ({}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://evil.example.org"}, False),
        ({"origin": f"{SITE}:8443"}, False),
        ({"origin": f"{SITE}.evil.org"}, False),
        ({"origin": "https://crew.example.org@evil.org"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"origin": SITE, "sec_fetch_site": "cross-site"}, False),
    ],
)
def test_with_a_cookie_only_a_page_of_this_server_makes_changes(
    headers: dict[str, str], own: bool
) -> None:
    security = Security(lambda: "secret", Known(), origins=("https://friend.example.org/",))
    sent = connection(cookie=f"{COOKIE}=good", **headers)
    assert security.authenticate(sent, "GET") == ADA
    if own:
        assert security.authenticate(sent, "POST") == ADA
    else:
        with refused(403, FOREIGN_PAGE):
            security.authenticate(sent, "POST")


def test_the_refusal_of_a_page_is_for_whoever_opened_it() -> None:
    for header in ("Origin", "Authorization", "Host", "header", "Sec-Fetch"):
        assert header not in FOREIGN_PAGE
    assert "cors_origins" in FOREIGN_PAGE
    assert "cors_origins" in Settings.model_fields


def test_a_header_is_stronger_than_a_cookie() -> None:
    security = Security(lambda: "secret", Known())
    sent = connection(cookie=f"{COOKIE}=good", authorization="Bearer secret")
    assert security.authenticate(sent, "POST") == OPERATOR


class Turned:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_cookie_is_good_for_thirty_days_and_says_how_old_it_is() -> None:
    clock = Turned()
    cookies = Cookies(b"k" * 32, clock)
    sealed = cookies.seal("ada", "s3cret")
    clock.now += timedelta(hours=2)
    opened = cookies.open(sealed)
    assert opened is not None
    assert (opened.user_id, opened.secret, opened.age_s) == ("ada", "s3cret", 7200)
    clock.now += timedelta(seconds=LIFETIME_S)
    assert cookies.open(sealed) is None


def test_a_cookie_of_another_key_or_changed_by_a_letter_is_none() -> None:
    clock = Turned()
    cookies = Cookies(b"k" * 32, clock)
    sealed = cookies.seal("ada", "s3cret")
    assert Cookies(b"x" * 32, clock).open(sealed) is None
    assert cookies.open(sealed.replace("ada", "eve")) is None


@given(st.text(max_size=60))
def test_no_text_is_a_cookie(text: str) -> None:
    assert Cookies(b"k" * 32, Turned()).open(text) is None


@pytest.mark.parametrize(
    ("secure", "https", "expected"),
    [("auto", False, False), ("auto", True, True), ("always", False, True), ("never", True, False)],
)
def test_the_cookie_is_secure_where_it_can_be(secure: str, https: bool, expected: bool) -> None:
    cookies = Cookies(b"k", Turned(), secure=secure, https=https)  # type: ignore[arg-type]
    sent = HTTPConnection({"type": "http", "scheme": "http", "path": "/", "headers": []})
    header = cookies.header(sent, "v", 1)
    assert ("; Secure" in header) is expected
    assert "; HttpOnly; SameSite=Lax" in header


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = session_key(tmp_path / "data" / "session.key")
    assert len(key) == 64
    assert session_key(tmp_path / "data" / "session.key") == key
    assert (tmp_path / "data" / "session.key").stat().st_mode & 0o777 == 0o600


# Wrong passwords


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_failure_too_many_doubles_the_wait_up_to_a_limit() -> None:
    clock = Seconds()
    attempts = Attempts(clock)
    waits = []
    for _ in range(20):
        assert attempts.begin("ada", None) is None
        again = attempts.begin("ada", None)
        if again is not None:
            waits.append(again.retry_after_s)
            clock.now += again.retry_after_s
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == ACCOUNT_PACE.longest_s


def test_many_at_once_are_counted_before_they_are_looked_at() -> None:
    attempts = Attempts(Seconds())
    through = [attempts.begin("ada", None) is None for _ in range(50)]
    assert sum(through) == ACCOUNT_PACE.free


def test_the_limit_is_told_once() -> None:
    clock = Seconds()
    attempts = Attempts(clock)
    answers = [attempts.begin("ada", "1.2.3.4") for _ in range(10)]
    firsts = [one.first for one in answers if isinstance(one, Refused)]
    assert firsts == [True, False, False, False, False]
    clock.now += ACCOUNT_PACE.forgotten_s + 1
    again = [attempts.begin("ada", "1.2.3.4") for _ in range(6)]
    assert [one.first for one in again if one is not None] == [True]


def test_the_right_password_clears_the_account_and_not_what_the_address_did_elsewhere() -> None:
    attempts = Attempts(Seconds())
    for number in range(ADDRESS_PACE.free - 1):
        assert attempts.begin(f"victim{number}", "1.2.3.4") is None
    assert attempts.begin("eve", "1.2.3.4") is None
    attempts.succeeded("eve", "1.2.3.4")
    assert attempts.begin("eve", "1.2.3.4") is None
    assert attempts.begin("eve", "1.2.3.4") is not None, "the address got too much back"


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts(Seconds())
    for number in range(MOST_KEYS + 100):
        attempts.begin(f"nobody{number}", None)
    assert len(attempts._failures) == MOST_KEYS


# Passwords


QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def test_a_password_is_kept_in_a_private_file_of_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        store = PasswordStore(tmp_path / "credentials", QUICK)
        credential = await store.keep("correct horse")
        file = tmp_path / "credentials" / credential
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().startswith("$argon2id$")
        assert await store.check(credential, "correct horse")
        assert not await store.check(credential, "correct horsf")
        await store.discard(credential)
        assert not await store.check(credential, "correct horse")
        assert not await store.check(None, "correct horse")
        store.close()

    asyncio.run(story())


def test_a_password_is_the_same_however_the_keyboard_composes_it(tmp_path: Path) -> None:
    async def story() -> None:
        store = PasswordStore(tmp_path, QUICK)
        credential = await store.keep("cafe\u0301 creme")
        assert await store.check(credential, "caf\u00e9 creme")
        store.close()

    asyncio.run(story())


@pytest.mark.parametrize("given_password", ["", "7 chars", "x" * 1025])
def test_a_password_has_a_length(tmp_path: Path, given_password: str) -> None:
    async def story() -> None:
        store = PasswordStore(tmp_path, QUICK)
        with pytest.raises(BadInput):
            await store.keep(given_password)
        store.close()

    asyncio.run(story())


def test_a_hash_of_older_parameters_is_replaced_when_it_is_used(tmp_path: Path) -> None:
    async def story() -> None:
        old = PasswordStore(tmp_path, QUICK)
        credential = await old.keep("correct horse")
        before = (tmp_path / credential).read_text()
        new = PasswordStore(tmp_path, PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
        assert not await new.check(credential, "wrong horse")
        assert (tmp_path / credential).read_text() == before
        assert await new.check(credential, "correct horse")
        assert "m=16,t=2" in (tmp_path / credential).read_text()
        old.close()
        new.close()

    asyncio.run(story())


def test_what_no_account_names_is_swept(tmp_path: Path) -> None:
    async def story() -> None:
        before = PasswordStore(tmp_path, QUICK)
        named, orphan = await before.keep("correct horse"), await before.keep("battery staple")
        before.close()
        os.utime(tmp_path / orphan, (0, 0))
        after = PasswordStore(tmp_path, QUICK)
        fresh = await after.keep("being set now")
        after.sweep({named})
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {named, fresh}
        assert orphan not in left
        after.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, os.mkfifo, lambda path: path.write_bytes(b"\xff\xfe")],
    ids=["a directory", "a pipe", "not text"],
)
def test_what_is_no_password_holds_up_no_other(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    async def story() -> None:
        store = PasswordStore(tmp_path, QUICK)
        named = await store.keep("correct horse")
        for name in ("stray", "replaced"):
            make(tmp_path / name)
            os.utime(tmp_path / name, (0, 0))
        store.sweep({named, "replaced"})
        for _ in range(3):
            assert not await store.check("replaced", "correct horse")
        assert await store.check(named, "correct horse")
        await store.discard("replaced")
        store.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("email", "named"),
    [
        ("Boss.Strasse@Example.ORG", True),
        ("boss.stra\u00dfe@example.org", False),
        ("boss.\u017ftrasse@example.org", False),
        (None, False),
    ],
)
def test_an_approval_names_an_address_and_none_that_looks_like_it(
    email: str | None, named: bool
) -> None:
    assert is_named(email, ["owner", "boss.strasse@example.org"]) is named
    assert is_named("eve@XN--strae-oqa.example", ["eve@stra\u00dfe.example"])
