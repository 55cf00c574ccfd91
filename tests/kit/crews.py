"""Crews, with defaults for the fields that a test does not need."""

from domain.crew.events import CrewMember


def member(name: str, *parents: str) -> CrewMember:
    """A job of a crew whose id, key and title are its name."""
    return CrewMember(id=name, local=name, title=name, parents=list(parents))
