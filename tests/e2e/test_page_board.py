"""The board, crews, approvals, schedules and people, as a person uses them: a real server, a real
browser.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.e2e.people import PASSWORD, add_user, client, sign_in
from tests.e2e.visits import PHONE, Visit, Visitors, call, commit, end_all_jobs, submit
from tests.kit.server import Server
from tests.kit.waiting import until

pytestmark = pytest.mark.timeout(900)  # the browser may have to be installed first

TEMPLATES = {
    "gated": """
name: Gated
description: Two steps that wait for a file each, and one after both.
inputs:
  gate: {type: string, description: The file that is waited for.}
jobs:
  - id: first
    title: First step
    body: Waits for the gate.
    argv: [sh, -c, 'echo began; while [ ! -e "{{ gate }}" ]; do sleep 0.02; done; echo over']
  - id: beside
    title: Beside it
    argv: [sh, -c, 'echo "# All *good*" > "$CREWLOG_ARTIFACTS/report.md"']
  - id: last
    title: Last step
    parents: [first, beside]
    argv: ["true"]
""",
    "asking": """
name: Asking
inputs:
  version: {type: string, description: What to publish.}
  channel: {enum: [stable, beta], default: beta}
jobs:
  - id: publish
    title: "Publish {{ version }}"
    argv: [sh, -c, 'echo published {{ version }}']
    approval: required
    onReject: fail
""",
    "counting": """
name: Counting
jobs:
  - id: count
    title: Count
    argv:
      - sh
      - -c
      - 'echo attempt $CREWLOG_ATTEMPT; echo "{\\"n\\": $CREWLOG_ATTEMPT}" > "$CREWLOG_RESULT"'
  - id: after
    title: After the count
    parents: [count]
    argv: ["true"]
  - id: fails
    title: Fails
    argv: [sh, -c, 'exit 3']
    maxRetries: 0
  - id: never
    title: Never
    parents: [fails]
    argv: ["true"]
