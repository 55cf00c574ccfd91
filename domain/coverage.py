"""Which event types a reader of the log passes over.

Each reader says so beside its code, so that no new event type is lost by oversight: a test fails
until every wire form and every view either shows a type or passes it over.
"""

from collections.abc import Collection, Iterable


def types(nouns: str = "", **names: str) -> frozenset[str]:
    """Whole nouns, and single types of other nouns: ``types("crew user", job="queued
    started")``.
    """
    of_noun = (f"{noun}.{name}" for noun, listed in names.items() for name in listed.split())
    return frozenset(nouns.split()).union(of_noun)


def gaps(known: Iterable[str], shown: Collection[str], passed_over: Collection[str]) -> list[str]:
    """What is wrong with a reader's decisions, a sentence each. Empty if each known type is either
    shown or passed over.

    A reader may pass over a whole noun only if it shows nothing of it. So it must decide about each
    new type of a noun that it does show.
    """
    known = frozenset(known)
    nouns = {name.partition(".")[0] for name in known}
    shown_nouns = {name.partition(".")[0] for name in shown}
    wrong = [
        f"{name} is neither shown nor passed over."
        for name in known
        if name not in shown
        and name not in passed_over
        and name.partition(".")[0] not in passed_over
    ]
    wrong += [f"{name} is shown and passed over." for name in passed_over if name in shown]
    wrong += [
        f"{noun} is passed over as a whole, but one of its types is shown."
        for noun in passed_over
        if noun in shown_nouns
    ]
    wrong += [
        f"The catalogue has no {name}."
        for name in (*shown, *passed_over)
        if name not in known and name not in nouns
    ]
    return sorted(wrong)
