"""People on a real server: sign-in and sign-out, what lasts, tokens, the command line."""

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from api.edge.security import COOKIE
from api.people.sessions import LIFETIME_S, RENEW_AFTER_S, Cookies
from domain.clock import system_clock
from tests.e2e.people import PASSWORD, add_user, client, issue_token, sign_in
from tests.kit import server as kit_server
from tests.kit.client import Native
from tests.kit.server import Server

ADMIN = "admin@example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an administrator from its settings. It runs no jobs."""
    directory = tmp_path_factory.mktemp("people")
    with Server.start(
        directory / "data",
        "--capacity=0",
        CREWLOG_ADMIN_EMAIL=ADMIN,
        CREWLOG_ADMIN_PASSWORD=PASSWORD,
    ) as running:
        yield running


@pytest.fixture
def nobody(server: Server) -> Iterator[httpx2.Client]:
    with client(server) as http:
        yield http


@pytest.fixture(scope="module")
def ada(server: Server) -> dict[str, object]:
    return add_user(server, "ada@example.org", name="Ada")


def log_of(server: Server, user_id: object) -> list[dict[str, object]]:
    with Native(server) as operator:
        return operator.items("/log", subject=f"user-{user_id}")


# Signing in


def test_the_first_administrator_is_made_from_the_settings_once(server: Server) -> None:
    with sign_in(server, ADMIN) as admin:
        me = admin.get("/auth/me").json()
        users = admin.get("/crewlog/v1/users").json()["items"]
    assert me["isAdmin"] is True
    assert [user["email"] for user in users].count(ADMIN) == 1


