"""The page's figures cover all jobs, not only loaded ones, and it works by phone and keyboard: a
real server, a real browser.
"""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.people import PASSWORD, add_user, sign_in
from tests.e2e.visits import PHONE, Visit, Visitors, call, commit, end_all_jobs, gated, submit
from tests.kit.server import Server
from tests.kit.waiting import until

pytestmark = pytest.mark.timeout(900)  # the browser may have to be installed first

_MORE_THAN_A_COLUMN = 55
_QUESTIONS = 51
"""Questions of one crew; two crews have more than a page."""

TEMPLATES = {
    "asking": """
name: Asking
inputs: {version: {type: string}}
jobs:
  - id: publish
    title: "Publish {{ version }}"
    argv: ["true"]
    approval: required
""",
    "named": """
name: Named
jobs:
  - id: release
    title: Release it
    argv: ["true"]
    approval: required
    approvers: [ben@example.org]
""",
    "failing": """
name: Failing
jobs:
  - id: fails
    title: Never succeeds
    argv: [sh, -c, 'exit 3']
    maxRetries: 0
  - id: after
    title: Comes after
    parents: [fails]
    argv: ["true"]
""",
    "again": """
name: Once more
inputs: {gate: {type: string}}
jobs:
  - id: first
    title: Fails at first
    argv:
      - sh
      - -c
      - 'test "$CREWLOG_ATTEMPT" != 1 || exit 7; while [ ! -e "{{ gate }}" ]; do sleep 0.02; done'
    maxRetries: 1
""",
    "many": """
name: Many questions
jobs:
"""
    + "".join(
        f'  - {{id: q{n}, title: Question {n}, argv: ["true"], approval: required}}\n'
        for n in range(_QUESTIONS)
    ),
}