""",
}

GITOMA_STATE = {
    "repo_url": "https://github.com/crew/log",
    "owner": "crew",
    "name": "log",
    "branch": "gitoma/tidy",
    "phase": "DONE",
    "exit_clean": True,
    "current_operation": "All is said.",
}


def prepared(data: Path) -> Path:
    """A data directory with the templates."""
    folder = data / "templates"
    folder.mkdir(parents=True)
    for name, text in TEMPLATES.items():
        (folder / f"{name}.job_workflow.yaml").write_text(text)
    return data


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = prepared(tmp_path_factory.mktemp("board") / "data")
    states = data.with_name("states")
    states.mkdir()
    (states / "crew__log.json").write_text(json.dumps(GITOMA_STATE))
    with Server(data, CREWLOG_GITOMA_STATE_DIR=str(states)) as running:
        add_user(running, "ada@example.org", "admin", name="Ada")
        add_user(running, "ben@example.org", name="Ben")
        yield running
        end_all_jobs(running)


def open_crew(visitors: Visitors, server: Server, crew: str, *, deaf: bool = False) -> Visit:
    visit = visitors.open(server, f"/#/crews/{crew}", deaf=deaf)
    expect(visit.page.locator(".node").first).to_be_visible()
    return visit


def node(visit: Visit, key: str, state: str) -> None:
    """The node of a job shows this state."""
    expect(visit.page.locator(f'.node[data-key="{key}"]')).to_have_attribute("data-state", state)


# Signing in


def test_a_person_signs_in_with_a_password_and_sees_only_what_is_theirs(
    server: Server, visitors: Visitors
) -> None:
    submit(server, "true", title="Of the operator")
    with sign_in(server, "ben@example.org") as ben:
        ben.post("/api/jobs", json={"argv": ["true"], "title": "Of Ben"}).raise_for_status()
    visit = visitors.stranger(server)
    visit.expected = "status of 401"
    visit.sign_in_as("ben@example.org", "not the password")
    expect(visit.page.locator("#sign-in-error")).to_contain_text("do not belong together")
    visit.sign_in_as("ben@example.org", PASSWORD)

    expect(visit.card("done", "Of Ben")).to_be_visible()
    expect(visit.page.get_by_text("Of the operator")).to_have_count(0)
    expect(visit.link("People")).to_have_count(0)
    visit.page.reload()
    expect(visit.card("done", "Of Ben")).to_be_visible()
    visit.button("Sign out").click()
    expect(visit.heading("Sign in")).to_be_visible()
    visit.page.reload()
    expect(visit.heading("Sign in")).to_be_visible()


def test_the_sign_in_page_leads_to_the_profile_where_the_password_is_changed(
    server: Server, visitors: Visitors
) -> None:
    add_user(server, "cleo@example.org", name="Cleo")
    visit = visitors.stranger(server, "/profile/")
    expect(visit.page).to_have_url(f"{server.url}/login/")
    visit.sign_in_as("cleo@example.org", PASSWORD)
    expect(visit.page).to_have_url(f"{server.url}/profile/")
    expect(visit.heading("Cleo")).to_be_visible()

    page = visit.page
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("a quite different phrase")
    page.get_by_label("New password again").fill("another phrase altogether")
    visit.button("Change password").click()
    expect(page.get_by_role("alert")).to_contain_text(["not the same"])
    page.get_by_label("New password again").fill("a quite different phrase")
    visit.button("Change password").click()
    expect(page.get_by_text("Your password was changed.")).to_be_visible()

    page.get_by_label("What is it for?").fill("nightly script")
    visit.button("Issue a token").click()
    token = page.get_by_label("The new token").input_value()
    with client(server, token) as program:
        assert program.get("/auth/me").json()["email"] == "cleo@example.org"
        assert program.post("/api/jobs", json={"argv": ["true"]}).status_code == 403
        visit.button("Revoke nightly script").click()
        expect(page.get_by_text("The token was revoked.")).to_be_visible()
        expect(page.get_by_label("The new token")).to_have_count(0)
        assert program.get("/api/jobs").status_code == 403


def test_pages_of_the_server_lead_whoever_may_not_see_them_elsewhere(server: Server) -> None:
    with client(server) as nobody, sign_in(server, "ben@example.org") as ben:
        for path in ("/job_board", "/profile/"):
            answer = nobody.get(path)
            assert (answer.status_code, answer.headers["location"]) == (302, "/login/")
        answer = ben.get("/job_board")
        assert (answer.status_code, answer.headers["location"]) == (302, "/profile/")
        assert ben.get("/profile/").status_code == 200
    with sign_in(server, "ada@example.org") as ada:
        assert ada.get("/job_board").status_code == 200


# The board and crews


def test_the_board_moves_by_itself_when_a_crew_is_committed_elsewhere(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    visit = visitors.open(server, deaf=True)
    expect(visit.heading("Board")).to_be_visible()
    crew = commit(server, "gated", gate=str(gate))

    expect(visit.card("running", "First step")).to_contain_text("Gated")
    expect(visit.card("done", "Beside it")).to_be_visible()
    expect(visit.card("todo", "Last step")).to_be_visible()
    expect(visit.page.locator(".column[data-status=running] h2 .count")).to_have_text("1")
    visit.page.get_by_label("Filter by text").fill("last")
    expect(visit.cards("todo")).to_have_count(1)
    expect(visit.cards("running")).to_have_count(0)
    visit.page.get_by_label("Filter by text").fill("")
    visit.page.get_by_label("Crew", exact=True).select_option(crew)
    expect(visit.cards("running")).to_have_count(1)

    gate.touch()
    expect(visit.card("done", "First step")).to_be_visible()
    expect(visit.card("done", "Last step")).to_be_visible()
    expect(visit.cards("running")).to_have_count(0)
    call(
        server,
        "POST",
        f"/api/jobs/{visit.card('done', 'Last step').get_attribute('data-job')}/archive",
    )
    expect(visit.card("done", "Last step")).to_have_count(0)
    visit.page.get_by_role("checkbox", name="Archived").check()
    expect(visit.card("archived", "Last step")).to_be_visible()


def test_a_crew_is_drawn_and_its_nodes_lead_to_the_jobs(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    visit = open_crew(visitors, server, commit(server, "gated", gate=str(gate)), deaf=True)
    expect(visit.page.locator(".node")).to_have_count(3)
    expect(visit.page.locator(".edge")).to_have_count(2)
    node(visit, "first", "running")
    node(visit, "last", "held")
    expect(visit.page.locator(".facts").filter(has_text="gate")).to_contain_text(str(gate))
    gate.touch()
    for key in ("first", "beside", "last"):
        node(visit, key, "completed")
    expect(visit.page.get_by_text("3 of 3 jobs done")).to_be_visible()

    visit.page.locator('.node[data-key="beside"]').focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#job-title")).to_have_text("Beside it")
    expect(visit.page.locator(".files")).to_contain_text("report.md")
    visit.button("Show").click()
    expect(visit.page.get_by_label("report.md", exact=True)).to_have_text("# All *good*\n")


def test_a_crew_is_started_from_its_template(server: Server, visitors: Visitors) -> None:
    visit = visitors.open(server, "/#/templates")
    visit.expected = "status of 400"
    visit.link("Asking").click()
    expect(visit.page.get_by_text("Publish {{ version }}").first).to_be_visible()
    visit.page.get_by_label("channel").select_option("stable")
    visit.button("Look first").click()
    expect(visit.page.get_by_role("alert").filter(has_text="version")).to_be_visible()
    visit.page.get_by_role("textbox", name="version").fill("3.1.4")
    visit.button("Look first").click()
    expect(visit.heading("What would be started")).to_be_visible()
    expect(visit.page.get_by_text("Publish 3.1.4").first).to_be_visible()
    visit.button("Start").click()
    expect(visit.page).to_have_url(re.compile("#/crews/"))
    expect(visit.page.locator(".facts").filter(has_text="channel")).to_contain_text("stable")
    node(visit, "publish", "waiting_for_approval")


# Approvals, redo, unblock


def test_an_answer_in_the_inbox_lets_the_job_go_on(server: Server, visitors: Visitors) -> None:
    visit = visitors.open(server, "/#/approvals", deaf=True)
    waiting = visit.page.get_by_role("article")
    before = len(call(server, "GET", "/api/approvals?state=pending").json()["items"])
    for version in ("5.0", "6.0"):
        commit(server, "asking", version=version)
    expect(visit.page.locator("nav .count")).to_have_text(str(before + 2))
    yes, no = waiting.filter(has_text="Publish 5.0"), waiting.filter(has_text="Publish 6.0")
    expect(yes.get_by_role("link")).to_have_text("Publish 5.0")
    job = (yes.get_by_role("link").get_attribute("href") or "").rpartition("/")[2]

    yes.get_by_label("Comment").fill("Looks right.")
    yes.get_by_role("button", name="Approve").click()
    expect(yes).to_have_count(0)
    no.get_by_role("button", name="Reject").click()
    expect(no).to_have_count(0)
    expect(visit.page.locator("nav .count")).to_have_count(1 if before else 0)
    answered = visit.page.get_by_role("region", name="Answered").get_by_role("listitem")
    expect(answered.filter(has_text="Publish 5.0")).to_contain_text("Looks right.")
    expect(answered.filter(has_text="Publish 6.0")).to_contain_text("rejected")

    visit.goto(f"/#/jobs/{job}")
    expect(visit.state("completed")).to_be_visible()
    expect(visit.output).to_have_text(["published 5.0"])


def test_redo_with_feedback_makes_another_attempt_and_what_came_after_anew(
    server: Server, visitors: Visitors
) -> None:
    visit = open_crew(visitors, server, commit(server, "counting"))
    for key, state in {"count": "completed", "after": "completed", "never": "stranded"}.items():
        node(visit, key, state)
    visit.page.locator('.node[data-key="count"]').click()
    expect(visit.page.get_by_role("region", name="Result")).to_contain_text("1")
    visit.button("Redo with feedback").click()
    visit.page.get_by_label("What should be different?").fill("Count further.")
    visit.button("Do it again").click()

    expect(visit.page.get_by_role("region", name="Result").locator("dd")).to_have_text("2")
    expect(visit.page.get_by_role("region", name="Comments")).to_contain_text("Count further.")
    expect(visit.page.get_by_role("region", name="Attempts").get_by_role("listitem")).to_have_count(
        2
    )
    expect(visit.output.filter(has_text="attempt")).to_have_text(["attempt 1", "attempt 2"])
    visit.page.get_by_label("Add a comment").fill("Much better.")
    visit.button("Comment").click()
    expect(visit.page.locator(".comments")).to_contain_text("Much better.")
    visit.page.locator(".job-head").get_by_role("link").click()
    node(visit, "after", "completed")

    visit.page.locator('.node[data-key="fails"]').click()
    expect(visit.page.locator("#job-reason")).to_contain_text("Exit code 3.")
    visit.button("Try again").click()
    attempts = visit.page.get_by_role("region", name="Attempts").get_by_role("listitem")
    expect(attempts).to_have_count(2)
    visit.button("Archive").click()
    expect(visit.state("archived")).to_be_visible()
    visit.button("Delete").click()
    visit.button("Delete job").click()
    expect(visit.page.locator(".node")).to_have_count(3)


class Overtaken:
    """Holds requests back, and answers them just before a later one of another kind. If the page
    has not aborted them by then, they log errors in the console.
    """

    def __init__(self, page: Page, late: str, by: str, method: str) -> None:
        self.held: list[Route] = []
        self._method = method
        page.route(late, lambda route: self.held.append(route))
        page.route(by, self._answer)

    def _answer(self, route: Route) -> None:
        if route.request.method != self._method:
            route.continue_()
            return
        answer = route.fetch(max_redirects=0)
        for one in self.held:
            with suppress(Error):  # the page has aborted it
                one.fulfill(response=one.fetch())
        route.fulfill(response=answer)


def test_what_was_asked_of_a_job_that_is_deleted_is_let_go(
    server: Server, visitors: Visitors
) -> None:
    visit = open_crew(visitors, server, commit(server, "counting"))
    visit.page.locator('.node[data-key="fails"]').click()
    expect(visit.page.locator("#job-reason")).to_contain_text("Exit code 3.")
    jobs = "**/crewlog/v1/jobs/*"
    late = Overtaken(visit.page, f"{jobs}/comments", by=jobs, method="DELETE")
    visit.button("Archive").click()
    expect(visit.state("archived")).to_be_visible()
    visit.button("Delete").click()
    visit.button("Delete job").click()
    expect(visit.page.locator(".node")).to_have_count(3)
    assert late.held


def test_what_was_asked_by_who_signs_out_is_let_go(server: Server, visitors: Visitors) -> None:
    visit = visitors.open(server, "/#/")
    late = Overtaken(visit.page, "**/crewlog/v1/board*", by="**/auth/logout", method="POST")
    with visit.page.expect_request("**/crewlog/v1/board*"):
        visit.page.get_by_label("Filter by text").fill("something")
    visit.button("Sign out").click()
    expect(visit.heading("Sign in")).to_be_visible()
    assert late.held
    visit.page.unroute_all()
    visit.sign_in()
    expect(visit.heading("Board")).to_be_visible()
    expect(visit.connection).to_contain_text("Live")


# Schedules


def test_a_schedule_is_made_with_a_preview_fired_by_hand_changed_and_deleted(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.open(server, "/#/schedules")
    visit.expected = "status of 400"
    page = visit.page
    visit.button("New schedule").click()
    page.get_by_label("Template").select_option("counting")
    page.get_by_label("Name").fill("Every weekday")
    page.get_by_label("Repeats").select_option("cron")
    page.get_by_label("Cron expression").fill("a b c")
    expect(page.locator(".preview .error")).to_be_visible()
    page.get_by_label("Repeats").select_option("weekly")
    page.get_by_label("At", exact=True).fill("07:45")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    expect(page.locator(".preview li")).to_have_count(5)
    expect(page.locator(".preview li").first).to_contain_text("07:45")
    expect(page.locator(".preview")).to_contain_text("Monday")
    visit.button("Make the schedule").click()

    expect(visit.heading("Every weekday")).to_be_visible()
    expect(page.get_by_role("list", name="Next times").get_by_role("listitem")).to_have_count(10)
    visit.button("Run now").click()
    expect(page.get_by_text("Started:")).to_be_visible()
    firings = page.get_by_role("region", name="What came of its times").locator("tbody tr")
    expect(firings).to_have_count(1)
    expect(firings).to_contain_text("by hand")

    visit.button("Edit").click()
    page.get_by_label("Repeats").select_option("daily")
    expect(page.locator(".preview")).to_contain_text("Every day at 07:45")
    visit.button("Save").click()
    expect(page.locator(".lead")).to_contain_text("Every day at 07:45")
    switch = page.get_by_role("switch")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    firings.get_by_role("link", name="look").click()
    expect(page.locator(".node")).to_have_count(4)
    page.go_back()
    visit.button("Delete").click()
    visit.button("Delete schedule").click()
    expect(visit.heading("Schedules")).to_be_visible()
    expect(visit.link("Every weekday")).to_have_count(0)


def test_a_schedule_is_not_saved_without_its_inputs(server: Server, visitors: Visitors) -> None:
    """Its form has them from the template, which may come late, or not at all."""
    terms = {"rule": {"cadence": "daily", "at": "03:30"}, "timezone": "UTC"}
    made = call(
        server,
        "POST",
        "/crewlog/v1/schedules",
        {"name": "Kept", "template": "asking", "inputs": {"version": "7.7"}, **terms},
    ).json()
    visit = visitors.open(server, f"/#/schedules/{made['id']}")
    visit.expected = "Failed to load resource"
    held: list[Route] = []
    visit.page.route("**/crewlog/v1/templates/asking", lambda route: held.append(route))
    with visit.page.expect_request("**/crewlog/v1/templates/asking"):
        visit.button("Edit").click()
    expect(visit.button("Save")).to_be_disabled()
    for route in held:
        route.abort()
    expect(visit.button("Save")).to_be_enabled()
    visit.page.get_by_label("At", exact=True).fill("04:30")
    visit.button("Save").click()
    expect(visit.page.locator(".lead")).to_contain_text("04:30")
    shown = call(server, "GET", f"/crewlog/v1/schedules/{made['id']}").json()
    assert shown["inputs"] == {"version": "7.7"}
    visit.page.unroute_all(behavior="ignoreErrors")


def test_an_administrator_gives_accounts_and_takes_them_back(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.open(server, "/#/people")
    page = visit.page
    visit.button("Add somebody").click()
    page.get_by_label("E-mail").fill("dora@example.org")
    page.get_by_label("Name").fill("Dora")
    page.get_by_label("Password").fill(PASSWORD)
    visit.button("Add").click()
    dora = page.get_by_role("listitem").filter(has_text="dora@example.org")
    expect(dora).to_contain_text("never signed in")
    with sign_in(server, "dora@example.org") as signed_in:
        dora.get_by_role("button", name="Disable").click()
        page.get_by_role("dialog").get_by_role("button", name="Disable").click()
        expect(dora).to_contain_text("switched off")
        assert signed_in.get("/api/jobs").status_code == 401


def test_the_system_room_shows_the_views_and_what_gitoma_knows(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.open(server, "/#/system")
    row = visit.page.get_by_role("row")
    expect(row.filter(has_text="timeline")).to_contain_text("live")
    expect(visit.page.get_by_role("region", name="Dispatcher")).to_contain_text("running")
    expect(row.filter(has_text="crew/log")).to_contain_text("gitoma/tidy")
    visit.button("Rebuild timeline").click()
    expect(visit.page.get_by_text("timeline is being rebuilt")).to_be_visible()
    expect(visit.button("Rebuild timeline")).to_be_enabled()


# By keyboard, on a phone, in the dark


def test_the_keyboard_is_enough_to_find_and_answer_a_question(
    server: Server, visitors: Visitors
) -> None:
    crew = commit(server, "asking", version="9.9")
    visit = visitors.open(server)
    keys, page = visit.page.keyboard, visit.page
    expect(visit.card("todo", "Publish 9.9")).to_be_visible()
    keys.press("Tab")
    expect(visit.link("Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    keys.press("Tab")
    expect(page.get_by_label("Filter by text")).to_be_focused()
    title = visit.card("todo", "Publish 9.9").get_by_role("link").first
    for _ in range(60):
        if title.evaluate("(link) => link === document.activeElement"):
            break
        keys.press("Tab")
    expect(title).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#job-title")).to_be_focused()
    approve = visit.button("Approve")
    approve.focus()
    keys.press("Enter")
    expect(visit.state("completed")).to_be_visible()
    visit.goto(f"/#/crews/{crew}")
    node(visit, "publish", "completed")


ROOMS = {
    "/": "Board",
    "/approvals": "Approvals",
    "/schedules": "Schedules",
    "/templates": "Templates",
    "/templates/asking": "Asking",
    "/jobs": "All jobs",
    "/people": "People",
    "/profile": "operator",
    "/system": "System",
}

NAMELESS = """
() => [...document.querySelectorAll("a[href], button, input, select, textarea")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.innerText?.trim() || one.ariaLabel || one.title || one.labels?.length
    || one.querySelector("svg[aria-label]")))
  .map((one) => one.outerHTML)
