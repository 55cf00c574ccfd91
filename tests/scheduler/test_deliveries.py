"""A delivery reaches its receiver at least once, or is recorded as failed."""

import asyncio
import hmac
import ssl
import subprocess
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from domain.delivery.aggregate import Delivery, delivery_id, delivery_id_of
from domain.errors import NotFound, WrongState
from domain.log import Recorded
from projections.deliveries import find_delivery, list_deliveries, pending_deliveries
from projections.projection import Row
from scheduler.deliveries.contract import Answer, Arrived, Missed
from scheduler.deliveries.webhook import Hook, Webhooks
from tests.scheduler.delivery_world import LOOPBACK, SOON, WHO, World
from tests.scheduler.receiver import (
    Behaviour,
    Receiver,
    garbage,
    hangs,
    hangs_up,
    receiving,
    says,
    trickles,
)

Story = Callable[[World, Receiver], Awaitable[None]]


def played(
    directory: Path,
    story: Story,
    *behaviours: Behaviour,
    secret: str = "",
    timeout_s: float = 20.0,
    waits: tuple[timedelta, ...] = SOON,
) -> None:
    """Run the story with one receiver."""

    async def play() -> None:
        async with receiving(*behaviours) as receiver:
            hooks = {"ops": Hook(receiver.url, secret)}
            world = World(directory, hooks, timeout_s=timeout_s, waits=waits)
            async with world.running():
                await story(world, receiver)

    asyncio.run(play())


async def row_of(world: World, event: Recorded) -> Row:
    await world.views.caught_up(20.0)
    with world.views.reading() as reading:
        return find_delivery(reading, delivery_id(event.id, "webhook", "ops"))


def test_an_event_reaches_its_receiver_as_the_log_has_it(tmp_path: Path) -> None:
    async def story(world: World, receiver: Receiver) -> None:
        event = await world.comment()
        [outcome] = await world.outcomes()
        [got] = await receiver.requests(1)
        assert orjson.loads(got.body) == event.as_json()
        assert got.headers["idempotency-key"] == got.headers["webhook-id"] == event.id
        assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
        signed = f"{event.id}.{got.headers['webhook-timestamp']}.".encode() + got.body
        version, _, signature = got.headers["webhook-signature"].partition(",")
        assert version == "v1"
        assert b64decode(signature) == hmac.digest(b"a secret", signed, "sha256")
        assert outcome.type == "delivery.delivered"
        assert outcome.data == {"tries": 1, "status": 204}
        requested = await world.log.first_of_stream(outcome.stream)
        assert requested is not None
        assert requested.cause == event.id
        row = await row_of(world, event)
        assert (row["state"], row["tries"], row["due_at"]) == ("delivered", 1, None)

    played(tmp_path, story, says(204), secret="a secret")


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        (says(500), 500, "It answered 500."),
        (says(503, "Retry-After: 0", body=b"later"), 503, "It answered 503."),
        (says(429), 429, "It answered 429."),
        (garbage, None, "Its answer is not HTTP."),
        (hangs_up, None, "Its answer is not HTTP."),
    ],
    ids=["500", "503", "429", "garbage", "hangs up"],
)
def test_what_went_wrong_is_tried_again_with_the_same_key(
    behaviour: Behaviour, status: int | None, reason: str, tmp_path: Path
) -> None:
    async def story(world: World, receiver: Receiver) -> None:
        event = await world.comment()
        [outcome] = await world.outcomes()
        assert (outcome.type, outcome.data["tries"]) == ("delivery.delivered", 3)
        assert [got.headers["idempotency-key"] for got in receiver.got] == [event.id] * 3
        postponed = await world.log.stream(outcome.stream, types=("delivery.postponed",))
        assert [event.data["tries"] for event in postponed] == [1, 2]
        assert {(event.data["status"], event.data["reason"]) for event in postponed} == {
            (status, reason)
        }

    played(tmp_path, story, behaviour, behaviour, says(200))