def serving(data: Path) -> Server:
    folder = data / "templates"
    folder.mkdir(parents=True)
    for name, text in TEMPLATES.items():
        (folder / f"{name}.job_workflow.yaml").write_text(text)
    return Server(data)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("finding") / "data") as running:
        add_user(running, "ben@example.org", name="Ben")
        yield running
        end_all_jobs(running)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server for one test. Request it before `visitors`, so that these end first."""
    with serving(tmp_path / "data") as running:
        add_user(running, "ben@example.org", name="Ben")
        yield running
        end_all_jobs(running)


@pytest.fixture(scope="module")
def crowded(server: Server) -> str:
    """The id of a job with two labels that is too old for the board."""
    job = submit(server, "true", title="The needle", labels=["weekly", "haystack"])
    for n in range(_MORE_THAN_A_COLUMN):
        submit(server, "true", title=f"Straw {n}")
    waits = "/api/jobs?state=queued,running&text=straw"
    until(lambda: not call(server, "GET", waits).json()["items"], "all that is short is done")
    return job


def test_the_filter_of_the_board_finds_what_is_not_loaded_by_any_label(
    server: Server, visitors: Visitors, crowded: str
) -> None:
    visit = visitors.open(server)
    expect(visit.cards("done")).to_have_count(50)
    expect(visit.card("done", "The needle")).to_have_count(0)
    visit.page.get_by_label("Filter by text").fill("haystack")
    expect(visit.cards("done")).to_have_count(1)
    expect(visit.card("done", "The needle")).to_contain_text("weekly, haystack")
    expect(visit.page.locator(".column[data-status=done] h2 .count")).to_have_text("1")

    expect(visit.page).to_have_url(re.compile("text=haystack"))
    visit.page.reload()
    expect(visit.page.get_by_label("Filter by text")).to_have_value("haystack")
    expect(visit.cards("done")).to_have_count(1)
    submit(server, "true", title="Another needle", labels=["haystack"])
    expect(visit.card("done", "Another needle")).to_be_visible()
    submit(server, "true", title="No needle")
    submit(server, "true", title="The last needle", labels=["haystack"])
    expect(visit.card("done", "The last needle")).to_be_visible()
    expect(visit.card("done", "No needle")).to_have_count(0)

    visit.card("done", "The needle").get_by_role("link").click()
    expect(visit.page.locator("#job-title")).to_have_text("The needle")
    visit.page.go_back()
    expect(visit.page.get_by_label("Filter by text")).to_have_value("haystack")
    expect(visit.card("done", "The needle")).to_be_visible()
    visit.link("Board").click()
    expect(visit.cards("done")).to_have_count(50)


def test_the_rest_of_a_column_is_a_list_of_the_same_jobs(
    server: Server, visitors: Visitors, crowded: str
) -> None:
    visit = visitors.open(server, "/#/?text=straw")
    visit.page.locator(".column[data-status=done] .more-link").click()
    expect(visit.page).to_have_url(re.compile(r"#/jobs\?status=done&text=straw"))
    expect(visit.page.get_by_label("Search all jobs")).to_have_value("straw")
    expect(visit.page.locator(".jobs li")).to_have_count(50)
    expect(visit.page.locator(".jobs li").filter(has_not_text="Straw")).to_have_count(0)


def test_all_jobs_are_searched_and_the_text_stays_in_the_address(
    server: Server, visitors: Visitors, crowded: str
) -> None:
    visit = visitors.open(server, "/#/jobs")
    search = visit.page.get_by_label("Search all jobs")
    search.fill("HAYSTACK")
    expect(visit.job("The needle")).to_be_visible()
    expect(visit.job("Straw")).to_have_count(0)
    visit.page.reload()
    expect(search).to_have_value("HAYSTACK")
    expect(visit.job("The needle")).to_be_visible()
    visit.link("Failed").click()
    expect(visit.page.get_by_text("No job that matches.")).to_be_visible()
    visit.link("Completed").click()
    visit.job("The needle").get_by_role("link").click()
    visit.page.locator("#facts").get_by_role("link", name="weekly").click()
    expect(search).to_have_value("weekly")
    expect(visit.jobs).to_have_count(1)


def test_states_have_the_words_of_the_filters_and_what_was_cancelled_is_not_shown_as_blocked(
    server: Server, visitors: Visitors
) -> None:
    commit(server, "failing")
    asked = commit(server, "asking", version="1.0")
    job = submit(server, "sleep", "300", title="Called off")
    call(server, "POST", f"/api/jobs/{job}/cancel")
    submit(server, "true", title="Done")
    visit = visitors.open(server)
    gave_up = visit.card("blocked", "Never succeeds").first
    expect(gave_up.locator(".state")).to_have_text("failed")
    expect(gave_up).to_contain_text("Gave up: Exit code 3.")
    cancelled = visit.card("blocked", "Called off")
    expect(cancelled.locator(".state")).to_have_text("cancelled")
    edges = [
        card.evaluate("(card) => getComputedStyle(card).borderLeftColor")
        for card in (gave_up, cancelled, visit.cards("done").first)
    ]
    assert edges[0] != edges[1] == edges[2]

    visit.goto("/#/jobs")
    visit.link("Failed").click()
    expect(visit.job("Never succeeds").first).to_contain_text("failed")
    visit.link("Waiting for approval").click()
    expect(visit.job("Publish 1.0")).to_contain_text("waiting for approval")
    expect(visit.job("Never succeeds")).to_have_count(0)
    visit.link("Held").click()
    expect(visit.job("Comes after").first).to_contain_text("stranded")
    visit.link("Cancelled").click()
    expect(visit.job("Called off")).to_be_visible()
    visit.goto(f"/#/crews/{asked}")
    node = visit.page.locator(".node")
    expect(node).to_have_attribute("data-state", "waiting_for_approval")


def test_what_gave_up_or_was_stranded_and_is_cancelled_then_is_only_cancelled(
    fresh: Server, visitors: Visitors
) -> None:
    crew = commit(fresh, "failing")
    jobs = call(fresh, "GET", f"/crewlog/v1/crews/{crew}").json()["jobIds"]
    waits = "/api/jobs?state=failed"
    until(lambda: call(fresh, "GET", waits).json()["items"], "the first has given up")
    for job in jobs:
        call(fresh, "POST", f"/api/jobs/{job}/cancel")
        shown = call(fresh, "GET", f"/api/jobs/{job}").json()
        assert (shown["outcome"], shown["gaveUp"], shown["blockReason"]) == (
            "cancelled",
            False,
            None,
        )
    visit = visitors.open(fresh)
    expect(visit.cards("blocked").locator(".state")).to_have_text(["cancelled", "cancelled"])
    expect(visit.cards("blocked").locator(".card-reason")).to_have_count(0)


def test_what_the_server_says_in_a_log_is_no_line_of_the_job(
    server: Server, visitors: Visitors
) -> None:
    crew = commit(server, "failing")
    job = call(server, "GET", f"/crewlog/v1/crews/{crew}").json()["jobIds"][0]
    visit = visitors.open(server, f"/#/jobs/{job}")
    log = visit.page.get_by_role("region", name="Output of the job")
    expect(log.locator(".note").last).to_have_text("Gave up: Exit code 3.")
    expect(visit.output).to_have_count(0)
    expect(visit.page.get_by_text("Nothing was written yet.")).to_be_visible()


def test_a_job_that_waits_for_another_attempt_shows_nothing_of_the_last_one(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    crew = commit(server, "again", gate=str(gate))
    (job,) = call(server, "GET", f"/crewlog/v1/crews/{crew}").json()["jobIds"]
    until(
        lambda: (now := call(server, "GET", f"/api/jobs/{job}").json())["attempt"] == 2 and now,
        "the second attempt runs",
    )
    visit = visitors.open(server, f"/#/jobs/{job}")
    facts = visit.page.locator("#facts")
    expect(facts).to_contain_text("Exit code–")
    gate.touch()
    expect(visit.state("completed")).to_be_visible()
    expect(facts).to_contain_text("Exit code0")


def test_the_log_of_a_job_is_whole_however_fast_it_was_done_again(
    server: Server, visitors: Visitors
) -> None:
    job = submit(server, "sh", "-c", "echo attempt $CREWLOG_ATTEMPT", title="Done twice")
    until(lambda: call(server, "GET", f"/api/jobs/{job}").json()["outcome"], "it is done")
    visit = visitors.open(server, "/#/jobs")
    with visit.page.expect_response(
        lambda response: response.status == 204
    ):  # its stream has ended
        visit.goto(f"/#/jobs/{job}")
    expect(visit.page.get_by_text("Ended: completed")).to_be_visible()
    held: list[Route] = []
    holding = True

    def hold(route: Route) -> None:
        if holding:
            held.append(route)
        else:
            route.continue_()

    visit.page.route(f"**/crewlog/v1/jobs/{job}", hold)
    assert call(server, "POST", f"/api/jobs/{job}/redo", {}).status_code == 200

    def again() -> bool:
        now = call(server, "GET", f"/api/jobs/{job}").json()
        return bool(now["attempt"] == 2 and now["outcome"])

    until(again, "it is done again")
    expect(visit.heading("Done twice")).to_be_visible()
    holding = False
    for route in held:
        route.continue_()
    lines = visit.output.filter(has_text="attempt")
    expect(lines).to_have_text(["attempt 1", "attempt 2"])


def waiting(visit: Visit) -> int:
    """The number of jobs that wait for approval, on the page System."""
    shown = visit.page.get_by_role("region", name="Dispatcher")
    row = shown.locator("dt", has_text="Waiting for approval").locator("+ dd")
    return int(row.inner_text().replace(",", ""))


def test_what_waits_is_counted_as_in_the_inbox_however_much_it_is(
    fresh: Server, visitors: Visitors
) -> None:
    commit(fresh, "many")
    commit(fresh, "many")
    commit(fresh, "named")
    visit = visitors.open(fresh, "/#/system")
    total = 2 * _QUESTIONS + 1
    until(lambda: waiting(visit) == total, "System counts all of them")
    expect(visit.page.locator("nav .count")).to_have_text(str(total))
    visit.goto("/#/approvals")
    questions = visit.page.get_by_role("article")
    expect(questions).to_have_count(100)
    visit.button("Load more").click()
    expect(questions).to_have_count(total)

    ben = visitors.stranger(fresh, "/#/system")
    ben.sign_in_as("ben@example.org", PASSWORD)
    expect(ben.heading("System")).to_be_visible()
    until(lambda: waiting(ben) == 1, "he is named once")
    with sign_in(fresh, "ben@example.org") as him:
        for path in ("/crewlog/v1/board", "/crewlog/v1/analytics/overview"):
            assert him.get(path).json()["approvals"]["pending"] == 1, path


def shown_column(visit: Visit) -> str:
    tab = visit.page.get_by_role("group", name="Columns").locator("[aria-pressed=true]")
    expect(tab).to_be_visible()
    return re.sub(r"\W*\d+$", "", tab.inner_text())


def test_on_a_phone_the_board_opens_where_somebody_is_needed(
    fresh: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    submit(fresh, "sh", "-c", gated(gate, "a", "b"), title="It runs")
    visit = visitors.open(fresh, size=PHONE)
    expect(visit.card("running", "It runs")).to_be_visible()
    assert shown_column(visit) == "Running"
    commit(fresh, "failing")
    expect(visit.card("blocked", "Never succeeds")).to_be_attached()
    assert shown_column(visit) == "Running"  # the column must not change while a person uses it
    visit.page.reload()
    expect(visit.card("blocked", "Never succeeds")).to_be_visible()
    commit(fresh, "asking", version="2.0")
    expect(visit.card("todo", "Publish 2.0")).to_be_attached()
    visit.page.reload()
    expect(visit.card("todo", "Publish 2.0")).to_be_visible()
    assert visit.overflow() == 0
    gate.touch()


def test_the_system_room_does_not_scroll_sideways_on_a_phone(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.open(server, "/#/system", size=PHONE)
    expect(visit.button("Rebuild timeline")).to_be_visible()
    assert visit.overflow() == 0
    box = visit.button("Rebuild timeline").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= PHONE["width"]


def test_a_long_rule_of_a_schedule_is_whole_on_a_phone(server: Server, visitors: Visitors) -> None:
    days = "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=1,2,3,4,5,6,7"
    rule = {"rrule": days}
    made = call(
        server, "POST", "/api/schedules", {"templateId": "failing", "name": "Long", "rule": rule}
    )
    assert made.status_code == 201, made.text
    visit = visitors.open(server, "/#/schedules", size=PHONE)
    box = visit.page.get_by_text(days).bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= PHONE["width"] - box["x"]


def test_by_keyboard_the_first_card_and_the_box_for_a_command_are_near(
    server: Server, visitors: Visitors
) -> None:
    submit(server, "sleep", "300", title="On top")
    visit = visitors.open(server)
    first = visit.page.locator(".card-title").first
    expect(first).to_be_visible()
    keys = visit.page.keyboard
    keys.press("Tab")
    keys.press("Tab")
    expect(visit.link("Skip to the first job")).to_be_focused()
    expect(visit.link("Skip to the first job")).to_be_in_viewport()
    keys.press("Enter")
    expect(first).to_be_focused()

    visit.link("All jobs").click()
    expect(visit.heading("All jobs")).to_be_focused()
    keys.press("Tab")
    box = visit.page.get_by_label("Run a command")
    expect(box).to_be_focused()
    keys.type("true")
    keys.press("Enter")
    expect(visit.page.locator("#job-title")).to_have_text("true")


class _Studio(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"data": [{"id": "qwen3-8b"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def test_lm_studio_is_shown_where_the_settings_name_one(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    without = visitors.open(server, "/#/system")
    known = without.page.get_by_role("region", name="gitoma")
    expect(known).to_contain_text("GitHub token")
    expect(known).not_to_contain_text("LM Studio")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Studio) as studio:
        threading.Thread(target=studio.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{studio.server_port}/v1"
        with Server(tmp_path / "data", LM_STUDIO_BASE_URL=url) as with_one:
            visit = visitors.open(with_one, "/#/system")
            visit.expected = "Failed to load resource"
            expect(visit.page.get_by_role("region", name="gitoma")).to_contain_text("LM Studio")
            visit.page.close()  # its socket may not be open yet when the server stops
        studio.shutdown()


def test_the_card_of_gitoma_needs_no_dialect(visitors: Visitors, tmp_path: Path) -> None:
    """If the dialect is off, the page must not request it: each request would be an error."""
    with Server(tmp_path / "data", "--dialects=board", GITHUB_TOKEN="g" * 40) as alone:
        visit = visitors.open(alone, "/#/system")
        expect(visit.page.get_by_role("region", name="gitoma")).to_contain_text("GitHub token")
        expect(visit.page.get_by_role("region", name="Dispatcher")).to_contain_text("running")
        asked = visit.page.evaluate(
            "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
        )
        assert "/crewlog/v1/system" in asked
        assert not [path for path in asked if path.startswith(("/api/", "/ws/"))]


def test_the_page_speaks_the_native_api_alone(server: Server, visitors: Visitors) -> None:
    """Beside it there is only the sign-in: no path of a dialect, and no socket."""
    visit = visitors.open(server)
    asked: set[str] = set()
    sockets: list[str] = []
    visit.page.on("request", lambda one: asked.add(urlsplit(one.url).path))
    visit.page.on("websocket", lambda socket: sockets.append(socket.url))
    for room in ("approvals", "schedules", "templates", "people", "profile", "jobs", "system"):
        visit.page.goto(f"{server.url}/#/{room}")
        expect(visit.page.get_by_role("main")).not_to_contain_text("Loading")
    with visit.page.expect_request("**/crewlog/v1/system/repositories/stream"):
        visit.page.reload()
    own = ("/crewlog/v1/", "/auth/", "/readyz", "/page/")
    assert {path for path in asked - {"/", "/dashboard.js"} if not path.startswith(own)} == set()
    assert sockets == []
