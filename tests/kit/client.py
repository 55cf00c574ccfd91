"""A client of the native API, ``/crewlog/v1``, with crewlog's own states and outcomes."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from tests.kit.server import Server
from tests.kit.waiting import DEADLINE_S, until

Json = dict[str, Any]
ROOT = "/crewlog/v1"


class Native(httpx2.Client):
    """Acts as the operator, or as the one that `headers` name. It is an HTTP client too: for other
    requests, and for those of the dialects.
    """

    def __init__(
        self, server: Server, headers: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(
            base_url=server.url,
            headers=server.headers if headers is None else headers,
            trust_env=False,
            verify=False,  # loading certificates takes most of the time, and loopback needs none
            timeout=DEADLINE_S,
            **options,
        )

    def shown(self, path: str, **asked: Any) -> Json:
        """What an existing path below ``/crewlog/v1`` answers."""
        answer = self.get(f"{ROOT}{path}", params=asked)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def pages(self, path: str, **asked: Any) -> Iterator[Json]:
        """A list, page by page."""
        page = self.shown(path, **asked)
        yield page
        while page["cursor"] is not None:
            page = self.shown(path, **asked | {"cursor": page["cursor"]})
            yield page

    def items(self, path: str, **asked: Any) -> list[Json]:
        """The items of all pages of a list."""
        return [item for page in self.pages(path, **asked) for item in page["items"]]

    # Jobs

    def submit(self, *argv: str, **fields: Any) -> str:
        """Start a command. Returns the job's id."""
        job_id: str = self._made("/jobs", {"argv": argv, **fields})["id"]
        return job_id

    def shell(self, script: str, **fields: Any) -> str:
        """Start a script of sh. Returns the job's id."""
        return self.submit("sh", "-c", script, **fields)

    def job(self, job_id: str) -> Json:
        return self.shown(f"/jobs/{job_id}")

    def state(self, job_id: str) -> str:
        return str(self.job(job_id)["state"])

    def running(self, job_id: str) -> Json:
        """The job once it runs."""

        def now() -> Json | None:
            job = self.job(job_id)
            assert job["outcome"] is None, job
            return job if job["state"] == "running" else None

        return until(now, "the job runs")

    def ended(self, job_id: str, deadline_s: float = DEADLINE_S) -> Json:
        """The job once it has ended or given up."""

        def now() -> Json | None:
            job = self.job(job_id)
            return job if job["outcome"] or job["gaveUp"] else None

        return until(now, "the job ends", deadline_s)

    def cancel(self, job_id: str) -> httpx2.Response:
        return self.post(f"{ROOT}/jobs/{job_id}/cancel")

    # Crews

    def commit(self, template: str, **body: Any) -> Json:
        """Make a crew. Returns it with its jobs."""
        return self._made("/crews", {"template": template, **body})

    def crew(self, crew_id: str) -> Json:
        return self.shown(f"/crews/{crew_id}")

    def stands(self, crew_id: str, state: str) -> Json:
        """The crew, once it is in this state."""

        def now() -> Json | None:
            crew = self.crew(crew_id)
            return crew if crew["state"] == state else None

        return until(now, f"the crew is {state}")

    # The log

    def log_head(self) -> int:
        """The newest position of the log."""
        return int(self.shown("/log", limit=1)["head"])

    def since(self, position: int, *types: str) -> list[Json]:
        """The events of the whole log after a position, of these types or all."""
        return _of(types, self.items("/log", cursor=position, limit=1000))

    def events(self, job_id: str, *types: str) -> list[Json]:
        """The events about a job in the log, of these types or all."""
        return _of(types, self.items("/log", subject=f"job-{job_id}", cursor=0, limit=1000))

    def printed(self, job_id: str) -> list[str]:
        """The lines that a job wrote, over all attempts."""
        outputs = self.events(job_id, "job.output")
        return [line for event in outputs for line in event["data"]["lines"]]

    def _made(self, path: str, body: Json) -> Json:
        answer = self.post(f"{ROOT}{path}", json=body)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        assert answer.headers["location"] == f"{ROOT}{path}/{made['id']}"
        return made


def _of(types: tuple[str, ...], events: list[Json]) -> list[Json]:
    return [event for event in events if not types or event["type"] in types]
