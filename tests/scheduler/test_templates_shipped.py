"""The templates that come with crewlog do what they say; their commands run with parents first."""

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.errors import BadInput
from scheduler.templates import SHIPPED, Catalog
from scheduler.templates.plan import CrewPlan, PlannedJob
from scheduler.templates.schemas import Schema

AT = datetime(2026, 3, 31, 12, tzinfo=UTC)


def plan(template_id: str, **inputs: Any) -> CrewPlan:
    return Catalog([SHIPPED]).render(template_id, inputs, at=AT)


class Ran:
    """Runs the jobs of a crew one by one, as a server would."""

    def __init__(self, folder: Path, crew: CrewPlan, *, fails: str = "", **env: str) -> None:
        self.results: dict[str, Any] = {}
        self.output: dict[str, str] = {}
        self._folder = folder
        self._env = env
        for job in crew.jobs:
            code = self._run(job)
            assert (code != 0) is (job.key == fails), self.output[job.key]

    def artifact(self, key: str, name: str) -> str:
        return (self._folder / key / "artifacts" / name).read_text()

    def _run(self, job: PlannedJob) -> int:
        home = self._folder / job.key
        (home / "artifacts").mkdir(parents=True)
        (home / "work").mkdir()
        parents = [
            {
                "jobId": f"id-{key}",
                "key": key,
                "title": key,
                "metadata": self.results.get(key),
                "completedAt": "2026-03-31T12:00:00.000000Z",
            }
            for key in job.parents
        ]
        (home / "parents.json").write_text(json.dumps(parents))
        given = {
            "CREWLOG_RESULT": str(home / "result.json"),
            "CREWLOG_PARENTS": str(home / "parents.json"),
            "CREWLOG_ARTIFACTS": str(home / "artifacts"),
            "CREWLOG_JOB_ID": f"id-{job.key}",
        }
        ran = subprocess.run(
            job.argv,
            cwd=job.cwd or home / "work",
            env={**os.environ, **self._env, **job.env, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output[job.key] = ran.stdout
        if (home / "result.json").exists():
            result = json.loads((home / "result.json").read_text())
            assert job.result_schema is not None
            assert Schema(job.result_schema).violation(result) is None
            self.results[job.key] = result
        return ran.returncode


def test_every_shipped_template_is_one() -> None:
    catalog = Catalog([SHIPPED])

    assert list(catalog.faults()) == []
    assert [template.id for template in catalog.list()] == [
        *("dependency-audit", "gitoma-crew", "nightly-tests", "repository-health"),
    ]
    assert all(template.description for template in catalog.list())


# repository-health


def git(repo: Path, *arguments: str, at: str = "2026-03-01T12:00:00Z") -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(
        ["git", "-C", str(repo), *identity, *arguments],
        env={**os.environ, "GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository in which each check has something to find."""
    repo = tmp_path / "my repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "big.bin").write_bytes(b"\0" * 5_000)
    (repo / "naïve code.py").write_text("a = 1  # TODO: more\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "one", at="2019-01-01T12:00:00Z")
    git(repo, "branch", "old")
    (repo / "more.py").write_text("b = 2\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "two", at=datetime.now(UTC).isoformat())
    (repo / "new.txt").write_text("not committed\n")
    return repo


def test_repository_health_finds_what_is_there(tmp_path: Path, repo: Path) -> None:
    ran = Ran(tmp_path / "run", plan("repository-health", repo=str(repo), large_kib=4))

    found = {key: result for key, result in ran.results.items() if key != "summary"}
    assert {key: result["status"] for key, result in found.items()} == {
        "integrity": "ok",
        "large-files": "warn",
        "stale-branches": "warn",
        "todos": "warn",
        "uncommitted": "warn",
    }
    assert found["large-files"]["items"] == ["big.bin (5 KiB)"]
    assert [item.split()[0] for item in found["stale-branches"]["items"]] == ["old"]
    assert found["todos"]["items"] == ["naïve code.py:1:a = 1  # TODO: more"]
    assert found["uncommitted"]["items"] == ["?? new.txt"]
    assert ran.results["summary"]["status"] == "warn"
    report = ran.artifact("summary", "health.md")
    assert report.startswith(f"# Health of {repo}\n\n2026-03-31: **warn**\n")
    assert "| large-files | warn | 1 files over 4 KiB. |" in report
    assert "?? new.txt" in report


def test_repository_health_sees_damage(tmp_path: Path, repo: Path) -> None:
    objects = (p for p in (repo / ".git/objects").rglob("*") if p.is_file())
    damaged = max(objects, key=lambda path: path.name)
    damaged.chmod(stat.S_IRUSR | stat.S_IWUSR)
    damaged.write_bytes(b"garbage")
    crew = plan("repository-health", repo=str(repo))
    only = CrewPlan(crew.template, crew.name, tuple(j for j in crew.jobs if j.key == "integrity"))

    ran = Ran(tmp_path / "run", only)

    assert ran.results["integrity"]["status"] == "bad"
    assert ran.results["integrity"]["items"]


def test_repository_health_of_an_empty_and_of_a_bare_one(tmp_path: Path) -> None:
    for name, options in (("empty", ()), ("bare", ("--bare",))):
        repo = tmp_path / name
        repo.mkdir()
        git(repo, "init", "-q", *options)

        ran = Ran(tmp_path / f"run {name}", plan("repository-health", repo=str(repo)))

        assert ran.results["summary"]["status"] == "ok", ran.output


def test_repository_health_runs_nothing_that_a_repository_configures(
    tmp_path: Path, repo: Path
) -> None:
    script = tmp_path / "monitor"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    script.chmod(0o755)
    git(repo, "config", "core.fsmonitor", str(script))

    Ran(tmp_path / "run", plan("repository-health", repo=str(repo)))

    assert not (tmp_path / "was-run").exists()


def test_repository_health_fails_where_there_is_no_repository(tmp_path: Path) -> None:
    crew = plan("repository-health", repo=str(tmp_path / "none"))
    only = CrewPlan(crew.template, crew.name, crew.jobs[:1])

    ran = Ran(tmp_path / "run", only, fails="integrity")

    assert "none" in ran.output["integrity"]
    assert "Traceback" not in ran.output["integrity"]


# dependency-audit


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "web/node_modules/x").mkdir(parents=True)
    (project / "requirements.txt").write_text(
        "# what it needs\nfastapi==0.100.0  # pinned\nuvicorn[standard]>=0.20\n"
        "httpx ; python_version < '4'\n-r other.txt\nflask==2.* \\\n    --hash=sha256:00\n"
        "mine @ file:///srv/mine.tar.gz\n"
    )
    (project / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["attrs===1.0", "rich~=13.0"]\n'
        '[project.optional-dependencies]\ndev = ["pytest"]\n'
        '[dependency-groups]\nlint = ["ruff==0.1.0", {include-group = "dev"}]\n'
        '[tool.poetry.dependencies]\npython = "^3.11"\nclick = "8.1.0"\nyaml = "^6"\n'
    )
    (project / "web/package.json").write_text(
        json.dumps({"dependencies": {"a": "1.2.3", "b": "^1.0.0"}, "devDependencies": {"c": "*"}})
    )
    (project / "web/node_modules/x/package.json").write_text('{"dependencies": {"d": "*"}}')
    return project


def test_dependency_audit_lists_what_is_not_pinned(tmp_path: Path, project: Path) -> None:
    ran = Ran(tmp_path / "run", plan("dependency-audit", directory=str(project)))

    python, node = ran.results["python"], ran.results["node"]
    assert python["files"] == ["pyproject.toml", "requirements.txt"]
    assert [u["name"] for u in python["unpinned"]] == [
        *("rich", "pytest", "yaml", "uvicorn", "httpx", "flask"),
    ]
    assert python["unpinned"][1]["wanted"] == "any version"
    assert node["files"] == ["web/package.json"]
    assert [(u["name"], u["wanted"]) for u in node["unpinned"]] == [("b", "^1.0.0"), ("c", "*")]
    assert ran.results["report"] == {"dependencies": 14, "unpinned": 8}
    report = ran.artifact("report", "dependencies.md")
    assert "| python | 2 | 11 | 6 |" in report
    assert "* `b` ^1.0.0 (web/package.json)" in report


def test_dependency_audit_can_fail(tmp_path: Path, project: Path) -> None:
    crew = plan("dependency-audit", directory=str(project), fail_on_unpinned=True)

    ran = Ran(tmp_path / "run", crew, fails="report")

    assert "Not every dependency is pinned." in ran.output["report"]


@pytest.mark.parametrize(
    ("name", "text", "job"),
    [
        ("pyproject.toml", "[project\n", "python"),
        ("pyproject.toml", "project = 1\n", "python"),
        ("package.json", "{", "node"),
        ("package.json", "[]", "node"),
    ],
)
def test_dependency_audit_names_a_file_that_it_cannot_read(
    tmp_path: Path, name: str, text: str, job: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / name).write_text(text)
    crew = plan("dependency-audit", directory=str(tmp_path / "project"))
    jobs = tuple(planned for planned in crew.jobs if planned.key == job)

    ran = Ran(tmp_path / "run", CrewPlan(crew.template, crew.name, jobs), fails=job)

    assert ran.output[job].startswith(f"{name} cannot be read")


# nightly-tests


@pytest.fixture
def tested(tmp_path: Path) -> Path:
    project = tmp_path / "tested"
    project.mkdir()
    (project / "test_it.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.mark.skip\ndef test_later(): pass\n"
    )
    return project


def test_nightly_tests_count_and_report(tmp_path: Path, tested: Path) -> None:
    crew = plan("nightly-tests", directory=str(tested), interpreter=sys.executable)

    ran = Ran(tmp_path / "run", crew)

    assert ran.results["report"] == {"passed": 1, "failed": 1, "skipped": 1}
    (failure,) = ran.results["tests"]["failures"]
    assert failure["test"] == "test_it::test_bad"
    assert "1 == 2" in failure["message"]
    assert "<testcase" in ran.artifact("tests", "junit.xml")
    assert "**red**" in ran.artifact("report", "tests.md")


def test_nightly_tests_can_fail_when_red(tmp_path: Path, tested: Path) -> None:
    crew = plan(
        "nightly-tests", directory=str(tested), interpreter=sys.executable, fail_when_red=True
    )

    ran = Ran(tmp_path / "run", crew, fails="report")

    assert ran.results["report"]["failed"] == 1


def test_nightly_tests_take_any_runner_that_writes_junit(tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_text(
        '#!/bin/sh\nprintf \'<testsuite><testcase name="%s"/></testsuite>\' "$2" > "$1"\n'
    )
    runner.chmod(0o755)
    crew = plan("nightly-tests", directory=str(tmp_path), command=f"{runner} {{junit}} 'a b; id'")

    ran = Ran(tmp_path / "run", crew)

    assert ran.results["report"] == {"passed": 1, "failed": 0, "skipped": 0}
    assert 'name="a b; id"' in ran.artifact("tests", "junit.xml")
    assert "**green**" in ran.artifact("report", "tests.md")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("true", "left no JUnit XML"),
        ("/no/such/program", "cannot be run"),
        ("sh -c 'echo not xml > $0' {junit}", "cannot be read"),
        ("sh -c 'echo \"<testsuite/>\" > $0; exit 3' {junit}", "ended with 3"),
        ("'", "cannot be split"),
    ],
)
def test_nightly_tests_fail_when_there_is_nothing_to_count(
    tmp_path: Path, command: str, message: str
) -> None:
    crew = plan("nightly-tests", directory=str(tmp_path), command=command)
    only = CrewPlan(crew.template, crew.name, crew.jobs[:1])

    ran = Ran(tmp_path / "run", only, fails="tests")

    assert message in ran.output["tests"]
    assert "Traceback" not in ran.output["tests"]


# gitoma-crew

REPOSITORY = "https://github.com/crew/log"


def test_gitoma_crew_takes_its_four_steps(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "gitoma"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    crew = plan("gitoma-crew", repo_url=REPOSITORY)

    ran = Ran(tmp_path / "run", crew, PATH=f"{programs}:{os.environ['PATH']}")

    branch = "gitoma/2026-03-31"
    assert {key: printed.splitlines() for key, printed in ran.output.items()} == {
        "analyze": ["analyze", REPOSITORY],
        "run": ["run", REPOSITORY, "--yes", "--branch", branch, "--reset"],
        "review": ["review", REPOSITORY],
        "fix-ci": ["fix-ci", REPOSITORY, "--branch", branch],
    }
    assert [(job.key, job.approval) for job in crew.jobs] == [
        *(("analyze", False), ("run", True), ("review", False), ("fix-ci", False)),
    ]
    assert crew.jobs[1].max_retries == 0


@pytest.mark.parametrize(
    "inputs",
    [
        {"repo_url": "https://example.org/crew/log"},
        {"repo_url": f"{REPOSITORY}\n"},
        {"repo_url": "--help"},
        {"repo_url": REPOSITORY, "branch": "-D"},
        {"repo_url": REPOSITORY, "branch": "a b"},
        {"repo_url": REPOSITORY, "start": "yes"},
    ],
)
def test_gitoma_crew_takes_only_what_gitoma_does(inputs: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        plan("gitoma-crew", **inputs)
