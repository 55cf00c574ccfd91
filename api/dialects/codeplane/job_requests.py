"""The filters of ``/api/jobs``, and their meaning."""

from domain.errors import Invalid
from projections.jobs import STATES

_SPELLINGS = {**{state: state for state in STATES}, "canceled": "cancelled"}
"""The names that a filter takes, with the state of each. CodePlane spells one of them
differently.
"""


STATE_LIST = rf"^[ ,]*$|(?:^|,) *(?:{'|'.join(sorted(_SPELLINGS))}) *(?:,|$)"


def states_of(given: str | None) -> frozenset[str]:
    """The states of a comma-separated list, in either spelling. Unknown names select nothing, as
    CodePlane's page needs (`contracts/codeplane.md` §3). Raises Invalid if all are unknown.
    """
    if not given:
        return frozenset()
    names = [name.strip() for name in given.split(",") if name.strip()]
    selected = frozenset(_SPELLINGS[name] for name in names if name in _SPELLINGS)
    if names and not selected:
        raise Invalid(f"There is no such state. Known: {', '.join(STATES)}.")
    return selected
