"""What can be asked of ``/api/jobs``: filters, and what they mean."""

from domain.errors import Invalid
from projections.jobs import STATES

_SPELLINGS = {**{state: state for state in STATES}, "canceled": "cancelled"}
"""What a filter takes, and which state it means: CodePlane spells one of them in its own way."""


STATE_LIST = rf"^[ ,]*$|(?:^|,) *(?:{'|'.join(sorted(_SPELLINGS))}) *(?:,|$)"


def states_of(given: str | None) -> frozenset[str]:
    """The states that a comma list selects, in either spelling. Unknown names select nothing, as
    CodePlane's page relies on (`contracts/codeplane.md` §3); Invalid if all are unknown.
    """
    if not given:
        return frozenset()
    names = [name.strip() for name in given.split(",") if name.strip()]
    selected = frozenset(_SPELLINGS[name] for name in names if name in _SPELLINGS)
    if names and not selected:
        raise Invalid(f"No such state. States are {', '.join(STATES)}.")
    return selected
