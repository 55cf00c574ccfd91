"""If-Match names one version, any version, or nothing that this server issues."""

import pytest

from api.edge.entity_tags import etag, version_of
from domain.errors import PreconditionFailed


@pytest.mark.parametrize(
    ("if_match", "version"),
    [(None, None), ("*", None), (" * ", None), ('"7"', 7), ('W/"7"', 7), (etag(12), 12)],
)
def test_a_tag_of_this_server_names_its_version(if_match: str | None, version: int | None) -> None:
    assert version_of(if_match) == version


@pytest.mark.parametrize(
    "if_match", ["", '""', '"x"', '"-1"', '"1","2"', '"²"', '"١"', '"' + "9" * 19 + '"', "ÿ"]
)
def test_any_other_tag_names_no_version(if_match: str) -> None:
    with pytest.raises(PreconditionFailed):
        version_of(if_match)
