"""Sign-in with OpenID Connect, against a provider on loopback."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from api.edge.security import COOKIE
from api.people.oidc import HANDSHAKE_COOKIE
from tests.e2e.people import PASSWORD, add_user, client
from tests.kit.client import Native
from tests.kit.server import Server, environment
from tests.kit.waiting import DEADLINE_S

PROVIDER = """
import sys
from oidc_provider_mock import run_server_in_thread
with run_server_in_thread(require_nonce=True) as server:
    print(server.server_port, flush=True)
    sys.stdin.read()
"""


class Provider:
    """An OpenID Connect provider in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROVIDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(NO_PROXY="*"),
        )
        assert self._process.stdout is not None
        self.issuer = f"http://localhost:{self._process.stdout.readline().strip()}"
        self.http = httpx2.Client(trust_env=False, timeout=DEADLINE_S)

    def knows(self, subject: str, **claims: Any) -> None:
        """Make an account at the provider, with these claims."""
        self.http.put(f"{self.issuer}/users/{subject}", json=claims).raise_for_status()

    def agrees(self, asked: str, subject: str) -> str:
        """Sign in at the provider's page. Returns the address that it leads back to."""
        answer = self.http.post(asked, data={"sub": subject})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def close(self) -> None:
        self.http.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()


ODD = ("[]", "null", "NaN", "5", '{"authorization_endpoint": 5, "issuer": [], "jwks_uri": 1}')
"""Discovery documents that are JSON, or nearly, and no documents."""


class _Odd(BaseHTTPRequestHandler):
    """Providers at `/0`, `/1` ... with these documents; at `/token` one whose token is odd."""

    def do_GET(self) -> None:
        number = self.path.split("/")[1]
        root = f"http://{self.headers['host']}/token"
        sound = {
            "issuer": root,
            "authorization_endpoint": f"{root}/authorize",
            "token_endpoint": f"{root}/token",
            "jwks_uri": f"{root}/keys",
        }
        self.say(json.dumps(sound) if number == "token" else ODD[int(number)])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.say('{"access_token": "x", "token_type": "bearer", "expires_in": 1e400}')

    def say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Odd) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.close()