def test_there_is_no_account_that_nobody_made(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data") as fresh, client(fresh, fresh.token) as operator:
        assert operator.get("/crewlog/v1/users").json() == {"items": [], "cursor": None}
        assert operator.get("/crewlog/v1/log").json()["head"] == 0


def test_nobody_is_null_and_may_only_look_at_what_is_public(nobody: httpx2.Client) -> None:
    me = nobody.get("/auth/me")
    assert (me.status_code, me.json()) == (200, None)
    assert nobody.get("/auth/google-enabled").json() == {"enabled": False}
    assert nobody.get("/auth/google", follow_redirects=False).status_code == 404
    assert nobody.get("/auth/providers").json() == {"password": True, "providers": []}
    refused = nobody.get("/api/jobs")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_the_profile_has_the_fields_of_the_contract_and_never_the_hash(
    server: Server, ada: dict[str, object]
) -> None:
    with sign_in(server, "ADA@example.org") as browser:
        profile = browser.get("/auth/me").json()
    assert profile == {
        "id": ada["id"],
        "email": "ada@example.org",
        "displayName": "Ada",
        "avatarUrl": None,
        "authProvider": "local",
        "isAdmin": False,
        "createdAt": ada["createdAt"],
    }
    assert abs(profile["createdAt"] / 1000 - time.time()) < 600
    stored = [path.read_text().strip() for path in (server.data / "credentials").iterdir()]
    assert all(hashed.startswith("$argon2id$") for hashed in stored)
    with Native(server) as operator:
        everything = operator.get("/crewlog/v1/log/export").text
    assert not any(hashed in everything for hashed in stored)
    assert "argon2" not in everything
    assert PASSWORD not in everything


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(
    server: Server, ada: dict[str, object], nobody: httpx2.Client
) -> None:
    answer = nobody.post("/auth/login", json={"email": ada["email"], "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert cookie.endswith(f"; Max-Age={LIFETIME_S}; Path=/; HttpOnly; SameSite=Lax")
    assert answer.headers["x-event-position"].isdigit()
    secret = cookie.partition("=")[2].split(".")[1]
    with Native(server) as operator:
        assert secret not in operator.get("/crewlog/v1/log/export").text


def test_a_form_signs_in_too_and_leads_a_browser_on(
    ada: dict[str, object], nobody: httpx2.Client
) -> None:
    right, wrong = ({"email": ada["email"], "password": p} for p in (PASSWORD, "wrong horse"))
    assert nobody.post("/auth/login", data=right).json()["id"] == ada["id"]
    browser = {"accept": "text/html,*/*"}
    led = nobody.post("/auth/login", data=right, headers=browser, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/profile/")
    assert COOKIE in led.headers["set-cookie"]
    back = nobody.post("/auth/login", data=wrong, headers=browser, follow_redirects=False)
    assert (back.status_code, back.headers["location"]) == (303, "/login/?error=wrong")


def test_a_wrong_pair_does_not_say_whether_there_is_such_an_account(
    ada: dict[str, object], nobody: httpx2.Client
) -> None:
    answers = [
        nobody.post("/auth/login", json={"email": email, "password": "wrong horse"})
        for email in (ada["email"], "nobody@example.org")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert set(answers[0].json()) == {"error", "detail"}
    assert "set-cookie" not in answers[0].headers


@pytest.mark.parametrize("body", ["", "[]", "{", '{"email":"a"}', '{"email":1,"password":"x"}'])
def test_what_are_no_credentials_is_422_without_an_echo(nobody: httpx2.Client, body: str) -> None:
    answer = nobody.post("/auth/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}


def test_signing_out_ends_the_session_itself_and_not_only_the_cookie(
    server: Server, ada: dict[str, object]
) -> None:
    with sign_in(server, "ada@example.org") as browser, client(server) as thief:
        thief.cookies.update(browser.cookies)
        assert thief.get("/auth/me").json()["id"] == ada["id"]
        left = browser.get("/auth/logout", follow_redirects=False)
        assert (left.status_code, left.headers["location"]) == (302, "/")
        assert "Max-Age=0" in left.headers["set-cookie"]
        assert thief.get("/auth/me").json() is None
        assert thief.get("/api/jobs").status_code == 401
    assert log_of(server, ada["id"])[-1]["type"] == "user.signed_out"


def test_a_page_of_another_site_neither_signs_in_nor_out_nor_changes_anything(
    server: Server, ada: dict[str, object]
) -> None:
    foreign = {"Origin": "https://evil.example.org", "Sec-Fetch-Site": "cross-site"}
    pair = {"email": ada["email"], "password": PASSWORD}
    with sign_in(server, "ada@example.org") as browser:
        assert browser.post("/auth/login", json=pair, headers=foreign).status_code == 403
        job = browser.post("/api/jobs", json={"argv": ["true"]}, headers=foreign)
        assert job.status_code == 403
        assert "cors_origins" in job.json()["detail"]
        browser.get("/auth/logout", headers=foreign, follow_redirects=False)
        assert browser.get("/auth/me").json()["id"] == ada["id"]
        own = browser.post("/api/jobs", json={"argv": ["true"]})
        assert own.status_code == 201


def test_too_many_wrong_passwords_are_slowed_and_told_once(server: Server) -> None:
    eve = add_user(server, "eve@example.org")
    with client(server) as http:
        answers = [
            http.post("/auth/login", json={"email": eve["email"], "password": "wrong horse"})
            for _ in range(12)
        ]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:5] == [401] * 5
        assert 429 in statuses
        refused = answers[statuses.index(429)]
        assert int(refused.headers["retry-after"]) >= 1
        # During the wait even the right password is refused; other accounts need not wait.
        right = http.post("/auth/login", json={"email": eve["email"], "password": PASSWORD})
        assert right.status_code == 429
        other = http.post("/auth/login", json={"email": ADMIN, "password": PASSWORD})
        assert other.status_code == 200
    told = [e for e in log_of(server, eve["id"]) if e["type"] == "user.sign_in_refused"]
    assert len(told) == 1


# What lasts


def test_sessions_and_tokens_outlive_the_server(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--capacity=0") as server:
        ada = add_user(server, "ada@example.org")
        token = issue_token(server, ada["id"], "read")
        cookies = dict(sign_in(server, "ada@example.org").cookies)
        with sign_in(server, "ada@example.org") as gone:
            ended = dict(gone.cookies)
            gone.post("/auth/logout")
        server.kill()
        server.restart()
        with client(server) as browser, client(server) as old, client(server, token) as program:
            browser.cookies.update(cookies)
            old.cookies.update(ended)
            assert browser.get("/auth/me").json()["id"] == ada["id"]
            assert old.get("/auth/me").json() is None
            assert program.get("/api/jobs").status_code == 200
            again = browser.post("/auth/login", json={"email": ada["email"], "password": PASSWORD})
            assert again.status_code == 200
            views = server.data / "views.db"
        server.stop()
        views.unlink()
        server.restart()
        with client(server, token) as program:
            assert program.get("/api/jobs").status_code == 200, "the views were made again"


def test_a_cookie_in_use_is_made_anew_and_an_old_one_ends(server: Server) -> None:
    with sign_in(server, ADMIN) as browser:
        user_id, secret = browser.cookies[COOKIE].split(".")[:2]
        assert "set-cookie" not in browser.get("/auth/me").headers, "it is fresh"
    key = (server.data / "session.key").read_bytes().strip()

    def aged(seconds: float) -> httpx2.Response:
        cookies = Cookies(key, lambda: system_clock() - timedelta(seconds=seconds))
        with client(server) as http:
            http.cookies.set(COOKIE, cookies.seal(user_id, secret))
            return http.get("/api/jobs")

    renewed = aged(RENEW_AFTER_S + 60)
    assert renewed.status_code == 200
    assert renewed.headers["set-cookie"].startswith(f"{COOKIE}={user_id}.{secret}.")
    assert aged(LIFETIME_S - 60).status_code == 200
    assert aged(LIFETIME_S + 60).status_code == 401
    with client(server) as forger:
        forged = Cookies(b"another key", system_clock).seal(user_id, secret)
        forger.cookies.set(COOKIE, forged)
        assert forger.get("/api/jobs").status_code == 401


# Changing and stopping


def test_a_new_password_ends_the_other_sessions_and_the_old_hash(server: Server) -> None:
    bob = add_user(server, "bob@example.org")
    before = set((server.data / "credentials").iterdir())
    with sign_in(server, "bob@example.org") as here, sign_in(server, "bob@example.org") as there:
        wrong = here.post("/auth/password", json={"current": "x", "new": "another horse"})
        assert wrong.status_code == 403
        short = here.post("/auth/password", json={"current": PASSWORD, "new": "short"})
        assert short.status_code == 400
        done = here.post("/auth/password", json={"current": PASSWORD, "new": "another horse"})
        assert done.status_code == 200, done.text
        assert here.get("/auth/me").json()["id"] == bob["id"]
        assert there.get("/auth/me").json() is None
    assert len(set((server.data / "credentials").iterdir())) == len(before)
    assert set((server.data / "credentials").iterdir()) != before
    sign_in(server, "bob@example.org", "another horse").close()


def test_a_disabled_account_is_stopped_at_once(server: Server) -> None:
    user = add_user(server, "dan@example.org")
    token = issue_token(server, user["id"], "read", "write")
    with (
        sign_in(server, "dan@example.org") as browser,
        client(server, token) as program,
        Native(server) as operator,
    ):
        assert program.get("/api/jobs").status_code == 200
        operator.post(f"/crewlog/v1/users/{user['id']}/disable")
        assert browser.get("/api/jobs").status_code == 401
        assert program.get("/api/jobs").status_code == 403
        pair = {"email": "dan@example.org", "password": PASSWORD}
        assert browser.post("/auth/login", json=pair).status_code == 401
        operator.post(f"/crewlog/v1/users/{user['id']}/enable")
        assert browser.get("/api/jobs").status_code == 401, "old sessions stay ended"
        assert program.get("/api/jobs").status_code == 200


def test_an_administrator_is_one_only_as_long_as_the_role_lasts(server: Server) -> None:
    user = add_user(server, "kim@example.org", role="admin")
    token = issue_token(server, user["id"], "admin")
    plain = issue_token(server, user["id"], "read")
    with (
        client(server, token) as full,
        client(server, plain) as reader,
        Native(server) as operator,
    ):
        assert full.get("/crewlog/v1/users").status_code == 200
        assert reader.get("/crewlog/v1/users").status_code == 403, "its scopes do not allow it"
        operator.patch(f"/crewlog/v1/users/{user['id']}", json={"role": "user"})
        assert full.get("/crewlog/v1/users").status_code == 403


# Tokens


def test_a_token_is_shown_once_and_does_what_its_scopes_say(
    server: Server, ada: dict[str, object]
) -> None:
    with sign_in(server, "ada@example.org") as browser:
        asked = {"name": "ci", "scopes": ["read"], "expiresInDays": 1}
        issued = browser.post("/crewlog/v1/tokens", json=asked).json()
        listed = browser.get("/crewlog/v1/tokens").json()["items"]
        assert issued["token"].startswith("crewlog_u_")
        assert [one["id"] for one in listed].count(issued["id"]) == 1
        assert issued["token"] not in json.dumps(listed)
        with client(server, issued["token"]) as program:
            assert program.get("/auth/me").json()["id"] == ada["id"]
            assert program.get("/api/jobs").status_code == 200
            assert program.post("/api/jobs", json={"argv": ["true"]}).status_code == 403
            assert program.post("/crewlog/v1/tokens", json=asked).status_code == 403
            browser.delete(f"/crewlog/v1/tokens/{issued['id']}")
            assert program.get("/api/jobs").status_code == 403
    with Native(server) as operator:
        assert issued["token"] not in operator.get("/crewlog/v1/log/export").text


def test_a_token_makes_no_stronger_one(server: Server, ada: dict[str, object]) -> None:
    token = issue_token(server, str(ada["id"]), "read", "write")
    admins = {"name": "up", "scopes": ["admin"]}
    with client(server, token) as program, Native(server) as operator:
        assert program.post("/crewlog/v1/tokens", json=admins).status_code == 403
        assert (
            operator.post(f"/crewlog/v1/users/{ada['id']}/tokens", json=admins).status_code == 409
        )
        assert operator.post("/crewlog/v1/tokens", json=admins).status_code == 409, (
            "it has no account"
        )


def test_a_token_makes_none_that_outlives_it(server: Server, ada: dict[str, object]) -> None:
    token = issue_token(server, str(ada["id"]), "read", "write", expiresInDays=2)
    with client(server, token) as program:
        own = {row["id"]: row for row in program.get("/crewlog/v1/tokens").json()["items"]}
        end = max(row["expiresAt"] for row in own.values() if row["name"] == "test")
        for longer in (3, None):
            asked = {"name": "longer", "expiresInDays": longer}
            assert program.post("/crewlog/v1/tokens", json=asked).status_code == 403
        shorter = program.post("/crewlog/v1/tokens", json={"name": "shorter", "expiresInDays": 1})
        assert shorter.status_code == 201
        unsaid = program.post("/crewlog/v1/tokens", json={"name": "unsaid"}).json()
        assert unsaid["expiresAt"] <= end


def test_what_a_token_issued_ends_with_it(server: Server, ada: dict[str, object]) -> None:
    root = add_user(server, "root@example.org", "admin")
    first = issue_token(server, str(root["id"]), "read", "write", "admin")
    with client(server, first) as program, Native(server) as operator:
        [held] = operator.get(f"/crewlog/v1/users/{root['id']}/tokens").json()["items"]
        asked = {"name": "second", "scopes": ["read", "write", "admin"]}
        second = program.post("/crewlog/v1/tokens", json=asked).json()["token"]
        with client(server, second) as other:
            hers = other.post(f"/crewlog/v1/users/{ada['id']}/tokens", json={"name": "third"})
        third = hers.json()["token"]
        assert (
            operator.delete(f"/crewlog/v1/users/{root['id']}/tokens/{held['id']}").status_code
            == 200
        )
        for token in (first, second, third):
            with client(server, token) as gone:
                assert gone.get("/crewlog/v1/tokens").status_code == 403
        assert operator.get(f"/crewlog/v1/users/{root['id']}/tokens").json()["items"] == []
        left = operator.get(f"/crewlog/v1/users/{ada['id']}/tokens").json()["items"]
        assert "third" not in [token["name"] for token in left]


def test_a_token_expires(tmp_path: Path) -> None:
    """With a changed log in which it has expired, because the server uses the system's clock."""
    with Server.start(tmp_path / "data", "--capacity=0") as server:
        ada = add_user(server, "ada@example.org")
        token = issue_token(server, ada["id"], "read", expiresInDays=1)
        export = tmp_path / "export.ndjson"
        with Native(server) as operator:
            text = operator.get("/crewlog/v1/log/export").text
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        if line["type"] == "token.issued":
            line["data"]["expires_at"] = "2026-01-01T00:00:00.000000Z"
    export.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    crewlog("log", "import", str(export), data=tmp_path / "later")
    with Server.start(tmp_path / "later", "--capacity=0") as later, client(later, token) as program:
        assert program.get("/api/jobs").status_code == 403


# The command line


def crewlog(*words: str, data: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    run = kit_server.crewlog(*words, "--data", data, given=given)
    assert "Traceback" not in run.stderr, run.stderr
    return run


def test_the_command_line_manages_people(server: Server) -> None:
    data = server.data
    made = crewlog(
        "users", "add", "zoe@example.org", "--admin", "--password-stdin", data=data,
        given="zoe has a horse\n",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    sign_in(server, "zoe@example.org", "zoe has a horse").close()
    again = crewlog("users", "add", "ZOE@example.org", "--generate", data=data)
    assert (again.returncode, again.stderr.count("already")) == (1, 1)
    crewlog("users", "role", "zoe@example.org", "user", data=data)
    set_again = crewlog("users", "passwd", "zoe@example.org", "--generate", data=data)
    password = set_again.stdout.partition("Password: ")[2].strip()
    sign_in(server, "zoe@example.org", password).close()
    listed = json.loads(crewlog("users", "list", "--json", data=data).stdout)["users"]
    assert [user["role"] for user in listed if user["email"] == "zoe@example.org"] == ["user"]
    assert "zoe@example.org" in crewlog("users", "list", data=data).stdout
    token = crewlog(
        "users", "token", "zoe@example.org", "--name=ci", "--scope=read", "--scope=write", data=data
    ).stdout.strip()
    with client(server, token) as program:
        assert program.get("/auth/me").json()["email"] == "zoe@example.org"
        shown = crewlog("users", "show", "zoe@example.org", data=data).stdout
        assert "ci" in shown
        assert token not in shown
        crewlog("users", "token", "zoe@example.org", "--name=ci", "--revoke", data=data)
        assert program.get("/api/jobs").status_code == 403
    assert crewlog("users", "disable", "zoe@example.org", data=data).returncode == 0
    assert crewlog("users", "enable", "zoe@example.org", data=data).returncode == 0
    missing = crewlog("users", "show", "nobody@example.org", data=data)
    assert missing.returncode == 1
