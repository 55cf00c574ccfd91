"""Accounts: what is unique, what ends what, and memory that equals the log."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from domain.account.aggregate import (
    MOST_SESSIONS,
    MOST_TOKENS,
    Account,
    Role,
    TokenIssued,
    TokenNotFound,
    UserIdentityLinked,
    UserNotFound,
    UserProfileRefreshed,
    UserRegistered,
    email_stream,
    user_stream,
)
from domain.account.commands import Directory, EmailTaken, Identity, IdentityTaken, People, Person
from domain.catalogue import CATALOGUE
from domain.errors import BadInput, WrongState
from domain.event import Event
from domain.log import Context, EventLog, new_events, open_sqlite_log
from domain.redaction import Redactor

WHO = Context(actor="operator")
ADA = Identity("https://issuer", "1", "corp", "ada@example.org", "Ada", None)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = open_sqlite_log(tmp_path, redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


def run(log: EventLog, story: Callable[[People], Coroutine[Any, Any, None]]) -> People:
    """Run a story on the people of a log, then check that the log gives the same people."""
    people = People(log)
    people.load(())
    asyncio.run(story(people))
    read = People(log)
    read.load([account.id for account in people.directory.everybody()])
    assert read.directory.everybody() == people.directory.everybody()
    return people


async def register(people: People, email: str = "ada@example.org", **given: Any) -> Person:
    return await people.register(email, "Ada", Role.USER, WHO, **given)


def begin(session: str, account: Account) -> list[Event]:
    return account.sign_in(session, "password", None)


def issued(number: int = 1, expires_at: str | None = None) -> TokenIssued:
    return TokenIssued(
        token_id=f"t{number}",
        name="ci",
        scopes=["read"],
        hash=f"{number:064}",
        expires_at=expires_at,
    )


def test_an_account_is_found_by_its_address_in_any_case(log: EventLog) -> None:
    async def story(people: People) -> None:
        made = await register(people, " Ada@Example.org ", credential="c1")
        found = people.directory.by_email("ADA@EXAMPLE.ORG")
        assert found == made.account
        assert found.email == "Ada@Example.org"
        assert found.credential == "c1"
        assert made.position == log.head

    run(log, story)


def test_an_address_belongs_to_one_account(log: EventLog) -> None:
    async def story(people: People) -> None:
        await register(people)
        before = log.head
        with pytest.raises(EmailTaken):
            await register(people, "ADA@example.org")
        assert log.head == before

    run(log, story)


def test_of_two_at_once_one_gets_the_address(log: EventLog) -> None:
    async def story(people: People) -> None:
        done = await asyncio.gather(*(register(people) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(one, Person) for one in done) == 1
        assert sum(isinstance(one, EmailTaken) for one in done) == 4

    run(log, story)
    assert len(log.blocking.stream(email_stream("ada@example.org"))) == 1


@pytest.mark.parametrize(
    "given",
    [
        *("", "ada", "@", "a b@c", "a@b@c", "a@" + "b" * 300),
        # No domain of IDNA 2008: an account of its own beside the one that it looks like.
        *("mike@exa\u00admple.org", "mike@example\u3002org", "mike@\uff45xample.org"),
        "eve@mi\u212ae.example",
    ],
)
def test_what_is_no_address_is_refused(log: EventLog, given: str) -> None:
    async def story(people: People) -> None:
        with pytest.raises(BadInput):
            await register(people, given)

    run(log, story)


def test_an_identity_belongs_to_one_account(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        eve = (await register(people, "eve@example.org")).account
        await people.link(ada.id, ADA, WHO)
        with pytest.raises(IdentityTaken):
            await people.link(eve.id, ADA, WHO)
        again = await people.link(ada.id, ADA, WHO)
        assert again.account.identities == {("https://issuer", "1")}
        assert people.directory.by_identity("https://issuer", "1") == again.account

    run(log, story)


def test_a_new_address_of_the_provider_frees_the_old_one(log: EventLog) -> None:
    moved = Identity("https://issuer", "1", "corp", "ada@new.org", "Ada L.", None)

    async def story(people: People) -> None:
        ada = (await register(people, identity=ADA)).account
        await people.refresh(ada.id, moved, WHO)
        assert people.directory.by_email("ada@example.org") is None
        assert people.directory.get(ada.id).shown_name == "Ada L."
        await register(people)
        await people.refresh(ada.id, ADA, WHO)
        assert people.directory.get(ada.id).email == "ada@new.org", "the old one is another's"

    run(log, story)


def test_refreshing_without_a_change_says_nothing(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people, identity=ADA)).account
        before = log.head
        await people.refresh(ada.id, ADA, WHO)
        assert log.head == before

    run(log, story)


def test_disabling_ends_sessions_for_good_and_no_new_one_begins(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        await people.execute(ada.id, lambda a: a.sign_in("s1", "password", None), WHO)
        await people.execute(ada.id, Account.disable, WHO)
        with pytest.raises(WrongState):
            await people.execute(ada.id, lambda a: a.sign_in("s2", "password", None), WHO)
        with pytest.raises(WrongState):
            await people.issue_token(ada.id, issued(), WHO)
        await people.execute(ada.id, Account.enable, WHO)
        assert not people.directory.get(ada.id).sessions

    run(log, story)


def test_a_new_password_ends_every_session_but_the_one_that_asked(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        for session in ("s1", "s2", "s3"):
            await people.execute(ada.id, partial(begin, session), WHO)
        await people.execute(ada.id, lambda a: a.set_password("c2", "s2"), WHO)
        now = people.directory.get(ada.id)
        assert list(now.sessions) == ["s2"]
        assert now.credential == "c2"

    run(log, story)


def test_the_oldest_session_ends_when_there_are_too_many(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        for number in range(MOST_SESSIONS + 1):
            await people.execute(ada.id, partial(begin, f"s{number}"), WHO)
        open_sessions = people.directory.get(ada.id).sessions
        assert len(open_sessions) == MOST_SESSIONS
        assert "s0" not in open_sessions

    run(log, story)


def test_a_token_is_found_by_its_hash_until_it_is_revoked(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        person, token = await people.issue_token(ada.id, issued(), WHO)
        assert people.directory.by_token_hash(token.hash) == (person.account, token)
        await people.execute(ada.id, lambda a: a.revoke_token("t1"), WHO)
        assert people.directory.by_token_hash(token.hash) is None
        with pytest.raises(TokenNotFound):
            await people.execute(ada.id, lambda a: a.revoke_token("t1"), WHO)

    run(log, story)


def test_there_is_an_end_to_tokens_and_expired_ones_do_not_count(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        await people.issue_token(ada.id, issued(0, "2020-01-01T00:00:00.000000Z"), WHO)
        for number in range(MOST_TOKENS):
            await people.issue_token(ada.id, issued(number + 1), WHO)
        with pytest.raises(WrongState):
            await people.issue_token(ada.id, issued(MOST_TOKENS + 1), WHO)

    run(log, story)


def test_nothing_that_an_event_needs_is_redacted(log: EventLog) -> None:
    """Some fields have names like secrets, but their values must not be redacted."""

    async def story(people: People) -> None:
        made = (await register(people, credential="0b4f7a0e-3c52-4a6e-9a51-0a1b2c3d4e5f")).account
        digest = "8d2247b1a8e9044576de83af72af6536505f18456f9d198e32adc387009f3019"
        event = TokenIssued(
            token_id="01a2010a-15e0-7b91-b966-8fbdf722a0e6",
            name="deploy",
            scopes=["read", "write"],
            hash=digest,
            expires_at=None,
        )
        await people.issue_token(made.id, event, WHO)
        now = people.directory.get(made.id)
        assert now.credential == "0b4f7a0e-3c52-4a6e-9a51-0a1b2c3d4e5f"
        assert now.tokens[event.token_id].hash == digest

    run(log, story)
    assert not [e for page in log.blocking.pages() for e in page if b"REDACTED" in e.state]


def test_names_are_given_to_those_who_have_one(log: EventLog) -> None:
    async def story(people: People) -> None:
        ada = (await register(people)).account
        await people.issue_token(ada.id, issued(), WHO)
        name_of = people.directory.name_of
        assert name_of(f"user:{ada.id}") == "Ada"
        assert name_of("token:t1") == "Ada (token ci)"
        for other in ("operator", "system", "system:dispatcher", "schedule:1", "user:x", "token:x"):
            assert name_of(other) == other

    run(log, story)


def test_a_client_that_goes_away_leaves_memory_as_the_log_is(log: EventLog) -> None:
    async def story(people: People) -> None:
        asking = asyncio.create_task(register(people))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await register(people, "next@example.org")  # runs after it, whatever its outcome
        assert people.directory.by_email("ada@example.org") is not None

    run(log, story)


def test_a_directory_knows_nobody_at_first() -> None:
    directory = Directory()
    assert directory.empty
    assert not directory.loaded
    with pytest.raises(UserNotFound):
        directory.get("nobody")


LOOK_ALIKES = [
    ("mike@example.org", "mi\u212ae@example.org"),
    ("strasse@example.org", "stra\u00dfe@example.org"),
    ("strasse@example.org", "\u017ftrasse@example.org"),
    ("j\u00f6rg@example.org", "J\u00d6RG@example.org"),
    ("eve@strasse.example", "eve@stra\u00dfe.example"),
]


@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES)
def test_addresses_that_look_alike_are_two_accounts(log: EventLog, one: str, other: str) -> None:
    async def story(people: People) -> None:
        first = await register(people, one)
        assert people.directory.by_email(other) is None
        second = await register(people, other)
        assert second.account.id != first.account.id
        assert people.directory.by_email(one.swapcase() if one.isascii() else one) == first.account
        assert people.directory.by_email(other) == second.account

    run(log, story)
    assert email_stream(one) != email_stream(other)


def test_a_domain_is_one_in_both_alphabets_and_ascii_case_is_none(log: EventLog) -> None:
    async def story(people: People) -> None:
        eve = await register(people, "Eve@stra\u00dfe.example")
        for same in (
            "eVE@XN--STRAE-OQA.example",
            "eve@Stra\u00dfe.EXAMPLE",
            "eve@STRA\u00dfE.example",
            " eve@stra\u00dfe.example ",
        ):
            assert people.directory.by_email(same) == eve.account
            with pytest.raises(EmailTaken):
                await register(people, same)

    run(log, story)


def test_the_letters_of_a_domain_have_no_case(log: EventLog) -> None:
    async def story(people: People) -> None:
        info = await register(people, "info@xn--bcher-kva.example")
        for same in ("INFO@B\u00dcCHER.example", "info@b\u00fccher.EXAMPLE"):
            assert people.directory.by_email(same) == info.account
            with pytest.raises(EmailTaken):
                await register(people, same)
        assert people.directory.by_email("info@bu\u0308cher.example") is None

    run(log, story)


def test_what_an_earlier_version_opened_to_a_look_alike_is_shut(log: EventLog) -> None:
    """It compared by Unicode case folding: a stranger was linked, and took over the address."""
    other = "mi\u212ae@example.org"
    stream = user_stream("u")
    linked = UserIdentityLinked(issuer="i", subject="s", email=other, provider="corp")
    taken = UserProfileRefreshed(email=other, name="Stranger", avatar_url=None)
    mike = UserRegistered(email="mike@example.org", name="Mike", role="admin", provider="local")
    asyncio.run(log.append(new_events(stream, [mike, linked, taken], WHO), {stream: 0}))
    people = People(log)
    people.load(["u"])
    account = people.directory.get("u")
    assert (account.email, account.name, account.separated) == (
        "mike@example.org",
        "Mike",
        (other,),
    )
    assert people.directory.by_identity("i", "s") is None

    async def story() -> None:
        stranger = Identity("i", "s", "corp", other, "Stranger", None)
        person = await people.register(other, "", Role.USER, WHO, identity=stranger)
        assert people.directory.by_identity("i", "s") == person.account
        assert people.directory.by_email("mike@example.org") == account

    asyncio.run(story())
