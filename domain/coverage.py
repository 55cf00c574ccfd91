"""What a reader of the log passes over: it shows an event type or says that it does not.

A reader states it beside its code, so that a new event type is not lost by oversight: a test fails
until every wire form and every view has decided about it.
"""

from collections.abc import Collection, Iterable


def types(nouns: str = "", **names: str) -> frozenset[str]:
    """Whole nouns, and some types of other nouns: ``types("crew user", job="queued started")``."""
    of_noun = (f"{noun}.{name}" for noun, listed in names.items() for name in listed.split())
    return frozenset(nouns.split()).union(of_noun)


def gaps(known: Iterable[str], shown: Collection[str], passed_over: Collection[str]) -> list[str]:
    """What is wrong with a reader's decisions about the types that are known, a sentence each; none
    where each is either shown or passed over.

    A noun may be passed over as a whole only by a reader that shows nothing of it, so a new type of
    a noun that matters is always asked about.
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
        f"{noun} is passed over as a whole, and something of it is shown."
        for noun in passed_over
        if noun in shown_nouns
    ]
    wrong += [
        f"There is no {name}."
        for name in (*shown, *passed_over)
        if name not in known and name not in nouns
    ]
    return sorted(wrong)
