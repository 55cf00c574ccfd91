"""Measures a ratio: both sides in turn, in several rounds; the median of the rounds' ratios."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """`value` is the median of ours / baseline over the rounds; the rates are the medians of each
    side.
    """

    value: float
    ours: float
    baseline: float


def ratio(ours: Callable[[], float], baseline: Callable[[], float], *, rounds: int = 3) -> Ratio:
    """Both return a rate; higher is better. They run in turn, so that a slow machine slows both."""
    pairs = [(ours(), baseline()) for _ in range(rounds)]
    return Ratio(
        round(median(a / b for a, b in pairs), 3),
        round(median(a for a, _ in pairs), 1),
        round(median(b for _, b in pairs), 1),
    )


def percentile(values: list[float], share: float) -> float:
    """The percentile by nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1)]


def say(text: str) -> None:
    """Print progress on stderr, because stdout has only the JSON object."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
