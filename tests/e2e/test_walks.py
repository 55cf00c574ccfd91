"""The README's tour and the tutorial work when they are pasted block by block into fresh terminals.

Each block of ``sh`` is pasted whole into the bash of its terminal, which must then print each line
of the following block of ``text``. Ids, times and the like differ in each run: the printed values
replace those of the page, also where a later block uses an id.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.server import environment
from tests.kit.waiting import until

ROOT = Path(__file__).parents[2]
VENV = Path(sys.executable).parents[1]

_DEADLINE_S = 120.0
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TERMINALS = {"one": "first", "another": "second", "second": "second", "third": "third"}
_IDS = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16}-[a-z]+"
_VARIES = re.compile(
    rf"(?P<id>{_IDS})|(?P<moment>\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d)|(?P<day>\d{{4}}-\d\d-\d\d)"
    r"|(?P<span>\d+\.\d s)|(?P<version>crewlog \d+\.\d+\.\d+)|(?P<folder>/home/\S+)"
    r"|(?P<link>(?<=/sign-in/)\S+)|(?P<node>(?<= on )vm-\w+)|(?P<position>^\d+(?= ))|(?P<gap> +)"
)
_REALLY = {
    "moment": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "day": r"\d{4}-\d\d-\d\d",
    "span": r"\d+\.\d s",
    "version": r"crewlog \S+",
    "folder": r"\S+",
    "link": r"\S+",
    "node": r"\S+?",
    "position": r"\d+",
    "gap": r" +",
}


@dataclass
class Terminal:
    """A bash into which blocks are pasted, and its output."""

    output: Path
    bash: subprocess.Popen[bytes]
    pasted: int = 0
    begun: int = 0

    def paste(self, block: str) -> None:
        """Paste a block, once the block before is done."""
        self.finish()
        self.begun = len(self.printed())
        self.pasted += 1
        assert self.bash.stdin is not None
        self.bash.stdin.write(f"{block}\necho; echo 'pasted {self.pasted}'\n".encode())
        self.bash.stdin.flush()

    def finish(self) -> None:
        mark = f"\npasted {self.pasted}\n"
        until(lambda: not self.pasted or mark in self.printed(), "the block is done", _DEADLINE_S)

    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def close(self) -> None:
        """As Ctrl-C and exit: running commands end, and the shell's input is closed."""
        assert self.bash.stdin is not None
        for signalled in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.bash.poll() is None:
                os.killpg(self.bash.pid, signalled)
                self.bash.stdin.close()
                try:
                    self.bash.wait(20)
                except subprocess.TimeoutExpired:
                    continue
        self.bash.stdin.close()


@dataclass
class Walk:
    """A person who follows a page in `folder`."""

    folder: Path
    env: dict[str, str]
    terminals: dict[str, Terminal] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """The real id for each id on the page."""

    def follow(self, text: str) -> None:
        at, current = 0, ""
        for block in _FENCED.finditer(text):
            paragraph = text[at : block.start()].strip().rpartition("\n\n")[2]
            named = [name for words, name in _TERMINALS.items() if f"{words} terminal" in paragraph]
            current = named[0] if named else current if block[1] == "text" else "second"
            at = block.end()
            if block[1] == "sh":
                self.terminal(current).paste(self.with_real_ids(block[2]))
            elif block[1] == "text":
                for line in block[2].splitlines():
                    self.expect(line.strip(), self.terminal(current))
            else:
                [path] = re.findall(r"`(\S+/\S+)`", paragraph)
                (self.folder / path).write_text(block[2])
        for name, terminal in self.terminals.items():
            if name != "first":
                terminal.finish()

    def terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            output = self.folder.parent / f"{name}.out"
            with output.open("ab") as file:
                bash = subprocess.Popen(
                    ["bash", "--noprofile", "--norc"],
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=file,
                    cwd=self.folder,
                    env=self.env,
                    start_new_session=True,
                )
            self.terminals[name] = Terminal(output, bash)
        return self.terminals[name]

    def with_real_ids(self, block: str) -> str:
        for shown, real in self.ids.items():
            block = re.sub(rf"\b{shown[:8]}(?:{shown[8:]})?(?![\w-])", real, block)
        return block

    def expect(self, line: str, terminal: Terminal) -> None:
        """Wait for the line, and remember its real ids."""
        shown: list[str] = []

        def really(varies: re.Match[str]) -> str:
            if varies["id"] is None:
                return _REALLY[varies.lastgroup or ""]
            known = self.ids.get(varies["id"])
            if known is not None:
                return re.escape(known)
            shown.append(varies["id"])
            return f"({_IDS})"

        at, pattern = 0, ""
        for varies in _VARIES.finditer(line):
            pattern += re.escape(line[at : varies.start()]) + really(varies)
            at = varies.end()
        wanted = re.compile(rf"^ *{pattern}{re.escape(line[at:])} *$", re.MULTILINE)

        def found() -> re.Match[str] | None:
            return wanted.search(terminal.printed(), terminal.begun)

        try:
            match = until(found, f"{line!r} is printed", _DEADLINE_S)
        except AssertionError as never:
            raise AssertionError(f"{never}\n{terminal.printed()[terminal.begun :]}") from None
        self.ids.update(zip(shown, match.groups(), strict=True))

    def all_printed(self) -> str:
        return "\n".join(terminal.printed() for terminal in self.terminals.values())


