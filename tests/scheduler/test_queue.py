"""The fair queue."""

from scheduler.dispatch.queue import FairQueue

OWNERS = {"a1": "ada", "a2": "ada", "a3": "ada", "b1": "bob", "c1": None}


def queue(owner_capacity: int = 0, jobs: tuple[str, ...] = tuple(OWNERS)) -> FairQueue:
    made = FairQueue(owner_capacity)
    for job_id in jobs:
        made.put(job_id, owner=OWNERS[job_id])
    return made


def chosen(made: FairQueue, room: int, *owners: str, busy: tuple[str, ...] = ()) -> list[str]:
    return [waiting.job_id for waiting in made.choose(room, owners, busy)]


def test_first_queued_is_first_chosen_and_leaves_the_queue() -> None:
    made = queue()
    assert chosen(made, 2) == ["a1", "a2"]
    assert len(made) == 3
    assert chosen(made, 9) == ["a3", "b1", "c1"]
    assert chosen(made, 9) == []


def test_without_room_nobody_is_chosen() -> None:
    made = queue()
    assert chosen(made, 0) == chosen(made, -1) == []
    assert len(made) == 5


def test_an_owner_has_no_more_places_than_the_limit() -> None:
    made = queue(2)
    assert chosen(made, 9, "ada") == ["a1", "b1", "c1"]
    assert chosen(made, 9, "ada", "ada") == []
    assert chosen(made, 9, "ada") == ["a2"]


def test_whose_owner_is_not_known_is_not_counted() -> None:
    made = FairQueue(1)
    for job_id in ("x", "y"):
        made.put(job_id)
    assert chosen(made, 9) == ["x", "y"]


def test_what_is_busy_is_passed_over_and_stays() -> None:
    made = queue()
    assert chosen(made, 2, busy=("a1", "a2")) == ["a3", "b1"]
    assert chosen(made, 2) == ["a1", "a2"]


def test_what_was_dropped_is_not_chosen_and_what_is_put_again_keeps_its_place() -> None:
    made = queue()
    made.drop("a1")
    made.drop("nobody")
    made.put("a2", owner="ada")
    assert chosen(made, 9) == ["a2", "a3", "b1", "c1"]