@pytest.fixture(scope="module")
def server(
    provider: Provider, odd: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that makes accounts for new people of one domain."""
    corp = {
        "issuer": provider.issuer,
        "client_id": "crewlog",
        "client_secret": "for the corporation",
        "label": "The corporation",
    }
    dead = {**corp, "issuer": "http://127.0.0.1:9", "label": ""}
    strange = {
        f"odd{name}": {**corp, "issuer": f"{odd}/{name}", "label": ""}
        for name in ("token", *range(len(ODD)))
    }
    with Server.start(
        tmp_path_factory.mktemp("oidc") / "data",
        "--capacity=0",
        CREWLOG_OIDC=json.dumps({"corp": corp, "dead": dead, **strange}),
        CREWLOG_OIDC_ALLOW="@corp.example.org,@strasse.example",
        GOOGLE_CLIENT_ID="crewlog",
        GOOGLE_CLIENT_SECRET="as Google knows it",
        CREWLOG_GOOGLE_DISCOVERY_URL=f"{provider.issuer}/.well-known/openid-configuration",
        NO_PROXY="*",
    ) as running:
        yield running


@pytest.fixture
def browser(server: Server) -> Iterator[httpx2.Client]:
    with client(server) as http:
        http.headers["Origin"] = server.url
        yield http


def leave(browser: httpx2.Client, path: str = "/auth/oidc/corp") -> str:
    """The address that the server leads to for a sign-in."""
    answer = browser.get(path, follow_redirects=False)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def sign_in(
    browser: httpx2.Client, provider: Provider, subject: str, path: str = "/auth/oidc/corp"
) -> httpx2.Response:
    """Sign in through the provider. Returns the last answer."""
    back = provider.agrees(leave(browser, path), subject)
    return browser.get(back, follow_redirects=False)


def refused(answer: httpx2.Response, reason: str) -> None:
    """Check that the answer leads to the sign-in page, and nobody is signed in."""
    assert (answer.status_code, answer.headers["location"]) == (302, f"/login/?error={reason}")
    assert f"{COOKIE}=" not in answer.headers.get("set-cookie", "")


def events(server: Server, user_id: str) -> list[dict[str, Any]]:
    with Native(server) as operator:
        return operator.items("/log", subject=f"user-{user_id}")


def test_the_providers_are_told_to_the_page(browser: httpx2.Client) -> None:
    assert browser.get("/auth/google-enabled").json() == {"enabled": True}
    ways = browser.get("/auth/providers").json()["providers"]
    assert ways[:3] == [
        {"name": "google", "label": "Google", "url": "/auth/google"},
        {"name": "corp", "label": "The corporation", "url": "/auth/oidc/corp"},
        {"name": "dead", "label": "dead", "url": "/auth/oidc/dead"},
    ]
    assert browser.get("/auth/oidc/other").status_code == 404


def test_the_provider_is_asked_with_state_nonce_and_pkce(
    browser: httpx2.Client, server: Server
) -> None:
    asked = parse_qs(urlsplit(leave(browser)).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert {"state", "nonce", "code_challenge"} <= set(asked)
    assert asked["redirect_uri"] == [f"{server.url}/auth/oidc/corp/callback"]
    assert asked["scope"] == ["openid email profile"]


def test_a_newcomer_who_is_allowed_gets_an_account_that_is_no_administrators(
    browser: httpx2.Client, provider: Provider, server: Server
) -> None:
    provider.knows(
        "n1",
        email="new@corp.example.org",
        email_verified=True,
        name="New",
        picture="https://pictures.example.org/new.png",
    )
    came = sign_in(browser, provider, "n1")
    assert (came.status_code, came.headers["location"]) == (302, "/profile/")
    me = browser.get("/auth/me").json()
    assert (me["email"], me["displayName"], me["isAdmin"]) == ("new@corp.example.org", "New", False)
    assert me["authProvider"] == "corp"
    assert me["avatarUrl"] == "https://pictures.example.org/new.png"
    assert HANDSHAKE_COOKIE not in browser.cookies
    kinds = [event["type"] for event in events(server, me["id"])]
    assert kinds == ["user.registered", "user.identity_linked", "user.signed_in"]


def test_who_comes_again_is_the_same_and_what_has_changed_is_taken_over(
    browser: httpx2.Client, provider: Provider, server: Server
) -> None:
    provider.knows("n2", email="two@corp.example.org", email_verified=True, name="Two")
    sign_in(browser, provider, "n2")
    first = browser.get("/auth/me").json()
    provider.knows("n2", email="deux@corp.example.org", email_verified=True, name="Deux")
    browser.get("/auth/logout")
    sign_in(browser, provider, "n2")
    second = browser.get("/auth/me").json()
    assert second["id"] == first["id"]
    assert (second["email"], second["displayName"]) == ("deux@corp.example.org", "Deux")
    assert "user.profile_refreshed" in [e["type"] for e in events(server, first["id"])]


def test_an_account_is_linked_by_its_verified_address_and_an_event_says_so(
    browser: httpx2.Client, provider: Provider, server: Server
) -> None:
    ada = add_user(server, "ada@example.org", role="admin", name="Ada")
    provider.knows("ada-there", email="ADA@example.org", email_verified=True, name="Ada")
    sign_in(browser, provider, "ada-there")
    me = browser.get("/auth/me").json()
    assert (me["id"], me["isAdmin"], me["authProvider"]) == (ada["id"], True, "local")
    linked = [e for e in events(server, ada["id"]) if e["type"] == "user.identity_linked"]
    assert [e["data"]["subject"] for e in linked] == ["ada-there"]
    assert linked[0]["data"]["issuer"] == provider.issuer
    sign_in(browser, provider, "ada-there")
    again = [e for e in events(server, ada["id"]) if e["type"] == "user.identity_linked"]
    assert again == linked, "once is enough"
    pair = {"email": "ada@example.org", "password": PASSWORD}
    assert browser.post("/auth/login", json=pair).json()["id"] == ada["id"]


@pytest.mark.parametrize("verified", [False, None, "no", 1])
def test_an_address_that_is_not_verified_opens_no_account(
    browser: httpx2.Client, provider: Provider, server: Server, verified: object
) -> None:
    email = f"victim-{verified}@corp.example.org"
    victim = add_user(server, email)
    claims = {} if verified is None else {"email_verified": verified}
    provider.knows(f"thief-{verified}", email=email, **claims)
    refused(sign_in(browser, provider, f"thief-{verified}"), "unverified")
    assert browser.get("/auth/me").json() is None
    assert [e["type"] for e in events(server, victim["id"])][-1] == "user.password_set"


def test_who_is_not_expected_gets_no_account(browser: httpx2.Client, provider: Provider) -> None:
    provider.knows("stranger", email="stranger@elsewhere.org", email_verified=True)
    refused(sign_in(browser, provider, "stranger"), "no_account")
    provider.knows("near", email="near@notcorp.example.org", email_verified=True)
    refused(sign_in(browser, provider, "near"), "no_account")


@pytest.mark.parametrize(
    "email", ["mi\u212ae@example.org", "MI\u212aE@example.org", "m\u0131ke@example.org"]
)
def test_a_look_alike_of_an_address_is_another_address(
    browser: httpx2.Client, provider: Provider, server: Server, email: str
) -> None:
    with Native(server) as operator:
        if "mike@example.org" not in operator.get("/crewlog/v1/users").text:
            add_user(server, "mike@example.org", "admin")
    provider.knows(f"look-alike {email}", email=email, email_verified=True)
    refused(sign_in(browser, provider, f"look-alike {email}"), "no_account")


def test_a_look_alike_of_a_domain_is_another_domain(
    browser: httpx2.Client, provider: Provider
) -> None:
    provider.knows("sharp s", email="eve@stra\u00dfe.example", email_verified=True)
    refused(sign_in(browser, provider, "sharp s"), "no_account")


@pytest.mark.parametrize(
    "email",
    ["nobody", "a b@corp.example.org", f"{'x' * 300}@corp.example.org", "@corp.example.org"],
)
def test_an_address_that_is_none_leads_back_to_the_sign_in_page(
    browser: httpx2.Client, provider: Provider, email: str
) -> None:
    provider.knows(f"bad {email}", email=email, email_verified=True)
    refused(sign_in(browser, provider, f"bad {email}"), "unusable")


def test_a_disabled_account_stays_out(
    browser: httpx2.Client, provider: Provider, server: Server
) -> None:
    off = add_user(server, "off@example.org")
    provider.knows("off", email="off@example.org", email_verified=True)
    with Native(server) as operator:
        operator.post(f"/crewlog/v1/users/{off['id']}/disable")
    refused(sign_in(browser, provider, "off"), "disabled")
    assert "user.identity_linked" not in [e["type"] for e in events(server, off["id"])]


def test_a_callback_works_once(browser: httpx2.Client, provider: Provider, server: Server) -> None:
    provider.knows("n3", email="three@corp.example.org", email_verified=True)
    there = leave(browser)
    handshake = browser.cookies[HANDSHAKE_COOKIE]
    back = provider.agrees(there, "n3")
    assert browser.get(back, follow_redirects=False).headers["location"] == "/profile/"
    refused(browser.get(back, follow_redirects=False), "failed")
    with client(server) as thief:  # who also has the handshake's cookie
        thief.cookies.set(HANDSHAKE_COOKIE, handshake)
        refused(thief.get(back, follow_redirects=False), "failed")


def test_a_callback_that_another_browser_began_signs_nobody_in(
    browser: httpx2.Client, provider: Provider, server: Server
) -> None:
    provider.knows("eve", email="eve@corp.example.org", email_verified=True)
    with client(server) as hers:
        back = provider.agrees(leave(hers), "eve")
    refused(browser.get(back, follow_redirects=False), "failed")
    leave(browser)
    refused(browser.get(back, follow_redirects=False), "failed")
    assert browser.get("/auth/me").json() is None


@pytest.mark.parametrize("query", ["", "?code=x", "?state=x&code=y", "?error=access_denied"])
def test_what_is_no_callback_leads_back_to_the_sign_in_page(
    browser: httpx2.Client, query: str
) -> None:
    leave(browser)
    refused(browser.get(f"/auth/oidc/corp/callback{query}", follow_redirects=False), "failed")


def test_a_provider_that_is_not_there_is_said_to_be_unavailable(browser: httpx2.Client) -> None:
    refused(browser.get("/auth/oidc/dead", follow_redirects=False), "unavailable")


@pytest.mark.parametrize("number", range(len(ODD)))
def test_a_provider_whose_document_is_odd_is_said_to_be_unavailable(
    browser: httpx2.Client, number: int
) -> None:
    refused(browser.get(f"/auth/oidc/odd{number}", follow_redirects=False), "unavailable")


def test_a_provider_whose_token_is_odd_signs_nobody_in(browser: httpx2.Client) -> None:
    (state,) = parse_qs(urlsplit(leave(browser, "/auth/oidc/oddtoken")).query)["state"]
    back = f"/auth/oidc/oddtoken/callback?code=x&state={state}"
    refused(browser.get(back, follow_redirects=False), "failed")


def test_google_is_the_same_under_its_own_paths(browser: httpx2.Client, provider: Provider) -> None:
    provider.knows("g1", email="g@corp.example.org", email_verified=True, name="G")
    asked = leave(browser, "/auth/google")
    assert parse_qs(urlsplit(asked).query)["redirect_uri"][0].endswith("/auth/google/callback")
    came = browser.get(provider.agrees(asked, "g1"), follow_redirects=False)
    assert (came.status_code, came.headers["location"]) == (302, "/profile/")
    me = browser.get("/auth/me").json()
    assert (me["authProvider"], me["isAdmin"]) == ("google", False)


def test_the_secrets_of_the_providers_are_nowhere(server: Server) -> None:
    with Native(server) as operator:
        recorded = operator.get("/crewlog/v1/log/export").text
    recorded += server.output.read_text()
    assert "for the corporation" not in recorded
    assert "as Google knows it" not in recorded
    assert "code=" not in recorded
