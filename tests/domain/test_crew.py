"""A crew: which job waits for which, and the state of the whole crew."""

from itertools import product

import pytest

from domain.crew.events import CREW_STATES, Crew, crew_state
from domain.job.events import ENDED, JobState
from tests.kit.crews import member


def crew(**parents: str) -> Crew:
    """A crew of jobs with one-letter names; the parents of each as one word."""
    members = tuple(member(name, *waits_for) for name, waits_for in parents.items())
    return Crew("c", "operator", members)


DIAMOND = crew(a="", b="a", c="a", d="bc", e="d", x="")


def test_children_are_those_that_wait_for_it_themselves() -> None:
    assert DIAMOND.children("a") == ["b", "c"]
    assert DIAMOND.children("d") == ["e"]
    assert DIAMOND.children("x") == []


def test_descendants_wait_by_any_way_and_stand_once_in_dependency_order() -> None:
    assert DIAMOND.descendants("a") == ["b", "c", "d", "e"]
    assert DIAMOND.descendants("c") == ["d", "e"]
    assert DIAMOND.descendants("x") == []


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["held", "held"], "held"),
        (["queued", "held"], "running"),
        (["completed", "held"], "running"),
        (["completed", "running"], "running"),
        (["completed", "completed"], "completed"),
        (["running", "blocked"], "blocked"),
        (["waiting_for_approval", "running"], "waiting_for_approval"),
        (["waiting_for_approval", "blocked"], "blocked"),
        (["failed", "held"], "failed"),
        (["failed", "running"], "running"),
        (["cancelled", "completed"], "failed"),
        (["timed_out"], "failed"),
    ],
)
def test_a_crew_stands_as_what_most_needs_looking_at(states: list[str], state: str) -> None:
    assert crew_state(states) == state


def test_every_mixture_of_jobs_gives_a_crew_a_state() -> None:
    for states in product([state.value for state in JobState], repeat=3):
        found = crew_state(states)
        assert found in CREW_STATES
        assert found == crew_state(states[::-1])
        assert (found == "completed") == (set(states) == {"completed"})
        if set(states) <= {state.value for state in ENDED}:
            assert found in ("completed", "failed")
