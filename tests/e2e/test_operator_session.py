"""The operator on the page: the sign-in link, the server's token, and the session they begin."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import expect

from tests.e2e.people import add_user, client
from tests.e2e.visits import Visitors, call, session_of
from tests.kit.server import Server
from tests.kit.waiting import until

pytestmark = pytest.mark.timeout(900)  # the browser may have to be installed first

COOKIE = "crewlog_session"


def printed(server: Server) -> str:
    """The newest link that the server has printed."""

    def newest() -> str:
        found = re.findall(r"https?://\S+/#/sign-in/\S+", server.output.read_text())
        return str(found[-1]) if found else ""

    return until(newest, "the server prints a link")


def code_of(link: str) -> str:
    return link.rpartition("/")[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data") as running:
        yield running


def signed_in(server: Server) -> httpx2.Client:
    """A client with the headers and cookie of the operator's browser."""
    with client(server) as at_the_door:
        answer = at_the_door.post("/auth/token", json={"token": server.token})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.json()["isAdmin"]) == ("operator", True)
    browser = client(server)
    browser.headers["Origin"] = server.url
    browser.cookies.update(at_the_door.cookies)
    return browser


def test_the_link_signs_in_once_and_the_session_outlives_tabs_browsers_and_servers(
    server: Server, visitors: Visitors
) -> None:
    link = printed(server)
    visit = visitors.stranger(server, urlsplit(link).path + "#" + urlsplit(link).fragment)
    visit.expected = "Failed to load resource"
    expect(visit.heading("Board")).to_be_visible()
    expect(visit.connection).to_contain_text("Live")
    assert code_of(link) not in visit.page.url
    assert visit.page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]
    (cookie,) = visit.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert cookie["expires"] > 0  # it outlives the browser

    tab = visit.page.context.new_page()
    tab.goto(server.url)
    expect(tab.get_by_role("button", name="Sign out")).to_be_visible()
    tab.close()
    server.restart(urlsplit(server.url).port or 0)
    visit.page.reload()
    expect(visit.heading("Board")).to_be_visible()

    again = visitors.stranger(server, "/#/sign-in/" + code_of(link))
    again.expected = "status of 403"
    expect(again.page.get_by_role("alert").filter(has_text="used already")).to_be_visible()
    expect(again.page.get_by_label("Token")).to_be_focused()

    visit.button("Sign out").click()
    expect(visit.heading("Sign in")).to_be_visible()
    visit.page.reload()
    expect(visit.heading("Sign in")).to_be_visible()