@contextmanager
def walk(tmp_path: Path, **env: str) -> Iterator[Walk]:
    """A person with an empty home, in an empty directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    surroundings = environment(HOME=str(tmp_path / "home"), TZ="UTC", LC_ALL="C.UTF-8", **env)
    walking = Walk(folder, surroundings)
    try:
        yield walking
    finally:
        for terminal in reversed(walking.terminals.values()):
            terminal.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


WRONG = ("Traceback", "command not found", "No server answers", "Usage:", '"detail"')


def test_the_tour_of_the_readme(tmp_path: Path) -> None:
    port = free_port()
    text = (ROOT / "README.md").read_text()
    tour = text.partition("## Five minutes")[2].partition("\n## ")[0]
    with walk(tmp_path, CREWLOG_PORT=str(port)) as walking:
        # The checkout is set up already.
        (walking.folder / ".venv").symlink_to(VENV)
        (walking.folder / "Makefile").write_text("setup:\n")
        first, rest = tour.split("\n```\n", 1)
        walking.follow(f"{first}\n```\n")
        listens = f"listens on http://127.0.0.1:{port}"
        until(lambda: listens in walking.all_printed(), "the server listens", _DEADLINE_S)
        walking.follow(rest)
        printed = walking.all_printed()
        for wrong in WRONG:
            assert wrong not in printed, printed
        assert "HTTP/1.1 201" in printed
        for sentence in (
            "line 10",
            "Count to ten",
            "list.txt",
            'Result     {"right": true}',
            "the same digest",
        ):
            assert sentence in printed, printed
        streamed = walking.terminal("second").printed()[walking.terminal("second").begun :]
        lines = re.findall(r'^data: \{"line": "(line \d+)"\}$', streamed, re.MULTILINE)
        assert lines == [f"line {n}" for n in range(1, 11)], streamed


def test_the_tutorial(tmp_path: Path) -> None:
    port = free_port()
    project = tmp_path / "srv" / "project"
    repository(project)
    text = (ROOT / "docs/tutorial.md").read_text()
    text = text.replace("8081", str(port)).replace("/srv", str(tmp_path / "srv"))
    path = f"{VENV / 'bin'}:{os.environ['PATH']}"
    with walk(tmp_path, PATH=path) as walking:
        walking.follow(text)
        for wrong in WRONG:
            assert wrong not in walking.all_printed()


def repository(folder: Path) -> None:
    """The repository of the tutorial's notes: four changes by two people."""
    git = ["git", "-C", str(folder), "-c", "init.defaultBranch=main"]
    folder.mkdir(parents=True)
    subprocess.run([*git, "init", "-q"], check=True)
    changes = (
        "Read the settings from a file",
        "Say which line is wrong",
        "Take a directory too",
        "Close the file",
    )
    for number, change in enumerate(changes):
        who = ("Ada", "Grace")[number % 2]
        given = ["-c", f"user.name={who}", "-c", f"user.email={who}@example.org"]
        commit = ["commit", "-q", "--allow-empty", "-m", change]
        subprocess.run([*git, *given, *commit], check=True)
