"""The promises of the agent host, with real agents' processes behind it."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.executors.inbox import Frame
from tests.scheduler.agent_world import SCRIPTED, Line, Talk, World, is_note, is_update, texts

EDIT = "edit notes.txt <<END\nfirst line\nEND\nsay edited"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.end_all()


def order(*lines: Line) -> bool:
    return list(lines) == sorted(lines, key=lambda line: int(line["n"]))


def outgoing(talk: Talk, method: str, at: int = 0) -> Line:
    return talk.outgoing(method)[at]


async def ends(talk: Talk, code: int, why: str) -> Line:
    """Nothing follows. Returns the last line."""
    end = await talk.finish()
    last = talk.lines[-1]
    assert (end.reason, end.exit_code) == ("exited", code)
    assert (last["why"], last["code"]) == (why, code)
    return last


def test_a_whole_round(world: World) -> None:
    """Nothing of the worktree is imported, whatever its modules are called."""
    for name in ("asyncio", "scheduler", "acp"):
        (world.cwd / f"{name}.py").write_text("raise SystemExit(77)")

    async def scenario(talk: Talk) -> None:
        first = await talk.prompt(f"plan look; edit\nusage 120 0.25\n{EDIT}", "p1")
        await talk.prompt("run echo $((6 * 7)) > answer\nsay second", "p2")
        asked = await talk.note("permission", turn=1)
        assert asked["options"] == ["allow", "always", "reject"]
        assert not (world.cwd / "notes.txt").exists()
        answer = await talk.say("answer", request=asked["request"], option="allow")
        again = await talk.note("permission", turn=2)
        await talk.say("answer", request=again["request"], option="reject")
        await talk.say("end")
        assert (await ends(talk, 0, "done"))["unsaid"] == []
        assert world.living() == []

        request = talk.lines[asked["request"] - 1]
        response = next(
            line
            for line in talk.messages("out")
            if line["message"].get("id") == request["message"]["id"] and "result" in line["message"]
        )
        told = await talk.note("answered", request=request["n"])
        assert (told["option"], told["why"], told["frame"]) == ("allow", "answer", answer)
        assert order(
            await talk.note("started"),
            outgoing(talk, "initialize"),
            await talk.note("initialized"),
            outgoing(talk, "session/new"),
            await talk.note("session", how="new"),
            outgoing(talk, "session/set_mode"),
            await talk.note("mode", mode="review_and_approve"),
            outgoing(talk, "session/set_config_option"),
            await talk.note("model", model="none-2"),
            await talk.note("turn_started", turn=1, prompt="p1", frame=first),
            outgoing(talk, "session/prompt"),
            request,
            asked,
            await talk.note("frame", number=answer, do="answer"),
            told,
            response,
            await talk.said("edited"),
            await talk.note("turn_ended", turn=1, prompt="p1", stop="end_turn", error=None),
            await talk.note("turn_started", turn=2, prompt="p2"),
            outgoing(talk, "session/prompt", 1),
            await talk.said("second"),
            await talk.note("turn_ended", turn=2, stop="end_turn"),
            await talk.note("agent_exited", code=0),
            await talk.note("done"),
        )

    world.talks(scenario, mode="review_and_approve", model="none-2")
    assert (world.cwd / "notes.txt").read_text() == "first line\n"
    assert not (world.cwd / "answer").exists()


def test_an_interrupt_ends_the_turn_and_goes_before_what_waits(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("say one\nask May I?", "p1")
        await talk.prompt("say after", "p2")
        asked = await talk.note("permission")
        await talk.prompt("say now", "p3", when="interrupt")
        await talk.say("end")
        await ends(talk, 0, "done")
        ended = [(line["prompt"], line["stop"]) for line in talk.notes("turn_ended")]
        assert ended == [("p1", "cancelled"), ("p3", "end_turn"), ("p2", "end_turn")]
        closed = await talk.note("answered", request=asked["request"])
        assert (closed["option"], closed["why"]) == (None, "interrupted")
        assert order(
            closed,
            outgoing(talk, "session/cancel"),
            await talk.turn_ended(1),
            outgoing(talk, "session/prompt", 1),
        )

    world.talks(scenario)


def test_while_paused_no_turn_begins_and_no_answer_is_passed_on(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("ask May I?", "p1")
        asked = await talk.note("permission")
        await talk.say("pause")
        await talk.say("answer", request=asked["request"], option="allow")
        await talk.prompt("say second", "p2")
        await talk.say("mode", mode="full_auto")  # the agent has answered this after those
        await talk.note("mode", mode="full_auto")
        assert talk.notes("answered") == []
        resumed = await talk.say("resume")
        await talk.turn_ended(1)
        await talk.say("pause")
        await talk.prompt("say third", "p3")
        await talk.say("mode", mode="observe_only")
        await talk.note("mode", mode="observe_only")
        assert not any(line["prompt"] == "p3" for line in talk.notes("turn_started"))
        await talk.say("resume")
        await talk.say("end")
        await ends(talk, 0, "done")
        assert order(
            await talk.note("resumed", frame=resumed),
            await talk.note("answered", option="allow"),
            await talk.said("I may."),
            await talk.said("second"),
            await talk.said("third"),
        )

    world.talks(scenario)


def test_a_cancel_ends_the_turn_and_closes_what_was_asked(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("ask May I?", "p1")
        await talk.prompt("say never", "p2")
        asked = await talk.note("permission")
        await talk.say("cancel")
        assert (await ends(talk, 17, "cancelled"))["unsaid"] == ["p2"]
        assert (await talk.note("answered", request=asked["request"]))["why"] == "cancelled"
        assert (await talk.turn_ended(1))["stop"] == "cancelled"
        assert world.living() == []

    world.talks(scenario)


def test_an_agent_that_hears_no_cancel_is_ended_after_the_grace(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("say deaf\nhang deaf")
        await talk.said("deaf")
        await talk.say("cancel")
        assert (
            "did not end its turn within 0.2 s" in (await ends(talk, 17, "cancelled"))["sentence"]
        )
        assert len(talk.outgoing("session/cancel")) == 1
        assert world.living() == []

    world.talks(scenario, limits={"cancel_grace_s": 0.2})


def test_a_crash_in_a_turn_is_told_and_its_session_can_be_loaded(world: World) -> None:
    async def crashes(talk: Talk) -> None:
        await talk.prompt("say before\ncrash 9", "p1")
        await talk.prompt("say never", "p2")
        last = await ends(talk, 15, "crashed")
        assert last["sentence"] == "The agent exited with code 9 in turn 1."
        assert last["unsaid"] == ["p2"]
        assert is_note(talk.lines[-2], "agent_exited", code=9)

    session = world.talks(crashes).notes("session")[0]["session"]

    async def goes_on(talk: Talk) -> None:
        await talk.prompt("say after")
        await talk.say("end")
        await ends(talk, 0, "done")
        assert (await talk.note("session"))["how"] == "load"
        replayed = [line for line in talk.lines if line.get("replay")]
        assert all(map(is_update, replayed))
        assert texts(replayed)[-1] == "before"
        assert texts([line for line in talk.lines if not line.get("replay")]) == ["after"]
        assert order(outgoing(talk, "session/load"), *replayed, await talk.note("session"))

    world.talks(goes_on, begin={"how": "load", "session": session})

    async def resumes(talk: Talk) -> None:
        await talk.say("end")
        await ends(talk, 0, "done")
        assert (await talk.note("session"))["how"] == "resume"
        assert not any(map(is_update, talk.lines))

    world.talks(resumes, begin={"how": "continue", "session": session})


def test_an_agent_that_exits_before_it_answers_is_a_failure_that_shows_its_output(
    world: World,
) -> None:
    async def scenario(talk: Talk) -> None:
        last = await ends(talk, 12, "left_early")
        assert "exited with code 0 before" in last["sentence"]
        assert "no longer maintained" in last["sentence"]

    world.talks(scenario, world.odd("exits"))


def test_what_an_agent_leaves_in_its_output_is_read_before_its_exit_is_told(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("quits")
        last = await ends(talk, 15, "crashed")
        assert last["sentence"] == "The agent exited with code 3 in turn 1."
        assert order(await talk.said("last words"), await talk.note("agent_exited", code=3), last)

    world.talks(scenario, world.odd())


def test_an_agent_that_does_not_answer_initialize_is_given_up(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        assert "within 0.2 s" in (await ends(talk, 13, "no_answer"))["sentence"]
        assert world.living() == []

    world.talks(scenario, world.odd("hangs"), limits={"initialize_s": 0.2})


def test_a_silent_agent_is_warned_of_and_then_given_up(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("ask May I?\nhang")
        asked = await talk.note("permission")
        # The promise is about time: an agent that waits for a person is not silent.
        await asyncio.sleep(1.0)
        assert talk.notes("warned") == []
        await talk.say("answer", request=asked["request"], option="allow")
        last = await ends(talk, 16, "silent")
        assert last["sentence"] == "The agent wrote nothing for 0.8 s."
        assert order(await talk.said("I may."), await talk.note("warned", why="silent"), last)

    world.talks(scenario, limits={"silence_warn_s": 0.3, "silence_fail_s": 0.8})


@pytest.mark.parametrize("whom", ["host", "agent"])
def test_after_kill_9_the_journal_is_complete_and_nothing_lives(world: World, whom: str) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("say here\nrun sleep 1000")
        await talk.line(lambda line: is_update(line) and "in_progress" in json.dumps(line))
        agent = (await talk.note("started"))["pid"]
        host = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(agent if whom == "agent" else host, signal.SIGKILL)
        if whom == "agent":
            last = await ends(talk, 15, "crashed")
            assert last["sentence"] == "The agent was killed by SIGKILL in turn 1."
            assert is_note(talk.lines[-2], "agent_exited", code=-9)
        else:
            end = await talk.finish()
            assert (end.reason, end.exit_code) == ("exited", -9)
            assert is_update(talk.lines[-1])
        assert world.living() == []

    world.talks(scenario, mode="full_auto")


def test_the_end_of_the_attempt_is_told(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("say here\nask May I?")
        asked = await talk.note("permission")
        await talk.running.cancel()
        end = await talk.finish()
        assert (end.reason, end.exit_code) == ("cancelled", 18)
        assert is_note(talk.lines[-1], "failed", why="stopped", code=18)
        assert talk.lines[-1]["sentence"] == "The agent's host was asked to stop."
        assert (await talk.note("answered", request=asked["request"]))["why"] == "ended"
        assert world.living() == []

    world.talks(scenario)


def test_each_frame_is_acted_on_once_and_refused_with_a_sentence(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        number = await talk.prompt("say once", "p1")
        again = {"do": "prompt", "id": "p1", "text": "say once"}
        await talk.running.send(Frame(number, json.dumps(again).encode()))
        await talk.say("prompt", id="p1", text="say once")
        await talk.say("dance")
        await talk.say("answer", request=1, option="allow")
        await talk.say("mode", mode="party")
        await talk.running.send(Frame(next(talk.numbers), b"\xff"))
        await talk.say("end")
        await ends(talk, 0, "done")
        assert [line["number"] for line in talk.notes("frame")] == [1, 2, 3, 4, 5, 6, 7]
        assert texts(talk.lines).count("once") == 1
        assert len(talk.outgoing("session/prompt")) == 1
        refused = {line["frame"]: line["sentence"] for line in talk.notes("refused")}
        assert sorted(refused) == [2, 3, 4, 5, 6]
        assert refused[2] == "The prompt 'p1' was given before."
        assert refused[3].startswith("do must be one of: answer, cancel, ")
        assert refused[4] == "The permission request 1 is not open."
        assert "Known: review_and_approve, full_auto, observe_only." in refused[5]

    world.talks(scenario)


def test_two_open_permissions_get_their_own_answers(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("two")
        await talk.line(lambda line: len(talk.notes("permission")) == 2)
        one, two = (line["request"] for line in talk.notes("permission"))
        await talk.say("answer", request=one, option="perhaps")
        await talk.say("answer", request=two, option="no")
        await talk.say("answer", request=one, option="yes")
        await talk.turn_ended(1)
        outcomes = [entry["outcome"]["optionId"] for entry in json.loads(texts(talk.lines)[-1])]
        assert outcomes == ["yes", "no"]
        assert "has no option 'perhaps': yes, no." in talk.notes("refused")[0]["sentence"]

        await talk.prompt("leaves")
        ended = await talk.turn_ended(2)
        closed = await talk.note("answered", why="turn_ended")
        assert order(closed, ended)
        await talk.say("end")
        await ends(talk, 0, "done")

    world.talks(scenario, world.odd())


def test_files_are_written_inside_the_worktree_only(world: World) -> None:
    outside = world.cwd.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("one\ntwo\n")
    (world.cwd / "link").symlink_to(outside)
    (world.cwd / "file").symlink_to(outside / "secret")
    (world.cwd / "loop").symlink_to(world.cwd / "loop")
    (world.cwd / "inner").symlink_to(world.cwd / "folder")
    (world.cwd / "folder").mkdir()
    (world.cwd / "lines").write_text("one\ntwo\nthree\n")
    os.mkfifo(world.cwd / "pipe")
    refused = [
        f"write {world.cwd}/link/new",
        f"write {world.cwd}/file",
        f"write {world.cwd}/../outside/new",
        f"write {world.cwd}/folder/../../outside/new",
        f"write {world.cwd}/loop",
        f"write {world.cwd}/pipe",
        f"write {world.cwd}/.git/config",
        f"write {world.cwd}",
        "write lines",
        f"read {world.cwd}/file",
        f"read {outside}/secret",
        f"read {world.cwd}/pipe",
    ]

    async def scenario(talk: Talk) -> None:
        for prompt in refused:
            await talk.prompt(prompt)
        await talk.prompt(f"write {world.cwd}/inner/deep/er")
        await talk.prompt(f"read {world.cwd}/lines")
        await talk.prompt(f"read {world.cwd}/none")
        await talk.say("end")
        await ends(talk, 0, "done")
        *errors, written, read, missing = (json.loads(text)[0] for text in texts(talk.lines))
        assert [error.get("code") for error in errors] == [-32602] * len(refused)
        assert "is outside the worktree" in errors[0]["data"]["details"]
        assert (written, read) == ({}, {"content": "two\n"})
        assert missing["code"] == -32002

    world.talks(scenario, world.odd())
    assert (world.cwd / "folder" / "deep" / "er").read_text() == "written"
    assert (outside / "secret").read_text() == "one\ntwo\n"
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


@pytest.fixture(scope="module")
def oddities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """One conversation with an agent that does one odd thing a turn: turn 1 is the first."""
    world = World(tmp_path_factory.mktemp("odd"))

    async def scenario(talk: Talk) -> None:
        large = f"large {20_000_000}"
        for prompt in ("late", "order", "meta", "future", "sees", "stderr", large, "noise"):
            await talk.prompt(prompt, prompt.split()[0])
        asked = await talk.note("permission")
        await talk.say("answer", request=asked["request"], option="yes")
        await talk.say("end")
        await ends(talk, 0, "done")
        talk.errors = b"".join([part async for part in talk.running.output(channel="stderr")])

    yield world.talks(scenario, world.odd())
    world.end_all()


def turn(talk: Talk, prompt: str) -> list[Line]:
    """The lines of a turn."""
    begun = next(line["n"] for line in talk.notes("turn_started") if line["prompt"] == prompt)
    ended = next(line["n"] for line in talk.notes("turn_ended") if line["prompt"] == prompt)
    assert talk.lines[ended - 1]["stop"] == "end_turn"
    return talk.lines[begun:ended]


def test_five_hundred_updates_keep_their_order(oddities: Talk) -> None:
    assert texts(turn(oddities, "order")) == [str(number) for number in range(500)]


def test_the_session_is_the_process_whatever_messages_say(oddities: Talk) -> None:
    lines = turn(oddities, "meta")
    assert texts(lines)[0] == "mine"
    assert json.loads(texts(lines)[1])[0]["outcome"]["optionId"] == "yes"
    assert next(line for line in lines if is_note(line, "permission"))["options"] == ["yes", "no"]
    sessions = {
        line["message"]["params"]["sessionId"] for line in oddities.outgoing("session/prompt")
    }
    assert sessions == {"odd-1"}


def test_what_the_host_does_not_know_is_in_the_journal_as_it_came(oddities: Talk) -> None:
    lines = turn(oddities, "future")
    updates = [line["message"]["params"]["update"] for line in lines if is_update(line)]
    assert updates[0] == {"sessionUpdate": "from_the_future", "x": [1, {}]}
    methods = [line["message"].get("method") for line in lines if line.get("dir") == "in"]
    assert methods[1] == "vendor/notify"
    assert json.loads(texts(lines)[0])[0]["code"] == -32601


def test_what_comes_after_the_end_of_a_turn_is_later_in_the_journal(oddities: Talk) -> None:
    late = next(line for line in oddities.messages("in") if line["message"].get("method") == "late")
    assert order(oddities.notes("turn_ended")[0], late)


def test_the_agent_sees_nothing_of_journal_and_inbox(oddities: Talk) -> None:
    variables, descriptors = json.loads(texts(turn(oddities, "sees"))[0])
    assert [name for name in variables if name.startswith("CREWLOG_")] == [
        "CREWLOG_ATTEMPT",
        "CREWLOG_JOB_ID",
        "CREWLOG_SCRIPTED_STATE",
    ]
    assert descriptors == 4  # standard ones, and the folder that is listed


def test_a_megabyte_of_errors_holds_nobody_up(oddities: Talk) -> None:
    assert oddities.errors == b"e" * 999_999 + b"\n"


def test_a_message_of_twenty_megabytes_passes(oddities: Talk) -> None:
    assert [len(text) for text in texts(turn(oddities, "large"))] == [20_000_000]


def test_what_is_no_message_is_noted_in_short_and_skipped(oddities: Talk) -> None:
    lines = turn(oddities, "noise")
    noise = [line for line in lines if is_note(line, "noise")]
    assert [line["bytes"] for line in noise] == [8, 10_000, 4, 1, 3, 10, 6, 100_000, 10]
    assert noise[0]["text"] == "Welcome!"
    assert max(len(line["text"]) for line in noise) == 500
    half = next(line for line in lines if line.get("message", {}).get("method") == "half")
    assert half["message"]["params"] == {"text": "?"}
    assert texts(lines) == ["still here"]


def test_an_agent_of_another_protocol_is_refused(world: World) -> None:
    async def scenario(talk: Talk) -> None:
        assert "speaks version 2" in (await ends(talk, 14, "refused"))["sentence"]

    world.talks(scenario, world.odd("new"))


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        ({"mode": "party"}, "no mode 'party'. Known: review_and_approve, full_auto, observe_only."),
        (
            {"begin": {"how": "load", "session": "../x"}},
            "crewlog-scripted did not load the session '../x': There is no session '../x'..",
        ),
    ],
)
def test_what_the_agent_refuses_ends_the_host_before_a_turn(
    world: World, configuration: dict[str, Any], sentence: str
) -> None:
    async def scenario(talk: Talk) -> None:
        await talk.prompt("say never", "p1")
        last = await ends(talk, 14, "refused")
        assert sentence in last["sentence"]
        assert last["unsaid"] == ["p1"]
        assert talk.outgoing("session/prompt") == []

    world.talks(scenario, SCRIPTED, **configuration)


@pytest.mark.parametrize(
    ("configuration", "code", "why", "sentence"),
    [
        ({"argv": []}, 10, "unusable", "argv must be a list of texts"),
        ({"color": "red"}, 10, "unusable", "unknown: color. Known: argv, "),
        ({"begin": {"how": "load"}}, 10, "unusable", "which session is it to load?"),
        ({"limits": {"initialize_s": -1}}, 10, "unusable", "limits.initialize_s must be"),
        ({"argv": ["no-such"]}, 11, "not_started", "'no-such': No such file or directory."),
    ],
)
def test_a_host_that_cannot_begin_says_why(
    world: World, configuration: dict[str, Any], code: int, why: str, sentence: str
) -> None:
    async def scenario(talk: Talk) -> None:
        assert sentence in (await ends(talk, code, why))["sentence"]

    world.talks(scenario, **configuration)