"""

CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const back = rgb(getComputedStyle(at).backgroundColor);
      if (back[3] === 255) return back;
    }
    return rgb("canvas");
  };
  const poor = [];
  for (const one of document.querySelectorAll("#page *")) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !one.checkVisibility() || one.closest("svg, :disabled")) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${one.outerHTML.slice(0, 120)}`);
  }
  return poor;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_room_fits_a_phone_names_its_controls_and_is_readable(
    server: Server, visitors: Visitors, scheme: str
) -> None:
    commit(server, "counting")
    crew = commit(server, "asking", version="w" * 120)
    visit = visitors.open(server, size=PHONE, color_scheme=scheme)
    for path, title in {**ROOMS, f"/crews/{crew}": "Asking"}.items():
        visit.goto(f"/#{path}")
        expect(visit.page.get_by_role("heading", name=title, exact=True).first).to_be_visible()
        expect(visit.page.get_by_text("Loading")).to_have_count(0)
        assert visit.overflow() == 0, path
        assert visit.page.evaluate(NAMELESS) == [], path
        assert visit.page.evaluate(CONTRAST) == [], path
    visit.goto("/")
    tabs = visit.page.get_by_role("group", name="Columns")
    tabs.get_by_role("button", name="Blocked").click()
    expect(visit.cards("blocked").first).to_be_visible()
    expect(visit.cards("todo").first).to_be_hidden()
    visit.button("Menu").click()
    visit.page.get_by_role("navigation").get_by_role("link", name="Approvals").click()
    expect(visit.page.get_by_role("article").filter(has_text="w" * 20).first).to_be_visible()
    assert visit.overflow() == 0


def test_the_theme_is_that_of_the_system_until_another_is_chosen(
    server: Server, visitors: Visitors
) -> None:
    def background(visit: Visit) -> str:
        return str(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    bright = visitors.open(server, color_scheme="light")
    dark = visitors.open(server, color_scheme="dark")
    assert background(bright) != background(dark)
    theme = dark.page.get_by_role("button", name="Theme:")
    theme.click()
    assert background(dark) == background(bright)
    dark.page.reload()
    expect(theme).to_have_accessible_name("Theme: light")
    assert background(dark) == background(bright)
    theme.click()
    theme.click()
    expect(theme).to_have_accessible_name("Theme: as the system")
    assert background(dark) != background(bright)


# The stream


def test_the_board_goes_on_after_the_server_was_killed_and_started_again(
    visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Server(prepared(tmp_path / "data")) as server:
        commit(server, "gated", gate=str(gate))
        visit = visitors.open(server)
        visit.expected = "Failed to load resource|status of 50"
        expect(visit.card("running", "First step")).to_be_visible()
        server.kill()
        expect(visit.connection).to_contain_text("Reconnecting")
        gate.touch()
        server.restart(urlsplit(server.url).port or 0)
        expect(visit.connection).to_contain_text("Live")
        expect(visit.card("done", "Last step")).to_be_visible()
        commit(server, "asking", version="1.0")
        expect(visit.card("todo", "Publish 1.0")).to_contain_text("waiting for approval")
        expect(visit.page.locator("nav .count")).to_have_text("1")
        jobs = call(server, "GET", "/api/jobs?status=done").json()["jobs"]
        until(lambda: visit.cards("done").count() == len(jobs), "the column holds what is done")
        end_all_jobs(server)
