"""Time in the domain: aware, in UTC, and injected, so that a test can set it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The present time, aware, in UTC."""
    return datetime.now(UTC)


def format_time(moment: datetime) -> str:
    """ISO 8601 in UTC with six digits of a second and ``Z``. The width is fixed, so the order of
    texts is the order of times.

    Raises ValueError for a naive datetime, because it could mean any instant.
    """
    if moment.tzinfo is None:
        raise ValueError("A time needs a zone: naive datetimes are refused.")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`. Takes any ISO 8601 time that has an offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("A time needs a zone: naive datetimes are refused.")
    return moment.astimezone(UTC)


def elapsed_ms(start: str, end: str) -> int:
    """Whole milliseconds between two stored times. Never negative, because clocks can step back."""
    return max(0, round((parse_time(end) - parse_time(start)).total_seconds() * 1000))
