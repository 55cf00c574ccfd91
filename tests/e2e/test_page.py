"""Jobs on the page, as a person uses it: a real server, a real browser."""

import hashlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.visits import (
    PHONE,
    TOKEN_KEY,
    Visitors,
    call,
    end_all_jobs,
    gated,
    submit,
)
from tests.kit.client import Native
from tests.kit.server import Server

pytestmark = pytest.mark.timeout(900)  # the browser may have to be installed first

PAGE = Path(__file__).parents[2] / "api" / "page"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("page") / "data") as running:
        yield running
        end_all_jobs(running)


@pytest.mark.parametrize("path", ["/", "/login/", "/dashboard.js"])
def test_files_are_whole_tagged_and_allow_nothing_inline(server: Server, path: str) -> None:
    url = f"{server.url}{path}"
    with httpx2.Client(trust_env=False, headers={"Accept-Encoding": "identity"}) as client:
        whole = client.get(url)
        again = client.get(url, headers={"If-None-Match": whole.headers["etag"]})
        other = client.get(url, headers={"If-None-Match": '"0123456789abcdef"'})

    assert whole.status_code == 200
    assert int(whole.headers["content-length"]) == len(whole.content) > 1_000
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()[:16]}"'
    policy = whole.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["referrer-policy"] == "no-referrer"
    assert whole.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == whole.headers["etag"]
    assert not {"content-type", "content-security-policy", "cache-control"} & set(again.headers)
    assert (other.status_code, other.content) == (200, whole.content)


def test_parts_of_the_page_are_kept_for_good_under_the_address_of_their_version(
    server: Server,
) -> None:
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        parts = re.findall(r'"(/page/[^"]+)"', client.get("/").text)
        assert any(part.endswith(".css") for part in parts)
        assert any(part.endswith("/app/board.js") for part in parts)
        for part in parts:
            answer = client.get(part)
            assert answer.status_code == 200, part
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        old = re.sub(r"^/page/[^/]+", "/page/0123456789abcdef", parts[0])
        assert client.get(old).headers["cache-control"] == "no-cache"
        assert client.get(f"{parts[0].rsplit('/', 1)[0]}/../index.html").status_code == 404


def test_the_files_name_no_other_origin_and_hold_nothing_inline() -> None:
    html = (PAGE / "index.html").read_text()
    scripts = "".join(file.read_text() for file in [PAGE / "dashboard.js", *PAGE.glob("app/*.js")])
    styles = "".join(file.read_text() for file in PAGE.glob("style/*.css"))

    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=)", html)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=", scripts
    )
    named = set(re.findall(r"https?://[^\s'\"]+", html + scripts + styles))
    assert named == {"http://www.w3.org/2000/svg"}


def test_vendored_scripts_are_those_that_their_list_names() -> None:
    body = (PAGE / "vendor/preact/preact.js").read_bytes()
    assert hashlib.sha256(body).hexdigest() in (PAGE / "vendor/README.md").read_text()
    for package in ("preact", "signals", "signals-core", "htm"):
        assert (PAGE / f"vendor/preact/LICENSE.{package}").stat().st_size > 500


