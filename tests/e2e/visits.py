"""A visitor of a running server's page, who notices errors in its console."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from playwright._impl._api_structures import SetCookieParam
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=360, height=740)
TOKEN_KEY = "gitoma.api_token.v2"
PATIENCE_MS = 20_000

expect.set_options(timeout=PATIENCE_MS)

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`Content-Security-Policy: ${event.violatedDirective} ${event.blockedURI}`));
"""

_OVERFLOW = """
Math.max(...[document.documentElement, ...document.querySelectorAll(".scroll")]
  .map((one) => one.scrollWidth - one.clientWidth))
"""

_DEAF_CLOCKS = "window.setInterval = () => 0"
"""Without its clocks, only the stream can tell the page about a change."""


@dataclass
class Visit:
    """One visitor's tab. Every error in its console is a failure, except `expected` ones."""

    page: Page
    server: Server
    complaints: list[str] = field(default_factory=list)
    expected: str = "$^"

    def goto(self, path: str = "/") -> None:
        self.page.goto(f"{self.server.url}{path}")

    def sign_in(self, token: str | None = None) -> None:
        """Sign in with a token, by default the server's own."""
        other_way = self.page.get_by_role("button", name="Use a token instead")
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()
        if other_way.is_visible():
            other_way.click()
        self.page.get_by_label("Token").fill(token if token is not None else self.server.token)
        self.button("Sign in").click()

    def sign_in_as(self, email: str, password: str) -> None:
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.button("Sign in").click()

    def run(self, command: str) -> None:
        self.page.get_by_label("Run a command").fill(command)
        self.button("Run").click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True)

    def heading(self, name: str) -> Locator:
        return self.page.get_by_role("heading", name=name, exact=True)

    @property
    def output(self) -> Locator:
        """The lines that the job wrote, without the server's notes between them."""
        return self.page.get_by_role("region", name="Output of the job").locator("div:not(.note)")

    @property
    def jobs(self) -> Locator:
        return self.page.get_by_role("list", name="All jobs").get_by_role("listitem")

    def job(self, title: str) -> Locator:
        return self.jobs.filter(has_text=title)

    def cards(self, column: str) -> Locator:
        return self.page.locator(f".column[data-status={column}] .job-card")

    def card(self, column: str, title: str) -> Locator:
        return self.cards(column).filter(has_text=title)

    def state(self, state: str) -> Locator:
        return self.page.locator("#job-state").get_by_text(state, exact=True)

    @property
    def connection(self) -> Locator:
        return self.page.locator("#connection")

    def unexpected(self) -> list[str]:
        return [
            complaint for complaint in self.complaints if not re.search(self.expected, complaint)
        ]

    def overflow(self) -> int:
        """The pixels by which the page, or a table in it, can scroll sideways. Not `innerWidth`: on
        a phone that is as wide as the widest content.
        """
        return int(self.page.evaluate(_OVERFLOW))


class Visitors:
    """Opens tabs, and checks at the end that none of them had an error."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._visits: list[Visit] = []

    def open(
        self,
        server: Server,
        path: str = "/",
        *,
        size: ViewportSize = DESKTOP,
        deaf: bool = False,
        **context: Any,
    ) -> Visit:
        """A tab of the operator, signed in. A `deaf` tab has no clocks."""
        visit = self._visit(server, size, _DEAF_CLOCKS if deaf else "", context)
        visit.page.context.add_cookies(session_of(server))
        visit.goto(path)
        expect(visit.button("Sign out")).to_be_visible()
        expect(visit.connection).to_contain_text("Live")
        return visit

    def stranger(
        self, server: Server, path: str = "/", *, size: ViewportSize = DESKTOP, **context: Any
    ) -> Visit:
        """A tab with the page in it, without an identity."""
        visit = self._visit(server, size, "", context)
        visit.goto(path)
        return visit

    def _visit(
        self, server: Server, size: ViewportSize, script: str, options: dict[str, Any]
    ) -> Visit:
        phone = size is PHONE
        context = self._browser.new_context(
            viewport=size, is_mobile=phone, has_touch=phone, **options
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_REPORT_VIOLATIONS + script)
        visit = Visit(context.new_page(), server)
        self._visits.append(visit)
        visit.page.on(
            "console",
            lambda message: (
                visit.complaints.append(f"{message.text} ({message.location['url']})")
                if message.type in ("error", "warning")
                else None
            ),
        )
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        return visit

    def close(self) -> None:
        for visit in self._visits:
            visit.page.context.close()
        assert [complaint for visit in self._visits for complaint in visit.unexpected()] == []


def session_of(server: Server) -> list[SetCookieParam]:
    """The cookie of a new session of the operator, in the form that the browser needs."""
    answer = call(server, "POST", "/auth/token", {"token": server.token})
    assert answer.status_code == 200, answer.text
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    return [SetCookieParam(name=name, value=value, url=server.url)]


def call(server: Server, method: str, path: str, body: object = None) -> httpx2.Response:
    """A request of the operator."""
    with Native(server) as http:
        return http.request(method, path, json=body)


def submit(server: Server, *argv: str, **more: Any) -> str:
    """Start a command. Returns the job's id."""
    with Native(server) as http:
        return http.submit(*argv, **more)


def commit(server: Server, template: str, **inputs: Any) -> str:
    """Start a crew. Returns its id."""
    with Native(server) as http:
        return str(http.commit(template, inputs=inputs)["id"])


def end_all_jobs(server: Server) -> None:
    """Cancel running jobs and wait for their end, because jobs outlive their server."""
    with Native(server) as http:

        def none_is_left() -> bool:
            left = http.items("/jobs", state="queued,running")
            for job in left:
                http.cancel(job["id"])
            return not left

        until(none_is_left, "all jobs have ended")


def gated(gate: Path, before: str, after: str) -> str:
    """A shell script that prints `before`, and prints `after` once the gate's file exists."""
    wait = f"while [ ! -e {shlex.quote(str(gate))} ]; do sleep 0.02; done"
    return f"echo {before}; {wait}; echo {after}"
