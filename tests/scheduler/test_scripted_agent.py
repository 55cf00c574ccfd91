"""The promises of the scripted agent, spoken to directly and held against the protocol's schema."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from acp import schema
from pydantic import BaseModel

from scheduler.agents.scripted.steps import STEPS
from tests.kit.waiting import until
from tests.scheduler.agent_world import SCRIPTED

Message = dict[str, Any]

RESULTS: dict[str, type[BaseModel]] = {
    "initialize": schema.InitializeResponse,
    "session/new": schema.NewSessionResponse,
    "session/load": schema.LoadSessionResponse,
    "session/resume": schema.ResumeSessionResponse,
    "session/set_config_option": schema.SetSessionConfigOptionResponse,
    "session/prompt": schema.PromptResponse,
}


class Client:
    """Speaks with one process of the agent. Every message from it must be of the protocol."""

    def __init__(self, process: "subprocess.Popen[str]", cwd: Path) -> None:
        self.process = process
        self.cwd = cwd
        self.session = ""
        self.asked: dict[int, str] = {}
        self.updates: list[Message] = []
        self.introduction: Message = {}

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Message:
        assert self.process.stdout is not None
        message: Message = json.loads(self.process.stdout.readline())
        match message.get("method"):
            case "session/update":
                schema.SessionNotification.model_validate(message["params"])
                self.updates.append(message["params"]["update"])
            case "session/request_permission":
                schema.RequestPermissionRequest.model_validate(message["params"])
            case None if "result" in message:
                shape = RESULTS.get(self.asked[message["id"]])
                if shape is not None:
                    shape.model_validate(message["result"])
        return message

    def begin(self, method: str, **params: Any) -> int:
        number = len(self.asked)
        self.asked[number] = method
        if self.session:
            params.setdefault("sessionId", self.session)
        self.send(id=number, method=method, params=params)
        return number

    def end(self, number: int, option: str | None = "allow") -> Message:
        """The response. Permissions on the way get this answer."""
        while (message := self.receive()).get("id") != number or "method" in message:
            if message.get("method") == "session/request_permission":
                self.answer(message, option)
        return message

    def answer(self, message: Message, option: str | None) -> None:
        chosen = {"outcome": "selected", "optionId": option}
        outcome = chosen if option else {"outcome": "cancelled"}
        self.send(id=message["id"], result={"outcome": outcome})

    def call(self, method: str, **params: Any) -> Message:
        result = self.end(self.begin(method, **params))["result"]
        assert isinstance(result, dict)
        return result

    def open(self) -> Message:
        introduction = self.call("initialize", protocolVersion=1)
        opened = self.call("session/new", cwd=str(self.cwd), mcpServers=[])
        self.session = opened["sessionId"]
        return {**introduction, **opened}

    def prompt(self, text: str) -> int:
        return self.begin("session/prompt", prompt=[{"type": "text", "text": text}])

    def turn(self, text: str, option: str | None = "allow") -> str:
        """Why the turn stopped, or the sentence of its error."""
        message = self.end(self.prompt(text), option)
        if "error" in message:
            return str(message["error"]["message"])
        return str(message["result"]["stopReason"])

    def texts(self) -> list[str]:
        return [
            update["content"]["text"]
            for update in self.updates
            if update["sessionUpdate"] == "agent_message_chunk"
        ]

    def statuses(self) -> list[str]:
        """How its tool calls ended."""
        return [
            update["status"]
            for update in self.updates
            if update["sessionUpdate"] == "tool_call_update"
            and update["status"] in ("completed", "failed")
        ]


@contextmanager
def running(folder: Path) -> Iterator[Client]:
    cwd = folder / "worktree"
    cwd.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "CREWLOG_SCRIPTED_STATE": str(folder / "state")}
    with subprocess.Popen(
        SCRIPTED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=cwd,
        env=env,
        text=True,
    ) as process:
        yield Client(process, cwd)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path) as client:
        client.introduction = client.open()
        yield client


def test_it_says_that_it_has_no_model(client: Client) -> None:
    assert "no model" in client.introduction["agentInfo"]["title"]
    assert client.turn("say hello") == "end_turn"
    assert "no model" in client.texts()[0]
    assert client.turn("say again") == "end_turn"
    assert client.texts()[1:] == ["hello", "again"]


def test_every_step_does_what_it_says(client: Client) -> None:
    (client.cwd / "steps").write_text("say from a file\n")
    script = """
        # A comment, and an empty line.

        think hard
        plan look; edit ;
        edit deep/file.txt <<EOT
  kept as it is

        EOT
        run echo out; echo err >&2; exit 3
        ask May I?
        sleep 0
        usage 100 0.5
        usage 20 0.25
        flood 3
        file: steps
        say done
    """
    message = client.end(client.prompt(script), "allow")
    usage = {"totalTokens": 120, "inputTokens": 120, "outputTokens": 0}
    assert message["result"] == {"stopReason": "end_turn", "usage": usage}
    assert (client.cwd / "deep" / "file.txt").read_text() == "  kept as it is\n\n"
    assert client.texts()[1:] == [
        *("I may.", "flood 1", "flood 2", "flood 3", "from a file", "done")
    ]
    by_kind = {update["sessionUpdate"]: update for update in client.updates}
    assert by_kind["agent_thought_chunk"]["content"]["text"] == "hard"
    assert [entry["content"] for entry in by_kind["plan"]["entries"]] == ["look", "edit"]
    assert by_kind["usage_update"]["cost"] == {"amount": 0.75, "currency": "USD"}
    assert client.statuses() == ["completed", "failed", "completed"]
    ran = next(update for update in client.updates if update.get("rawOutput"))
    assert ran["rawOutput"] == {"exitCode": 3}
    assert ran["content"][0]["content"]["text"] == "out\nerr\n"
    first = next(update for update in client.updates if update.get("kind") == "edit")
    path = str(client.cwd / "deep" / "file.txt")
    diff = {"type": "diff", "path": path, "oldText": None, "newText": "  kept as it is\n\n"}
    assert first["content"] == [diff]


@pytest.mark.parametrize(
    "script",
    [
        "fix the bug",
        "say one\nsay",
        "sleep a while",
        "sleep nan",
        "flood 1.5",
        "usage -1",
        "crash 256",
        "hang on",
        "edit file",
        "edit file <<END\ntext",
        "file: none",
        "file: itself",
    ],
)
def test_a_step_that_cannot_be_read_is_an_error_that_lists_them(
    client: Client, script: str
) -> None:
    (client.cwd / "itself").write_text("file: itself")
    sentence = client.turn(script)
    assert all(step in sentence for step in STEPS)
    assert client.texts()[1:] == []


def test_fail_is_the_answer_and_crash_is_the_exit_code(client: Client) -> None:
    assert client.turn("fail I give up\nsay never") == "I give up"
    client.prompt("crash 7")
    assert client.process.wait() == 7
    assert "never" not in client.texts()


def test_modes_say_what_is_asked(client: Client) -> None:
    script = "edit file <<END\ntext\nEND\nrun touch ran"
    assert client.turn(script, "reject") == "end_turn"
    assert client.statuses() == ["failed", "failed"]
    client.call("session/set_mode", modeId="observe_only")
    number = client.prompt(script)
    while (message := client.receive()).get("id") != number:
        assert message["method"] == "session/update"
    assert client.statuses() == ["failed"] * 4
    assert list(client.cwd.iterdir()) == []
    client.call("session/set_mode", modeId="full_auto")
    number = client.prompt(script)
    while (message := client.receive()).get("id") != number:
        assert message["method"] == "session/update"
    assert sorted(entry.name for entry in client.cwd.iterdir()) == ["file", "ran"]


def test_always_asks_no_more_and_cancelled_ends_the_turn(client: Client) -> None:
    assert client.turn("run true", "always") == "end_turn"
    assert client.turn("run true\nask May I?\nsay never", None) == "cancelled"
    assert client.statuses() == ["completed", "completed", "failed"]
    assert "never" not in client.texts()


def test_an_edit_stays_in_the_worktree(client: Client) -> None:
    (client.cwd / "link").symlink_to(client.cwd.parent)
    for name in ("../out", "link/out", "/tmp/../nowhere/out"):
        client.turn(f"edit {name} <<END\ntext\nEND")
    assert client.statuses() == ["failed"] * 3
    assert not (client.cwd.parent / "out").exists()


@pytest.mark.parametrize(
    "step", ["sleep 1000", "hang", "ask May I?", "run echo $$ > pid; sleep 1000", "flood 1000000"]
)
def test_a_cancel_ends_the_turn_at_any_step(client: Client, step: str) -> None:
    client.call("session/set_mode", modeId="full_auto")
    number = client.prompt(f"say here\n{step}\nsay never")
    while "here" not in client.texts():
        client.receive()
    if step.startswith("run"):
        until((client.cwd / "pid").exists)
    client.send(method="session/cancel", params={"sessionId": client.session})
    while (message := client.receive()).get("id") != number or "method" in message:
        pass
    assert message["result"] == {"stopReason": "cancelled"}
    assert "never" not in client.texts()
    assert client.turn("say next") == "end_turn"
    if step.startswith("run"):
        pid = int((client.cwd / "pid").read_text())
        until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_session_is_loaded_with_its_history_and_resumed_without(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.open()
        client.call("session/set_mode", modeId="full_auto")
        client.turn("plan a; b\nrun true\nflood 3\nusage 5")
        session, said = client.session, client.updates
    with running(tmp_path) as client:
        client.call("initialize", protocolVersion=1)
        client.session = session
        loaded = client.call("session/load", cwd=str(client.cwd), mcpServers=[])
        assert loaded["modes"]["currentModeId"] == "full_auto"
        prompt, *replayed = client.updates
        assert prompt["sessionUpdate"] == "user_message_chunk"
        assert replayed == [update for update in said if "flood" not in json.dumps(update)]
        client.updates.clear()
        client.call("session/resume", cwd=str(client.cwd))
        assert client.updates == []
        client.turn("usage 5")
        assert client.updates[-1]["used"] == 10
        message = client.end(client.begin("session/load", cwd="/", sessionId="scripted-99"))
        assert message["error"]["code"] == -32002


def test_the_same_prompts_give_the_same_messages(tmp_path: Path) -> None:
    seen = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with running(tmp_path / name) as client:
            client.open()
            client.turn("plan a\nrun echo x\nask May I?\nusage 7 0.1")
            seen.append((client.session, client.updates))
    assert seen[0] == seen[1]


def test_what_is_no_request_of_the_protocol_is_answered(client: Client) -> None:
    assert client.end(client.begin("session/dance"))["error"]["code"] == -32601
    assert client.process.stdin is not None
    client.process.stdin.write("no json\n")
    client.process.stdin.flush()
    assert client.receive()["error"]["code"] == -32700
