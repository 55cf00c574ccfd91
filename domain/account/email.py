"""E-mail addresses: which of two spellings are the same address.

Only ASCII case is folded. Unicode's case folding is made for searching: it equates the Kelvin sign
with k and ß with ss, so the owner of another mailbox could pass for the account's owner. Domains
are compared as in the DNS, after IDNA 2008 (RFC 5891); their letters have no case (RFC 5895).
"""

import string

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(address: str) -> str:
    """One form for all spellings of an address. Also takes a domain alone, such as
    ``@example.org``.
    """
    local, at, domain = address.strip().translate(_ASCII_LOWER).rpartition("@")
    return f"{local}@{_ascii(domain)}" if at else domain


def spellings(address: str) -> frozenset[str]:
    """The address with its domain in A-labels and in Unicode: both spellings that a list may
    have.
    """
    same = folded(address)
    local, at, domain = same.rpartition("@")
    return frozenset({same, f"{local}{at}{_unicode(domain)}"})


def same_but_for_unicode(one: str, other: str) -> bool:
    """Whether two different addresses are equal under Unicode's case folding, which earlier
    versions used.
    """
    return one.strip().casefold() == other.strip().casefold() and folded(one) != folded(other)


def has_domain(address: str) -> bool:
    """Whether the part after the @ can be a domain: in ASCII, or one that IDNA 2008 allows."""
    return _ascii(address.rpartition("@")[2]).isascii()


def _ascii(domain: str) -> str:
    """A domain in A-labels. A domain that IDNA 2008 does not allow is returned unchanged."""
    if domain.isascii():
        return domain
    import idna  # its tables are large, and few servers need them

    try:
        return idna.encode("".join(map(_small, domain)), strict=True).decode()
    except UnicodeError:  # the library's error for such a domain
        return domain


def _small(character: str) -> str:
    """The small letter, but never an ASCII one for another: the Kelvin sign is no k."""
    small = character.lower()
    return character if small.isascii() and not character.isascii() else small


def _unicode(domain: str) -> str:
    if "xn--" not in domain:
        return domain
    import idna

    try:
        return idna.decode(domain, strict=True)
    except UnicodeError:
        return domain