@pytest.mark.parametrize("behaviour", [hangs, trickles])
def test_a_receiver_that_never_ends_its_answer_has_missed_it(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    async def story(world: World, receiver: Receiver) -> None:
        await world.comment()
        [outcome] = await world.outcomes()
        assert (outcome.type, outcome.data["tries"]) == ("delivery.delivered", 2)
        [missed] = await world.log.stream(outcome.stream, types=("delivery.postponed",))
        assert missed.data["reason"] in (
            "It gave no answer within 0.5 seconds.",
            "It was silent for too long.",
        )

    played(tmp_path, story, behaviour, says(200), timeout_s=0.5)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (says(400), "It answered 400."),
        (says(404), "It answered 404."),
        (says(410), "It answered 410."),
        (
            says(307, "Location: http://169.254.169.254/latest/meta-data"),
            "It answered 307; redirects are not followed.",
        ),
    ],
    ids=["400", "404", "410", "redirect"],
)
def test_what_is_refused_is_given_up_at_once(
    behaviour: Behaviour, reason: str, tmp_path: Path
) -> None:
    async def story(world: World, receiver: Receiver) -> None:
        event = await world.comment()
        [outcome] = await world.outcomes()
        assert (outcome.type, outcome.data["reason"]) == ("delivery.failed", reason)
        assert len(receiver.got) == 1
        row = await row_of(world, event)
        assert (row["state"], row["reason"]) == ("failed", reason)

    played(tmp_path, story, behaviour)