def test_a_link_that_is_opened_in_a_tab_that_stands_open_signs_in_too(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.stranger(server)
    expect(visit.page.get_by_text("Nobody has an account here yet.")).to_be_visible()
    expect(visit.button("Use e-mail and password instead")).to_have_count(0)
    visit.expected = "status of 403"
    visit.page.evaluate("location.hash = '#/sign-in/not-it'")
    expect(visit.page.get_by_role("alert").filter(has_text="used already")).to_be_visible()
    visit.page.evaluate(f"location.hash = '#/sign-in/{code_of(printed(server))}'")
    expect(visit.heading("Board")).to_be_visible()


def test_the_page_asks_for_a_password_once_somebody_has_an_account(
    server: Server, visitors: Visitors
) -> None:
    add_user(server, "ada@example.org", "admin")
    visit = visitors.stranger(server)
    expect(visit.page.get_by_label("E-mail")).to_be_focused()
    visit.button("Use a token instead").click()
    expect(visit.page.get_by_label("Token")).to_be_focused()
    server.restart(urlsplit(server.url).port or 0)
    with client(server) as nobody:
        assert nobody.get("/auth/providers").json()["password"] is True
    assert len(re.findall("/#/sign-in/", server.output.read_text())) == 1


def test_a_link_is_good_once_and_the_next_start_makes_another_one(server: Server) -> None:
    first = code_of(printed(server))
    with client(server) as browser:
        assert browser.post("/auth/link", json={"code": first + "x"}).status_code == 403
        entered = browser.post("/auth/link", json={"code": first})
        assert entered.status_code == 200
        assert browser.get("/auth/me").json()["id"] == "operator"
        assert browser.post("/auth/link", json={"code": first}).status_code == 403
    server.restart()
    until(lambda: code_of(printed(server)) != first, "another link is printed")
    second = code_of(printed(server))
    server.restart()
    until(lambda: code_of(printed(server)) != second, "a third link is printed")
    with client(server) as browser:
        assert browser.post("/auth/link", json={"code": second}).status_code == 403
        assert browser.post("/auth/link", json={"code": code_of(printed(server))}).is_success


def test_neither_the_log_nor_a_record_has_what_the_link_or_the_cookie_holds(
    server: Server,
) -> None:
    code = code_of(printed(server))
    with client(server) as browser:
        browser.post("/auth/link", json={"code": code}).raise_for_status()
        secret = browser.cookies[COOKIE].split(".")[1]
    signed_in(server).close()
    server.stop()
    told = server.output.read_text()
    assert told.count(code) == 1
    assert server.token not in told
    for file in server.data.rglob("*"):
        if file.is_file() and file.name != "token":
            body = file.read_bytes()
            for kept in (code, secret, server.token):
                assert kept.encode() not in body, file.name


def test_a_change_by_the_operators_cookie_comes_from_a_page_of_this_server(server: Server) -> None:
    job = {"argv": ["true"]}
    with signed_in(server) as browser:
        assert browser.post("/api/jobs", json=job).status_code == 201
        foreign = {"Origin": "https://elsewhere.example"}
        assert browser.post("/api/jobs", json=job, headers=foreign).status_code == 403
        del browser.headers["Origin"]
        assert browser.post("/api/jobs", json=job).status_code == 403
        assert browser.get("/crewlog/v1/users").status_code == 200
    code = code_of(printed(server))
    with client(server) as nobody:
        for path, body in (("token", {"token": server.token}), ("link", {"code": code})):
            assert nobody.post(f"/auth/{path}", json=body, headers=foreign).status_code == 403
        assert nobody.post("/auth/link", json={"code": code}).status_code == 200


def test_the_session_ends_by_signing_out_and_with_the_token(server: Server) -> None:
    with signed_in(server) as one, signed_in(server) as other:
        kept = one.cookies[COOKIE]
        assert one.post("/auth/logout").status_code == 302
        stale = {"Cookie": f"{COOKIE}={kept}"}
        with client(server) as nobody:
            assert nobody.get("/api/jobs", headers=stale).status_code == 401
        assert other.get("/api/jobs").status_code == 200
        kept = other.cookies[COOKIE]
    server.stop()
    (server.data / "token").write_text("another-token-altogether\n")
    server.restart()
    with client(server) as nobody:
        stale = {"Cookie": f"{COOKIE}={kept}"}
        assert nobody.get("/api/jobs", headers=stale).status_code == 401
    with signed_in(server) as again:
        assert again.get("/api/jobs").status_code == 200


def test_more_than_fifty_sessions_end_the_oldest(server: Server) -> None:
    first = signed_in(server)
    for _ in range(50):
        signed_in(server).close()
    with first:
        assert first.get("/api/jobs").status_code == 401


def test_wrong_tokens_slow_down_who_gives_them_and_bar_no_link(server: Server) -> None:
    with client(server) as guesser:
        for _ in range(5):
            assert guesser.post("/auth/token", json={"token": "a guess"}).status_code == 403
        refused = guesser.post("/auth/token", json={"token": server.token})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        code = code_of(printed(server))
        assert guesser.post("/auth/link", json={"code": code}).status_code == 200
        for _ in range(30):
            answer = guesser.post("/auth/link", json={"code": "a guess"})
        assert answer.status_code == 429


def test_who_signed_in_is_in_the_log_and_the_actor_is_the_operator(server: Server) -> None:
    with signed_in(server) as browser:
        browser.post("/api/jobs", json={"argv": ["true"]}).raise_for_status()
        events = browser.get("/crewlog/v1/log", params={"type": "operator.signed_in"}).json()[
            "items"
        ]
        assert [event["data"]["how"] for event in events] == ["token"]
        jobs = browser.get("/api/jobs").json()["items"]
        assert [job["owner"] for job in jobs] == ["operator"]
    call(server, "POST", f"/api/jobs/{jobs[0]['id']}/archive")


def test_off_loopback_the_link_is_printed_where_people_reach_the_server(tmp_path: Path) -> None:
    away = Server(
        tmp_path / "data",
        "--host",
        "0.0.0.0",
        CREWLOG_TOKEN="a-token-of-this-test",
        CREWLOG_PUBLIC_URL="https://crew.example.org/",
    )
    with away as server:
        link = printed(server)
        assert link.startswith("https://crew.example.org/#/sign-in/")
        with client(server) as browser:
            answer = browser.post("/auth/link", json={"code": code_of(link)})
            assert answer.status_code == 200
            assert "; Secure" in answer.headers["set-cookie"]


def test_states_of_gitoma_are_pushed_to_the_operators_session_alone(
    tmp_path: Path, visitors: Visitors
) -> None:
    states = tmp_path / "states"
    states.mkdir()
    state = '{"owner": "crew", "name": "log", "phase": "DONE", "exit_clean": true}'
    (states / "crew__log.json").write_text(state)
    with Server(tmp_path / "data", CREWLOG_GITOMA_STATE_DIR=str(states)) as server:
        visit = visitors.open(server, "/#/system")
        visit.expected = "Failed to load resource"
        expect(visit.page.get_by_role("row").filter(has_text="crew/log")).to_be_visible()
        (cookie,) = session_of(server)
        upgrade = {
            "Cookie": f"{COOKIE}={cookie['value']}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        with client(server) as http:
            for origin in ("http://localhost:9", "https://elsewhere.example"):
                refused = http.get("/ws/state", headers={**upgrade, "Origin": origin})
                assert refused.status_code == 403, origin
