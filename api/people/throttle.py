"""Slows down repeated wrong passwords, by account and by address, in bounded memory."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from domain.account.email import folded

MOST_KEYS = 20_000
"""Accounts and addresses that are remembered. Those without failures for longest are dropped
first.
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """Some failures are free; then each one doubles the wait, up to a limit. All failures are
    forgotten after some time without one. Times in seconds.
    """

    free: int
    longest_s: float
    forgotten_s: float = 3_600.0
    first_s: float = 1.0

    def wait_s(self, failures: int) -> float:
        over = failures - self.free
        return 0.0 if over < 0 else min(self.longest_s, self.first_s * 2.0 ** min(over, 30))


ACCOUNT_PACE = Pace(free=5, longest_s=300.0)
"""For one account, from any address."""
ADDRESS_PACE = Pace(free=20, longest_s=60.0)
"""For one address. Gentler, because behind a proxy all people may share it."""


@dataclass(slots=True)
class _Failures:
    count: int
    until: float
    forgotten: float


@dataclass(frozen=True, slots=True)
class Refused:
    """An attempt that is refused without a look at the password. `first`: the first refusal since
    the failures began.
    """

    retry_after_s: int
    failures: int
    first: bool


class Attempts:
    """Counts failures in a row. For one event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._told: set[tuple[str, str]] = set()

    def begin(self, account: str | None, address: str | None) -> Refused | None:
        """Count an attempt as failed for now, so that many at once cannot all pass. None if the
        password may be checked. Attempts for no account are counted only by address.
        """
        paces = self._paces(account, address)
        now = self._now()
        for key in paces:
            waiting = self._known(key, now)
            if waiting is not None and waiting.until > now:
                first = key not in self._told
                self._told.add(key)
                return Refused(math.ceil(waiting.until - now), waiting.count, first)
        for key, pace in paces.items():
            self._count(key, pace, now)
        return None

    def succeeded(self, account: str | None, address: str | None) -> None:
        """The password was right. Other failures of the address stay counted."""
        for key in self._paces(account, address):
            if key[0] == "account":
                self._forget(key)
                continue
            failures = self._failures.get(key)
            if failures is not None:
                failures.count -= 1
                failures.until = 0.0
                if not failures.count:
                    self._forget(key)

    def _paces(self, account: str | None, address: str | None) -> dict[tuple[str, str], Pace]:
        paces: dict[tuple[str, str], Pace] = {}
        if account is not None:
            paces["account", folded(account)[:320]] = ACCOUNT_PACE
        if address is not None:
            paces["address", address] = ADDRESS_PACE
        return paces

    def _known(self, key: tuple[str, str], now: float) -> _Failures | None:
        failures = self._failures.get(key)
        if failures is not None and failures.forgotten <= now:
            self._forget(key)
            return None
        return failures

    def _count(self, key: tuple[str, str], pace: Pace, now: float) -> None:
        failures = self._known(key, now) or _Failures(0, 0.0, 0.0)
        failures.count += 1
        failures.until = now + pace.wait_s(failures.count)
        failures.forgotten = now + pace.forgotten_s
        self._failures[key] = failures
        self._failures.move_to_end(key)
        while len(self._failures) > MOST_KEYS:
            self._forget(next(iter(self._failures)))

    def _forget(self, key: tuple[str, str]) -> None:
        self._failures.pop(key, None)
        self._told.discard(key)
