"""An agent that does what no agent should. Its first argument says how it begins; after that each
prompt says what it does. Standard library only.
"""

import json
import os
import sys
import time
from typing import Any

SESSION = "odd-1"
OPTIONS = [{"optionId": name, "name": name, "kind": "allow_once"} for name in ("yes", "no")]

asked = 0
results: dict[int, Any] = {}


def line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def send(**message: Any) -> None:
    line(encode(**message))


def encode(**message: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", **message})


def say(text: str, **more: Any) -> None:
    content = {"type": "text", "text": text}
    update({"sessionUpdate": "agent_message_chunk", "content": content}, **more)


def update(update: dict[str, Any], session: str = SESSION, **more: Any) -> None:
    send(method="session/update", params={"sessionId": session, "update": update, **more})


def ask(method: str, **params: Any) -> int:
    global asked
    asked += 1
    send(id=asked, method=method, params={"sessionId": SESSION, **params})
    return asked


def answers(*numbers: int) -> list[Any]:
    """Wait for all of them."""
    while not all(number in results for number in numbers):
        receive()
    return [results[number] for number in numbers]


def permission(name: str, **more: Any) -> int:
    call = {"toolCallId": name, "title": None}
    return ask("session/request_permission", toolCall=call, options=OPTIONS, **more)


def receive() -> None:
    text = sys.stdin.readline()
    if not text:
        os._exit(0)
    message = json.loads(text)
    match message.get("method"):
        case None:
            results[message["id"]] = message.get("result", message.get("error"))
        case "initialize":
            version = 2 if "new" in sys.argv else 1
            send(id=message["id"], result={"protocolVersion": version})
        case "session/new":
            send(id=message["id"], result={"sessionId": SESSION})
        case "session/prompt":
            text = message["params"]["prompt"][0]["text"]
            act(*text.split(" ", 1))
            response = encode(id=message["id"], result={"stopReason": "end_turn"})
            # With `late` an update follows, and both come at once.
            line(f"{response}\n{encode(method='late')}" if text == "late" else response)


def act(what: str, argument: str = "") -> None:
    match what:
        case "order":
            for number in range(500):
                say(str(number))
        case "meta":
            evil: dict[str, Any] = {
                "session_id": "EVIL",
                "update": None,
                "options": [],
                "tool_call": None,
            }
            say("mine", _meta=evil)
            update({"sessionUpdate": "current_mode_update"}, session="EVIL", _meta=evil)
            say(json.dumps(answers(permission("call", _meta=evil))))
        case "future":
            update({"sessionUpdate": "from_the_future", "x": [1, {}]})
            send(method="vendor/notify", params=[1])
            say(json.dumps(answers(ask("terminal/create", command="true"))))
        case "sees":
            say(json.dumps([sorted(os.environ), len(os.listdir("/proc/self/fd"))]))
        case "stderr":
            sys.stderr.write("e" * 999_999 + "\n")
            sys.stderr.flush()
        case "large":
            say("x" * int(argument))
        case "noise":
            line("Welcome!")
            line("n" * 10_000)
            for text in ("null", "7", "[1]", '{"a": NaN}', '"text"', "[" * 100_000):
                line(text)
            sys.stdout.buffer.write(b'{"a": "\xff"}\n')
            line('{"jsonrpc": "2.0", "id": [1], "result": {}}')
            line('{"jsonrpc": "2.0", "id": 77, "error": "a text"}')
            line('{"jsonrpc": "2.0", "method": "half", "params": {"text": "\\ud800"}}')
            say("still here")
        case "two":
            say(json.dumps(answers(permission("first"), permission("second"))))
        case "quits":
            parent = os.getpid()
            if os.fork():
                os._exit(3)
            while os.path.exists(f"/proc/{parent}"):
                time.sleep(0.1)  # its exit is known before this writes
            say("last words")
            os._exit(0)
        case "leaves":
            permission("left open")
        case "write":
            say(json.dumps(answers(ask("fs/write_text_file", path=argument, content="written"))))
        case "read":
            say(json.dumps(answers(ask("fs/read_text_file", path=argument, line=2, limit=1))))


def main(begins: str) -> None:
    match begins:
        case "exits":
            print("This agent is no longer maintained.")
            sys.exit(0)
        case "hangs":
            while sys.stdin.readline():
                pass
            return
    while True:
        receive()


if __name__ == "__main__":
    main(sys.argv[1])
