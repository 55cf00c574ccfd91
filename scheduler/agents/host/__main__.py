"""Starts the agent and its conversation. See `scheduler.agents.host`."""

import asyncio
import logging
import os
import sys

from scheduler.agents.host.agent_process import AgentProcess
from scheduler.agents.host.configuration import (
    Unusable,
    inbox_path,
    journal_descriptor,
    read_configuration,
)
from scheduler.agents.host.endings import Ended, Ending, ExitCode
from scheduler.agents.host.journal import Journal
from scheduler.executors.inbox import Inbox


async def converse(journal: Journal) -> int:
    """The exit code."""
    try:
        configuration = read_configuration(os.environ)
        inbox = Inbox(inbox_path(os.environ), after=0)
        process = AgentProcess(configuration)
    except Unusable as error:
        return close(journal, Ending(ExitCode.UNUSABLE, str(error)), [])
    except Ended as ended:
        return close(journal, ended.ending, [])
    journal.note("started", argv=configuration.argv, pid=process.pid)
    # Importing the SDK takes about as long as an agent needs to start. So it starts meanwhile.
    from scheduler.agents.host.conversation import Conversation

    conversation = Conversation(configuration, journal, inbox, process)
    return close(journal, *await conversation.run())


def close(journal: Journal, ending: Ending, unsaid: list[str]) -> int:
    """Write the last line of the journal."""
    journal.note(
        ending.note,
        why=ending.why,
        code=ending.code,
        sentence=ending.sentence,
        unsaid=unsaid,
    )
    return ending.code


def main() -> int:
    # The SDK logs each line that it cannot use, with its text. The journal has all of them.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        descriptor = journal_descriptor(os.environ)
    except Unusable as error:
        print(error, file=sys.stderr)
        return ExitCode.UNUSABLE
    os.set_inheritable(descriptor, False)
    return asyncio.run(converse(Journal(descriptor)))


if __name__ == "__main__":
    sys.exit(main())