def test_a_receiver_that_is_down_is_given_up_and_can_be_tried_again_by_hand(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        async with receiving(says(200)) as receiver:
            url, port = receiver.url, receiver.port
        world = World(tmp_path, {"ops": Hook(url)})
        async with world.running():
            event = await world.comment()
            [failed] = await world.outcomes()
            assert failed.type == "delivery.failed"
            assert failed.data == {
                "tries": len(SOON) + 1,
                "status": None,
                "reason": "It cannot be reached.",
            }
            name = delivery_id_of(failed.subject) or ""
            assert (await row_of(world, event))["state"] == "failed"
            async with receiving(says(200), port=port) as receiver:
                await world.deliveries.execute(name, Delivery.renew, WHO)
                [got] = await receiver.requests(1)
                await world.outcomes(2)
            assert got.headers["idempotency-key"] == event.id
            history = await world.history(name)
            tries = ["postponed"] * len(SOON)
            assert history == ["requested", *tries, "failed", "renewed", "delivered"]
            row = await row_of(world, event)
            assert (row["state"], row["tries"]) == ("delivered", 1)
            with pytest.raises(WrongState, match="Delivery is delivered"):
                await world.deliveries.execute(name, Delivery.renew, WHO)
            with pytest.raises(NotFound):
                await world.deliveries.execute("none", Delivery.renew, WHO)

    asyncio.run(play())


def test_a_slow_receiver_holds_up_no_other(tmp_path: Path) -> None:
    async def play() -> None:
        async with receiving(hangs) as slow, receiving(says(200)) as quick:
            hooks = {"slow": Hook(slow.url), "quick": Hook(quick.url)}
            async with World(tmp_path, hooks).running() as world:
                for number in range(20):
                    await world.comment(f"j{number}")
                outcomes = await world.outcomes(20)
                assert {outcome.type for outcome in outcomes} == {"delivery.delivered"}
                assert len(quick.got) == 20
                # Deliveries go one by one, and the first one is not answered yet.
                assert len(await slow.requests(1)) == 1
                await world.views.caught_up(20.0)
                with world.views.reading() as reading:
                    assert len(pending_deliveries(reading)) == 20
                    shown, more = list_deliveries(reading, state="pending", limit=15)
                    rest, _ = list_deliveries(
                        reading, state="pending", before=shown[-1]["position"], limit=15
                    )
            assert ([row["receiver"] for row in shown + rest], more) == (["slow"] * 20, True)

    asyncio.run(play())


def test_what_is_postponed_when_the_server_stops_is_sent_by_the_next_one(tmp_path: Path) -> None:
    async def play() -> None:
        async with receiving(says(500), says(200)) as receiver:
            hooks = {"ops": Hook(receiver.url)}
            hour = (timedelta(seconds=1),)
            async with World(tmp_path, hooks, waits=hour).running() as world:
                event = await world.comment()
                async for _ in world.log.tail(0, types=("delivery.postponed",)):
                    break
            assert len(receiver.got) == 1
            async with World(tmp_path, hooks, waits=hour).running() as world:
                [outcome] = await world.outcomes()
                assert outcome.data["tries"] == 2
            assert [got.headers["idempotency-key"] for got in receiver.got] == [event.id] * 2

    asyncio.run(play())


def test_kill_9_between_the_send_and_its_outcome_sends_it_again(tmp_path: Path) -> None:
    def begun(url: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.scheduler.delivery_process"]
        return subprocess.Popen([*command, str(tmp_path), url])

    async def play() -> None:
        async with receiving(hangs, hangs, says(200)) as receiver:
            for tries in (1, 2):
                process = begun(receiver.url)
                try:
                    await receiver.requests(tries)
                finally:
                    process.kill()
                    await asyncio.to_thread(process.wait)
            world = World(tmp_path, {"ops": Hook(receiver.url)})
            async with world.running():
                [outcome] = await world.outcomes()
                name = delivery_id_of(outcome.subject) or ""
                assert await world.history(name) == ["requested", "delivered"]
            keys = {got.headers["idempotency-key"] for got in receiver.got}
            assert (len(receiver.got), len(keys)) == (3, 1)

    asyncio.run(play())


class Broken:
    """A channel that raises an error the first time."""

    def __init__(self) -> None:
        self.asked = 0

    async def send(self, receiver: str, event: Recorded) -> Answer:
        self.asked += 1
        if self.asked == 1:
            raise ZeroDivisionError("a mistake")
        return Arrived()


def test_a_mistake_in_a_channel_loses_nothing_and_tells_no_secret(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(tmp_path, {"ops": Hook("")}, channel=Broken())
        async with world.running():
            await world.comment()
            [outcome] = await world.outcomes()
            assert outcome.data == {"tries": 2, "status": None}
            [missed] = await world.log.stream(outcome.stream, types=("delivery.postponed",))
            assert missed.data["reason"].startswith("The server failed; error id ")

    asyncio.run(play())


def test_an_event_is_asked_for_once_by_whomever(tmp_path: Path) -> None:
    async def story(world: World, receiver: Receiver) -> None:
        event = await world.comment()
        await world.outcomes()
        rule = world.announcing.policy
        assert await rule.react(event) is None

    played(tmp_path, story, says(200))


# Allowed addresses of webhooks


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/x", "Its address is not of the open internet."),
        ("https://127.0.0.1:9/x", "Its address is not of the open internet."),
        ("https://[::1]:9/x", "Its address is not of the open internet."),
        ("https://[::ffff:127.0.0.1]:9/x", "Its address is not of the open internet."),
        ("https://10.1.2.3/x", "Its address is not of the open internet."),
        ("https://169.254.169.254/latest", "Its address is not of the open internet."),
        ("https://224.0.0.1/x", "Its address is not of the open internet."),
        ("https://localhost:9/x", "Its address is not of the open internet."),
        ("http://8.8.8.8/x", "Its address is not an https address."),
        ("ftp://8.8.8.8/x", "Its address is not an https address."),
        ("https:///x", "Its address is not an https address."),
    ],
)
def test_only_https_to_the_open_internet_is_asked(url: str, reason: str, tmp_path: Path) -> None:
    async def play() -> None:
        # The address is not in the allowed network.
        world = World(tmp_path, {"ops": Hook(url)})
        event = await world.comment()
        world.close()
        hooks = Webhooks({"ops": Hook(url)}, allowed=[ip_network("192.0.2.0/24")])
        answer = await hooks.send("ops", event)
        assert (type(answer).__name__, getattr(answer, "reason", "")) == ("Refused", reason)

    asyncio.run(play())


def test_a_name_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(tmp_path, {})
        event = await world.comment()
        world.close()
        answer = await Webhooks({}, allowed=LOOPBACK).send("gone", event)
        assert getattr(answer, "reason", "") == "There is no webhook called 'gone'."

    asyncio.run(play())


def certified(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts for a server with a certificate for a name, and for its client."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    file = directory / "certificate.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


@pytest.mark.parametrize(
    ("name", "trusting", "answer"),
    [
        ("localhost", True, Arrived(200)),
        ("localhost", False, Missed("It cannot be reached.")),
        ("other.example", True, Missed("It cannot be reached.")),
    ],
)
def test_the_name_is_asked_for_its_certificate_though_the_address_is_called(
    name: str, trusting: bool, answer: Answer, tmp_path: Path
) -> None:
    async def play() -> None:
        server, client = certified(tmp_path, name)
        world = World(tmp_path, {})
        event = await world.comment()
        world.close()
        async with receiving(says(200), tls=server) as receiver:
            hooks = {"ops": Hook(f"https://localhost:{receiver.port}/hook")}
            allowed = [*LOOPBACK, ip_network("::1/128")]
            webhooks = Webhooks(hooks, allowed=allowed, trusted=client if trusting else None)
            assert await webhooks.send("ops", event) == answer
        assert [got.headers["host"] for got in receiver.got] == (
            [f"localhost:{receiver.port}"] if answer == Arrived(200) else []
        )

    asyncio.run(play())
