"""Every wire form and every view shows or passes over every event type of the catalogue."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

import pytest

import api
from api.edge.sse import WireForm
from domain.catalogue import CATALOGUE
from domain.coverage import gaps, types
from domain.log import Recorded
from domain.log.archive import Export
from projections.projection import Projection
from projections.views import PROJECTIONS

NEWEST = sorted((Path(__file__).parent.parent / "golden").glob("*.ndjson"))[-1]


def wire_forms() -> dict[str, WireForm]:
    """All wire forms in the API's modules, by place."""
    found: dict[str, WireForm] = {}
    for module in pkgutil.walk_packages(api.__path__, "api."):
        if module.name.endswith("__main__"):
            continue
        held = vars(importlib.import_module(module.name)).values()
        forms = [form for form in held if isinstance(form, WireForm)]
        found |= {form.name: form for form in forms}
        found |= {form.interim.name: form.interim for form in forms}
    return found


FORMS = wire_forms()


@cache
def history() -> list[Recorded]:
    """A log that holds every event type."""
    with NEWEST.open("rb") as lines:
        return [event for page in Export(lines, CATALOGUE).pages() for event in page]


def test_the_wire_forms_are_found() -> None:
    assert FORMS.keys() >= {"envelope", "gitoma", "gitoma interim", "board", "codeplane"}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_wire_form_shows_each_event_type_or_says_that_it_does_not(form: WireForm) -> None:
    shown = {event.type for event in history() if form.encode(event)}
    assert gaps(CATALOGUE, shown, form.passes_over) == []


@pytest.mark.parametrize("view", PROJECTIONS, ids=lambda view: view.name)
def test_a_view_folds_each_event_type_or_says_that_it_does_not(view: Projection) -> None:
    assert gaps(CATALOGUE, view.folds, view.passes_over) == []
    assert view.births <= view.folds.keys()


def test_a_new_type_is_asked_about_by_all() -> None:
    newer = {*CATALOGUE, "job.renamed"}
    for view in PROJECTIONS:
        asked = gaps(newer, view.folds, view.passes_over)
        whole = "job" in view.passes_over
        assert asked == ([] if whole else ["job.renamed is neither shown nor passed over."])
    newest = {*CATALOGUE, "budget.set"}
    for view in PROJECTIONS:
        asked = gaps(newest, view.folds, view.passes_over)
        assert asked == ["budget.set is neither shown nor passed over."]


def test_what_is_decided_twice_or_about_nothing_is_wrong() -> None:
    known = ["job.queued", "job.started", "user.renamed"]
    shown = ["job.queued"]
    assert gaps(known, shown, types("user", job="started")) == []
    assert gaps(known, shown, types("user", job="started queued")) == [
        "job.queued is shown and passed over."
    ]
    assert gaps(known, shown, types("job user")) == [
        "job is passed over as a whole, but one of its types is shown."
    ]
    assert gaps(known, shown, types("user crew", job="started gone")) == [
        "The catalogue has no crew.",
        "The catalogue has no job.gone.",
    ]
