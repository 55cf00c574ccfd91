"""Foreign texts as pages: a person can read what a job wrote, and it can do nothing.

Markdown is rendered without its HTML and sanitised afterwards, within a time limit: a text can be
made so that it takes time by the square of its length. Other text is escaped. The page's
policy lets nothing run and nothing be fetched (`POLICY`).
"""

import time
from html import escape
from typing import Any

LARGEST = 1_048_576
"""Most bytes of a text that is shown as a page."""

POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of everything that a job wrote (CSP Level 3)."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: break-word; }
pre, code { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; white-space: pre-wrap; }
article pre { padding: .75rem; border: 1px solid #8884; border-radius: 4px; }
table { border-collapse: collapse; } th, td { border: 1px solid #8886; padding: .25rem .6rem; }
blockquote { margin-left: 0; padding-left: 1rem; border-left: 3px solid #8886; }
img { max-width: 100%; }
"""
LIMIT_S = 2.0
"""Seconds for reading a Markdown text. An ordinary one of half a megabyte takes less."""

_TOO_SLOW = "<p>Reading this text as Markdown takes too long. This is the text itself.</p>"

_SCHEMES = {"http", "https", "mailto"}


def is_text(mime: str) -> bool:
    """Whether a person can read a file of this media type as text."""
    return mime.startswith("text/") or mime in _TEXTS


_TEXTS = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/x-ndjson",
        "application/yaml",
        "application/toml",
        "application/xml",
        "application/javascript",
        "application/x-sh",
    }
)


def page(title: str, mime: str, text: str) -> str:
    """A whole HTML document that shows the text."""
    body = _rendered(text) if mime == "text/markdown" else _plain(text)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _plain(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


class _TooSlow(Exception):
    pass


def _look_at_the_clock(state: Any, *_: object) -> bool:
    """A rule of the reader, tried before all others wherever it is in the text. It applies nowhere,
    and stops the reader in time.
    """
    if time.monotonic() > state.env["until"]:
        raise _TooSlow
    return False


def _rendered(markdown: str) -> str:
    # Imported at first use: most servers never show a document.
    import nh3
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    for rules in (reader.block.ruler, reader.inline.ruler):
        rules.before(rules.get_active_rules()[0], "clock", _look_at_the_clock)
    try:
        read = reader.render(markdown, {"until": time.monotonic() + LIMIT_S})
    except _TooSlow:
        return _TOO_SLOW + _plain(markdown)
    html = nh3.clean(read, url_schemes=_SCHEMES, link_rel="noopener noreferrer nofollow")
    return f"<article>{html}</article>"
