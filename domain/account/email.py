"""E-mail addresses: which of two spellings are the same address.

ASCII case alone is folded. Unicode's case folding is for searching: by it the Kelvin sign is a k
and ß is ss, so that somebody with another mailbox would be taken for its owner. Domains are
compared as the DNS has them, after IDNA 2008 (RFC 5891).
"""

import string

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(address: str) -> str:
    """The same text for every spelling of one address; also for a domain alone, as
    ``@example.org``.
    """
    local, at, domain = address.strip().translate(_ASCII_LOWER).rpartition("@")
    return f"{local}@{_ascii(domain)}" if at else domain


def spellings(address: str) -> frozenset[str]:
    """An address with its domain in both alphabets: what a list may name it by, but for case."""
    same = folded(address)
    local, at, domain = same.rpartition("@")
    return frozenset({same, f"{local}{at}{_unicode(domain)}"})


def same_but_for_unicode(one: str, other: str) -> bool:
    """Whether Unicode's case folding, by which earlier versions compared, makes two addresses one
    that are not.
    """
    return one.strip().casefold() == other.strip().casefold() and folded(one) != folded(other)


def _ascii(domain: str) -> str:
    """A domain in A-labels. One that IDNA 2008 does not know stays as it is: it is only itself."""
    if domain.isascii():
        return domain
    import idna  # its tables are large, and few servers ever meet such a domain

    try:
        return idna.encode(domain, strict=True).decode()
    except UnicodeError:  # what the library raises
        return domain


def _unicode(domain: str) -> str:
    if "xn--" not in domain:
        return domain
    import idna

    try:
        return idna.decode(domain, strict=True)
    except UnicodeError:
        return domain