def test_a_wrong_token_is_refused_with_a_sentence_and_the_right_one_lets_in(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.stranger(server)
    visit.expected = "status of 403"
    alert = visit.page.locator("#sign-in-error")
    board = visit.heading("Board")

    visit.sign_in("not-the-token")
    expect(alert).to_contain_text("does not accept this token")
    expect(visit.page.get_by_text("in the file token of the data directory")).to_be_visible()
    assert visit.page.get_by_label("Token").get_attribute("type") == "password"
    visit.sign_in("täken")
    expect(alert).to_contain_text("does not accept this token")
    assert visit.page.context.cookies() == []

    visit.sign_in()
    expect(board).to_be_visible()
    expect(visit.connection).to_contain_text("Live")
    visit.page.reload()
    expect(board).to_be_visible()

    # A token as a tab of an earlier version stored it.
    visit.page.evaluate(f"sessionStorage['{TOKEN_KEY}'] = 'of-yesterday'")
    visit.page.reload()
    expect(alert).to_contain_text("does not accept this token")
    visit.sign_in()
    expect(board).to_be_visible()
    visit.button("Sign out").click()
    expect(visit.heading("Sign in")).to_be_visible()
    assert visit.page.evaluate("sessionStorage.length") == 0


def test_a_command_from_the_form_is_watched_live_to_its_end(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    visit = visitors.open(server, "/#/jobs")
    visit.run(f"sh -c {shlex.quote(gated(gate, 'the first line', 'the last line'))}")

    expect(visit.state("running")).to_be_visible()
    expect(visit.output.get_by_text("the first line", exact=True)).to_be_visible()
    expect(visit.output.get_by_text("the last line", exact=True)).to_have_count(0)
    gate.touch()
    expect(visit.output.get_by_text("the last line", exact=True)).to_be_visible()
    expect(visit.state("completed")).to_be_visible()
    expect(visit.page.get_by_text("Ended: completed")).to_be_visible()
    expect(visit.page.get_by_role("button", name="Cancel job")).to_be_hidden()
    expect(visit.page.locator("#timeline li")).to_contain_text(
        ["Submitted", "Queued", "Attempt 1 started", "Completed after"]
    )
    expect(visit.page.locator("#facts")).to_contain_text("Exit code0")
    expect(visit.output).to_have_count(2)

    job = visit.page.url.rsplit("/", 1)[1]
    call(server, "POST", f"/api/jobs/{job}/archive")
    expect(visit.page.locator("#timeline li").last).to_contain_text("Archived.")


def test_words_of_a_command_are_read_as_a_shell_reads_them(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.open(server, "/#/jobs")
    line = r"""echo one 'two  words' "a \"quoted\" one" back\ slash '' x"y"'z'"""
    visit.run(line)
    expect(visit.page.locator("#job-title")).to_be_visible()
    expect(visit.state("completed")).to_be_visible()
    job = visit.page.url.rsplit("/", 1)[1]
    assert call(server, "GET", f"/api/jobs/{job}").json()["argv"] == shlex.split(line)


def test_a_command_that_cannot_be_is_answered_with_a_sentence(
    server: Server, visitors: Visitors
) -> None:
    visit = visitors.open(server, "/#/jobs")
    visit.expected = "status of 422"
    error = visit.page.locator("#run-error")
    visit.run("echo 'open")
    expect(error).to_have_text("A quote (') is not closed.")
    visit.run("a " * 4_100)
    expect(error).to_contain_text("The server refused this. Command: List should have at most 4096")
    visit.run("no-such-program | wc")
    expect(visit.page.locator("#job-title")).to_have_text("no-such-program '|' wc")
    expect(visit.state("failed")).to_be_visible()
    expect(visit.page.locator("#job-reason")).to_contain_text("no-such-program")
    expect(visit.page.locator("#job-reason")).to_contain_text("Error id")


def test_a_job_that_somebody_else_starts_appears_and_ends_by_itself(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    visit = visitors.open(server, "/#/jobs", deaf=True)
    expect(visit.heading("All jobs")).to_be_visible()
    submit(server, "sh", "-c", gated(gate, "a", "b"), title="Of somebody else", labels=["theirs"])

    expect(visit.jobs.first).to_contain_text("Of somebody else")
    expect(visit.job("Of somebody else")).to_contain_text("running")
    expect(visit.job("Of somebody else")).to_contain_text("theirs")
    gate.touch()
    expect(visit.job("Of somebody else")).to_contain_text("completed")
    expect(visit.job("Of somebody else").locator(".lines-count")).to_contain_text("2")

    visit.link("Cancelled").click()
    expect(visit.job("Of somebody else")).to_have_count(0)
    visit.link("Completed").click()
    expect(visit.job("Of somebody else")).to_be_visible()


def test_cancelling_is_confirmed_and_ends_the_job(server: Server, visitors: Visitors) -> None:
    job = submit(server, "sleep", "300", title="To be cancelled")
    visit = visitors.open(server, f"/#/jobs/{job}")
    expect(visit.state("running")).to_be_visible()
    ask = visit.button("Cancel job").first
    dialog = visit.page.get_by_role("dialog")

    ask.click()
    dialog.get_by_role("button", name="Keep it running").click()
    expect(dialog).to_be_hidden()
    expect(visit.state("running")).to_be_visible()
    ask.click()
    dialog.get_by_role("button", name="Cancel job").click()
    expect(visit.state("cancelled")).to_be_visible()
    expect(visit.page.get_by_text("Ended: cancelled")).to_be_visible()


def test_cancelling_what_has_ended_meanwhile_says_so(server: Server, visitors: Visitors) -> None:
    job = submit(server, "sleep", "300", title="Cancelled twice")
    visit = visitors.open(server, f"/#/jobs/{job}")
    visit.button("Cancel job").first.click()
    expect(visit.page.get_by_role("dialog")).to_be_visible()
    call(server, "POST", f"/api/jobs/{job}/cancel")
    expect(visit.page.get_by_text("This job has already finished")).to_be_visible()
    expect(visit.page.get_by_role("dialog")).to_be_hidden()


def test_an_unknown_job_is_said_to_be_none(server: Server, visitors: Visitors) -> None:
    visit = visitors.open(server, "/#/jobs/00000000-0000-7000-8000-000000000000")
    visit.expected = "status of 404"
    expect(visit.page.get_by_text("There is no such job, or it was deleted.")).to_be_visible()


def test_output_and_titles_are_text_whatever_they_contain(
    server: Server, visitors: Visitors
) -> None:
    evil = "<img src=x onerror=\"document.title='pwned'\"><script>alert(1)</script>&lt;"
    job = submit(server, "printf", "%s\\n\\033[1mbold\\033[0m\\n", evil, title=evil)
    visit = visitors.open(server, "/#/jobs")
    expect(visit.jobs.first.locator(".title")).to_have_text(evil)
    visit.jobs.first.get_by_role("link").click()
    expect(visit.page.locator("#job-title")).to_have_text(evil)
    expect(visit.output.nth(0)).to_have_text(evil)
    expect(visit.output.nth(1)).to_have_text("bold")
    expect(visit.page.locator("main img, main script")).to_have_count(0)
    assert visit.page.url.endswith(job)


def test_a_childs_own_end_line_ends_nothing(server: Server, visitors: Visitors) -> None:
    job = submit(server, "sh", "-c", "echo __END__:failed; echo after it")
    visit = visitors.open(server, f"/#/jobs/{job}")
    expect(visit.page.get_by_text("Ended: completed")).to_be_visible()
    expect(visit.output).to_have_text(["__END__:failed", "after it"])


def test_of_many_lines_the_page_holds_the_last_and_shows_the_earlier_when_asked(
    server: Server, visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"seq 1 4899; {gated(gate, '4900', '4901')}; seq 4902 7500"
    job = submit(server, "sh", "-c", script)
    visit = visitors.open(server, f"/#/jobs/{job}")
    expect(visit.output.last).to_have_text("4900")
    expect(visit.output).to_have_count(4_900)
    gate.touch()
    expect(visit.page.get_by_text("Ended: completed")).to_be_visible()
    expect(visit.page.get_by_text("Lines 2,502 to 7,500 of 7,500")).to_be_visible()
    assert visit.output.all_text_contents() == [str(n) for n in range(2_502, 7_501)]
    expect(visit.output.last).to_be_in_viewport()

    visit.page.get_by_role("button", name="Show earlier").click()
    expect(visit.page.get_by_text("Lines 2 to 5,001 of 7,500")).to_be_visible()
    assert visit.output.all_text_contents() == [str(n) for n in range(2, 5_002)]
    expect(visit.output.nth(2_500)).to_be_in_viewport()
    expect(visit.page.get_by_role("checkbox", name="Follow")).not_to_be_checked()
    visit.page.get_by_role("button", name="Jump to the end").click()
    expect(visit.output.last).to_be_in_viewport()
    assert visit.output.all_text_contents() == [str(n) for n in range(2_502, 7_501)]


def test_scrolling_up_stops_following(server: Server, visitors: Visitors, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = submit(server, "sh", "-c", f"seq 1 500; {gated(gate, 'waiting', 'at the end')}")
    visit = visitors.open(server, f"/#/jobs/{job}")
    follow = visit.page.get_by_role("checkbox", name="Follow")
    expect(visit.output.get_by_text("waiting", exact=True)).to_be_in_viewport()
    visit.page.get_by_role("region", name="Output of the job").hover()
    visit.page.mouse.wheel(0, -2_000)
    expect(follow).not_to_be_checked()
    gate.touch()
    expect(visit.page.get_by_text("Ended: completed")).to_be_visible()
    expect(visit.output.get_by_text("at the end", exact=True)).not_to_be_in_viewport()
    follow.check()
    expect(visit.output.get_by_text("at the end", exact=True)).to_be_in_viewport()


COUNTER = """
import pathlib, sys, time
number = 0
while not pathlib.Path(sys.argv[1]).exists():
    if number < 1500:  # as many as the page holds, however long the restart takes
        number += 1
        print("number", number, flush=True)
    time.sleep(0.005)
print("counted", number, flush=True)
"""


def test_through_a_kill_and_a_restart_no_line_is_lost_or_doubled(
    visitors: Visitors, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Server(tmp_path / "data") as server:
        job = submit(server, sys.executable, "-c", COUNTER, str(gate), title="Counts")
        visit = visitors.open(server, f"/#/jobs/{job}")
        visit.expected = "Failed to load resource"
        expect(visit.output.get_by_text("number 50", exact=True)).to_be_attached()
        connection = visit.connection

        server.kill()
        expect(connection).to_contain_text("Reconnecting")
        expect(visit.page.locator("#output-state")).to_contain_text("Reconnecting")
        server.restart(urlsplit(server.url).port or 0)
        expect(connection).to_contain_text("Live")
        expect(visit.page.locator("#output-state")).to_have_text("Live")
        gate.touch()
        expect(visit.page.get_by_text("Ended: completed")).to_be_visible()
        expect(visit.state("completed")).to_be_visible()

        lines = visit.output.all_text_contents()
        last = len(lines) - 1
        assert last > 50
        assert lines == [*(f"number {n}" for n in range(1, last + 1)), f"counted {last}"]
        visit.page.get_by_role("navigation").get_by_role("link", name="All jobs").click()
        submit(server, "true", title="After the restart")
        expect(visit.job("After the restart")).to_contain_text("completed")
        end_all_jobs(server)


def test_more_jobs_are_loaded_when_asked(visitors: Visitors, tmp_path: Path) -> None:
    with Server(tmp_path / "data", CREWLOG_CAPACITY="0") as server:
        with Native(server) as http:
            for number in range(120):
                http.submit("true", title=f"Job {number}")
        visit = visitors.open(server, "/#/jobs")
        visit.expected = "Failed to load resource"  # the server stops first
        more = visit.page.get_by_role("button", name="Load more")
        expect(visit.jobs).to_have_count(50)
        expect(visit.jobs.first).to_contain_text("Job 119")
        more.click()
        expect(visit.jobs).to_have_count(100)
        more.click()
        expect(visit.jobs).to_have_count(120)
        expect(more).to_be_hidden()
        titles = visit.jobs.locator(".title").all_text_contents()
        assert titles == [f"Job {number}" for number in range(119, -1, -1)]
        submit(server, "true", title="Job 120")
        expect(visit.jobs.first).to_contain_text("Job 120")
        expect(visit.jobs).to_have_count(121)


def test_on_a_phone_no_job_is_wider_than_the_screen(server: Server, visitors: Visitors) -> None:
    long = "x" * 180
    job = submit(server, "sh", "-c", f"echo {long}; exit 3", title=long, labels=["y" * 60])
    visit = visitors.open(server, "/#/jobs", size=PHONE)
    expect(visit.job(long)).to_contain_text("failed")
    assert visit.overflow() == 0
    visit.page.get_by_text("Options").click()
    visit.page.get_by_label("Run a command").fill(f"{long} | {long}")
    assert visit.overflow() == 0
    visit.goto(f"/#/jobs/{job}")
    expect(visit.page.get_by_text("Ended: failed")).to_be_visible()
    expect(visit.page.locator("#job-reason")).to_have_text("Exit code 3.")
    assert visit.overflow() == 0
    visit.page.get_by_role("checkbox", name="Wrap").uncheck()
    assert visit.overflow() == 0


def test_the_keyboard_is_enough_to_sign_in_and_cancel_a_job(
    server: Server, visitors: Visitors
) -> None:
    job = submit(server, "sleep", "300", title="By keyboard")
    visit = visitors.stranger(server, "/#/jobs")
    keys = visit.page.keyboard
    expect(visit.page.get_by_label("Token")).to_be_focused()
    keys.type(server.token)
    keys.press("Enter")
    expect(visit.job("By keyboard")).to_be_visible()
    visit.job("By keyboard").get_by_role("link").focus()
    keys.press("Enter")
    expect(visit.page).to_have_url(re.compile(f"#/jobs/{job}$"))
    expect(visit.page.locator("#job-title")).to_be_visible()
    ask = visit.page.locator(".actions").get_by_role("button", name="Cancel job").first
    ask.focus()
    keys.press("Enter")
    expect(visit.button("Keep it running")).to_be_focused()
    keys.press("Escape")
    expect(visit.page.get_by_role("dialog")).to_be_hidden()
    expect(ask).to_be_focused()
    keys.press("Enter")
    expect(visit.button("Keep it running")).to_be_focused()
    keys.press("Tab")
    keys.press("Enter")
    expect(visit.state("cancelled")).to_be_visible()


def test_the_api_reference_comes_from_this_server_alone(browser: Browser, server: Server) -> None:
    """Under the page's content security policy: no inline script, no other host, no errors."""
    with browser.new_context() as context:
        page = context.new_page()
        seen: list[str] = []
        page.on("console", lambda message: seen.append(message.text))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(f"{server.url}/docs")
        expect(page.locator(".opblock").first).to_be_visible()
        expect(page.locator(".opblock-summary-path", has_text="/log/export")).to_be_visible()
        page.get_by_role("link", name="gitoma").click()
        expect(page.locator(".opblock-summary-path", has_text="/api/v1/run")).to_be_visible()
    assert [text for text in seen if not text.startswith((server.url, "data:"))] == []
