"""Events of schedules, with defaults for the fields that a test does not need."""

from typing import Any

from domain.schedule.aggregate import ScheduleFired


def fired(nominal: str, **changes: Any) -> ScheduleFired:
    """The first firing of a schedule, on time and by its rule."""
    fields: dict[str, Any] = {
        "due_at": nominal,
        "late_ms": 0,
        "firing": 1,
        "catch_up": False,
        "manual": False,
    }
    return ScheduleFired(nominal=nominal, **fields | changes)
