"""The jobs of the template nightly-tests: running the tests, and the report.

Failing tests are a result: the run exits with 0 and says how many. It fails if there was nothing to
count, because the runner could not be started or left no JUnit XML.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

_MOST_FAILURES = 100
_LONGEST = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--interpreter", default="python3")
    parser.add_argument("--command", default="")
    parser.add_argument("--report", metavar="DATE")
    parser.add_argument("--fail-when-red", choices=("true", "false"), default="false")
    options = parser.parse_args()
    if options.report is None:
        result = run(options.directory, options.interpreter, options.command)
    else:
        result = report(options.directory, options.report)
    print(f"{result['passed']} passed, {result['failed']} failed, {result['skipped']} skipped")
    Path(os.environ["CREWLOG_RESULT"]).write_text(json.dumps(result))
    if options.fail_when_red == "true" and result["failed"]:
        sys.exit("Not every test passed.")


def run(directory: Path, interpreter: str, command: str) -> dict[str, Any]:
    """Run the tests in `directory`. The XML stays among the artifacts as junit.xml."""
    junit = Path(os.environ["CREWLOG_ARTIFACTS"], "junit.xml").absolute()
    junit.unlink(missing_ok=True)
    if command.strip():
        argv = [word.replace("{junit}", str(junit)) for word in _words(command)]
    else:
        argv = [interpreter, "-m", "pytest", f"--junitxml={junit}"]
    print("$", shlex.join(argv), flush=True)
    try:
        code = subprocess.run(argv, cwd=directory, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        sys.exit(f"The tests cannot be run: {error}")
    if not junit.is_file():
        sys.exit(f"The tests ended with {code} and left no JUnit XML at {{junit}}.")
    result = counted(junit)
    if code != 0 and not result["failed"]:
        sys.exit(f"The tests ended with {code}, but no test failed.")
    return result


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        sys.exit(f"The command cannot be split into words: {error}")


def counted(junit: Path) -> dict[str, Any]:
    """The outcome in numbers, and the first failures."""
    passed = skipped = failed = 0
    seconds = 0.0
    failures = []
    try:
        root = ElementTree.parse(junit).getroot()  # noqa: S314 - the tests' own file
    except ElementTree.ParseError as error:
        sys.exit(f"The JUnit XML cannot be read: {error}")
    for case in root.iter("testcase"):
        seconds += _seconds(case.get("time"))
        wrong = case.find("failure")
        if wrong is None:
            wrong = case.find("error")
        if wrong is not None:
            failed += 1
            name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
            message = (wrong.get("message") or wrong.text or "").strip().partition("\n")[0]
            failures.append({"test": name[:_LONGEST], "message": message[:_LONGEST]})
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return {
        "passed": passed,
        "failed": failed,
        "skipped": skipped,
        "seconds": round(seconds, 3),
        "failures": failures[:_MOST_FAILURES],
    }


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def report(directory: Path, date: str) -> dict[str, Any]:
    """The counts of the run, and tests.md among the artifacts."""
    parents = json.loads(Path(os.environ["CREWLOG_PARENTS"]).read_text())
    result: dict[str, Any] = parents[0]["metadata"]
    colour = "red" if result["failed"] else "green"
    lines = [f"# Tests of {directory}", "", f"{date}: **{colour}**", ""]
    lines += ["| passed | failed | skipped | seconds |", "|---|---|---|---|"]
    counts = " | ".join(str(result.get(key, "")) for key in ("passed", "failed", "skipped"))
    lines.append(f"| {counts} | {result.get('seconds', '')} |")
    failures = result.get("failures", [])
    if failures:
        lines += ["", "## Failed", ""]
        lines += [f"* `{failure['test']}`: {failure['message']}" for failure in failures]
        left = result["failed"] - len(failures)
        lines += [f"* and {left} more"] * (left > 0)
    Path(os.environ["CREWLOG_ARTIFACTS"], "tests.md").write_text("\n".join(lines) + "\n")
    return {key: result[key] for key in ("passed", "failed", "skipped")}


if __name__ == "__main__":
    main()
