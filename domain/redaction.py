"""Hides credentials before anything reaches the log, because the log is kept for ever.

It hides two kinds: known secrets (the server's own, given to `Redactor`), and text that has the
form of a secret: credentials in URLs (`contracts/gitoma.md §5`, and its failing 9.15), tokens of
well-known services, private keys, and values assigned to names such as `password`. The second kind
is a judgement, and prefers to hide: a password in the log cannot be taken back, but a word that was
hidden wrongly can be asked for again. Output must stay readable, so code, prose about tokens,
counts of tokens, hashes and identifiers are left alone. The corpus in
`tests/domain/test_redaction.py` shows the border.

Ordinary lines are the hot path: each rule first searches for a substring that its pattern needs. No
pattern takes more than linear time: repetitions are bounded or possessive.
"""

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from itertools import chain, takewhile
from operator import eq
from typing import NamedTuple, TypeAlias
from urllib.parse import quote, quote_plus

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

HIDDEN = "[REDACTED]"
SHORTEST_SECRET = 6
"""Shorter secrets are not searched for: they would be found in ordinary words."""

_MOST_PASSES = 8
_DEEPEST = 200
_MOST_NAMES = 1_000
_MANY = 8


class Redactor:
    """Hides text that looks like a credential, and the given secrets wherever they appear.

    A secret is also found URL-encoded, JSON-escaped, and within base64 at any alignment. Of a
    secret with several lines, each line of 16 characters or more is also found. Secrets shorter
    than `SHORTEST_SECRET` are ignored. Redacting twice gives the same as redacting once.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._secrets = sorted(forms, key=lambda form: (-len(form), form))
        self._longest = max(_LONGEST_BEGINNING, *map(len, forms), 0)
        """Characters at the end of a text in which a whole known secret would have room."""
        self._triggers = _by_rarest((*self._secrets, *_TRIGGERS))
        self._names: dict[str, tuple[str, bool]] = {}

    def text(self, s: str) -> str:
        """`s` with each credential replaced by `[REDACTED]`, those in URLs by `REDACTED@`."""
        for _ in range(_MOST_PASSES):
            redacted = self._once(s)
            if redacted is s or redacted == s:
                return s
            s = redacted  # the hidden text may have kept another secret from being found
        return s

    def cut(self, s: str) -> str:
        """Redact a text that was cut at its end. An end that may be the beginning of a credential
        is hidden too, because only the missing part would tell.
        """
        redacted = self.text(s)
        sure = self._sure(redacted)
        return redacted if sure == redacted else sure + HIDDEN

    def beginning(self, s: str) -> str:
        """The part of an unfinished text that may be shown, redacted."""
        return self._sure(self.text(s))

    def _sure(self, redacted: str) -> str:
        """A redacted text without an end that may be the beginning of a credential."""
        for _ in range(_MOST_PASSES):
            begun = self._begun(redacted[-self._longest :])
            if not begun:
                return redacted
            redacted = redacted[:-begun]
        # It goes on like this, such as a row of one letter: take no more time, and show none of it.
        return redacted[: -self._longest]

    def _begun(self, end: str) -> int:
        """How many characters at the end of a redacted text may be the beginning of a credential:
        those that would be hidden if certain texts followed.
        """
        begun = max((_overlap(end, secret) for secret in self._secrets), default=0)
        end = end[-_LONGEST_BEGINNING:]
        if match := _BASIC_BEGUN.search(end):
            begun = max(begun, len(match[1]))
        for trigger, probe in _PROBES:
            if trigger in end:
                redacted = self.text(end + probe)
                if not redacted.startswith(end):
                    same = sum(1 for _ in takewhile(bool, map(eq, redacted, end)))
                    begun = max(begun, len(end) - same)
        return begun

    def value(self, v: JSON) -> JSON:
        """Redact every string in a JSON value, keys included; knows `{"password": "..."}` too.

        Everything below 200 levels of nesting is hidden as a whole.
        """
        return self._value(v, _DEEPEST)

    def _value(self, v: JSON, depth: int) -> JSON:
        if isinstance(v, str):
            return self.text(v)
        if isinstance(v, (list, tuple)):
            if not depth:
                return HIDDEN
            if len(v) >= _MANY and self._are_clean(v):
                return list(v)
            return [self._value(item, depth - 1) for item in v]
        if isinstance(v, dict):
            return self._members(v, depth - 1) if depth else HIDDEN
        return v

    def _members(self, members: dict[str, JSON], depth: int) -> JSON:
        redacted: dict[str, JSON] = {}
        for name, v in members.items():
            shown, is_secret = self._name(name)
            if is_secret and isinstance(v, str) and not _is_placeholder(v):
                v = HIDDEN
            redacted[shown] = self._value(v, depth)
        return redacted

    def _name(self, name: str) -> tuple[str, bool]:
        """A member's name as it may be shown, and whether its value is a secret. Names recur, so
        the results are cached.
        """
        known = self._names.get(name)
        if known is None:
            known = (self.text(name), _SECRET_NAME.search(name) is not None)
            if len(self._names) < _MOST_NAMES:
                self._names[name] = known
        return known

    def _are_clean(self, items: Sequence[JSON]) -> bool:
        try:
            return self.is_clean("\n".join(items))  # type: ignore[arg-type]
        except TypeError:
            return False

    def is_clean(self, whole: str) -> bool:
        """Whether a text, or the JSON of a whole value, lacks everything that any rule searches
        for.

        True: redacting it, or any part of it, changes nothing. False: unknown. For many lines
        together it lets a flood of them through at the speed of a substring search.
        """
        if "?" in whole or ("@" in whole and "://" in whole):
            return False
        return not _has_one(self._triggers, whole) and not _has_one(_WORDS, whole.lower())

    def _once(self, s: str) -> str:
        for secret in self._secrets:
            if secret in s:
                s = s.replace(secret, HIDDEN)
        if "://" in s and "@" in s:
            s = _URL_CREDENTIALS.sub(_hide_userinfo, s)
        if "PRIVATE KEY" in s:
            s = _hide_private_keys(s)
        for character, tokens in _TOKENS:
            if character in s:
                for trigger, token in tokens:
                    if trigger in s:
                        s = token.sub(HIDDEN, s)
        # Without its first letter a word matches both of its usual cases.
        if "=" in s or ":" in s or "--" in s or "asic " in s or "earer " in s:
            s = _hide_assigned(s)
        return s


_COMMON = "eatoinsrhldcumfgpwybvkxjqz"


def _rarest(text: str) -> str:
    """The character of a text that most other texts lack."""
    return max(text, key=lambda c: _COMMON.find(c) if c in _COMMON else len(_COMMON))


def _by_rarest(texts: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Texts by their rarest character: searching for one character is many times faster than for
    several.
    """
    grouped: dict[str, list[str]] = {}
    for text in texts:
        grouped.setdefault(_rarest(text), []).append(text)
    return list(grouped.items())


def _has_one(texts: list[tuple[str, list[str]]], whole: str) -> bool:
    """Whether one of the texts, as `_by_rarest` returns them, is in `whole`."""
    for rare, those in texts:
        if rare in whole:
            for text in those:
                if text in whole:
                    return True
    return False


def _forms(secret: str) -> set[str]:
    """The texts in which a secret may appear."""
    if len(secret) < SHORTEST_SECRET or secret in HIDDEN:
        return set()
    encoded = _bytes_of(secret)
    # Output shows a byte that is no UTF-8 as \xNN.
    shown = encoded.decode("utf-8", "backslashreplace")
    forms = {secret, shown, quote(encoded, safe=""), quote_plus(encoded), json.dumps(secret)[1:-1]}
    for shift in range(3):
        # Base64 works in groups of three bytes: characters that depend on neighbours are left off.
        first = (shift * 8 + 5) // 6
        last = (shift + len(encoded)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            forms.add(encode(b"\0" * shift + encoded).decode()[first:last])
    whole = b64encode(encoded).decode()[: len(encoded) * 8 // 6] if len(encoded) <= _WRAPPED else ""
    wrapped = (whole[at : at + width] for width in _WIDTHS for at in range(0, len(whole), width))
    lines = map(str.strip, chain(secret.splitlines(), shown.splitlines(), wrapped))
    forms.update(line for line in lines if len(line) >= _LONG_LINE)
    # What goes into the log is looked through as JSON.
    return forms | {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}


def _bytes_of(secret: str) -> bytes:
    """The bytes of a variable: those that are no UTF-8 are lone surrogates in its text."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return secret.encode("utf-8", "surrogatepass")


_LONG_LINE = 16
"""Characters of a line of a secret from which on it is a secret by itself."""

_WIDTHS = (64, 76)
"""Characters of a line of Base64, as PEM and MIME wrap it."""

_WRAPPED = 1_024
"""Bytes of the longest secret whose lines of Base64 are searched for: each is one more search of
every text.
"""


_LONGEST_BEGINNING = 8_192
"""Characters at the end of a text that are examined for the beginning of a credential that is not
known. Those that are known may be longer: the environment holds 128 KiB in one variable.
"""

_BASIC_BEGUN = re.compile(r"(?i:\bbasic[ \t]{1,4})([A-Za-z0-9+/]+={0,2})\Z")

_PROBES = (
    # One of each kind: whatever is open at the end of a text becomes a credential with one of
    # these.
    ("", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4Y5z6"),
    ("://", "x:y1@h"),
    ("eyJ", "aaaaaaa.aaaaaaa.aaaaaaa"),
    *(("AKIA", "A" * count) for count in range(1, 17)),
    *(("ASIA", "A" * count) for count in range(1, 17)),
)
"""Texts that may follow, each with a text that must come before it."""


_TELLING = 16
"""Characters with which a place is recognised at which a secret may begin."""

_MOST_COMPARED = 1 << 23


def _overlap(end: str, secret: str) -> int:
    """The length of the longest proper beginning of `secret` that `end` ends with, or more if it
    took long to find out: somebody may write what a secret begins with again and again.
    """
    first = max(0, len(end) - len(secret) + 1)
    start = secret[:_TELLING]
    compared = 0
    at = end.find(start, first)
    while at >= 0:
        length = len(end) - at
        compared += length
        if compared > _MOST_COMPARED or secret.startswith(end[at:]):
            return length
        at = end.find(start, at + 1)
    for at in range(max(first, len(end) - len(start) + 1), len(end)):
        if start.startswith(end[at:]):
            return len(end) - at
    return 0


def hide_key_lines(lines: list[str], key: str | None) -> tuple[list[str], str | None]:
    """Consecutive lines, without private keys that span several lines.

    `key`: if the line before them was part of a key that continues, what stands before each line of
    that key (such as `|`, often nothing); otherwise None. The second result says the same for
    the line after them.
    """
    if key is None and "PRIVATE KEY" not in "\n".join(lines):
        return lines, None
    shown = []
    for line in lines:
        if key is not None:
            line, key = _hide_key_line(line, key)
        begin = _KEY_BEGINS.search(line)
        shown.append(line)
        if key is None and begin is not None:
            key = line[: begin.start()].rstrip()
    return shown, key


def _hide_key_line(line: str, key: str) -> tuple[str, str | None]:
    """A line after one of a key, and the key if it may go on after this line."""
    rest = line.removeprefix(key).lstrip()
    before = line[: len(line) - len(rest)]
    if end := _KEY_END.search(rest):
        return f"{before}{HIDDEN}{rest[end.end() :]}", None
    if _KEY_LINE.fullmatch(rest):
        return before + HIDDEN, key
    return line, None


def key_of(line: str) -> str | None:
    """What stands before each line of the private key that may continue after this line of the log;
    None if none may. A line that may have been part of a key counts as one: only lines that look
    like a key are hidden.
    """
    if line.endswith(HIDDEN):
        return line.removesuffix(HIDDEN).rstrip()
    return hide_key_lines([line], None)[1]


_URL_CREDENTIALS = re.compile(
    r"""
    (?<=[A-Za-z0-9+.-])://
    (?:
        ([^\s/?#"'<>`\\]*)@                 # everything up to the last @ of the authority
      | ([^\s/?#"'<>`\\:@]{0,128}+          # or a password with a raw slash in it,
        :(?!\d{1,5}[/?#])                   # which is not a port and a path
        (?:(?!://)[^\s"'<>`\\@]){1,64}+)@
    )
    """,
    re.VERBOSE,
)
_WITH_LOGIN_NAMES = ("ssh", "sftp", "rsync")  # where a user without a password is no secret


def _hide_userinfo(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 8) : match.start()].lower()
    userinfo = match[1] if match[1] is not None else match[2]
    if not userinfo or (":" not in userinfo and before.endswith(_WITH_LOGIN_NAMES)):
        return match[0]
    return "://REDACTED@"


_KEY_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BEGINS = re.compile(rf"{_KEY_BEGIN.pattern}\s*\Z")
_KEY_LINE = re.compile(r"(?:[A-Za-z0-9+/=]{1,65536}+|[A-Za-z-]{2,40}: .{0,200})?\s*+")
_KEY_BODY = re.compile(r"(?:\s|\\[nr]){0,8}[A-Za-z0-9+/=]{16}")


def _hide_private_keys(s: str) -> str:
    """Hide from BEGIN to END. Without an END, hide to the end of the text if key data follows."""
    parts, position = [], 0
    while begin := _KEY_BEGIN.search(s, position):
        end = _KEY_END.search(s, begin.end())
        if end is None:
            if _KEY_BODY.match(s, begin.end()):
                parts.append(s[position : begin.start()] + HIDDEN)
                position = len(s)
            break
        parts.append(s[position : begin.start()] + HIDDEN)
        position = end.end()
    parts.append(s[position:])
    return "".join(parts)


def _token(trigger: str, pattern: str) -> tuple[str, re.Pattern[str]]:
    return trigger, re.compile(rf"(?<![A-Za-z0-9_]){pattern}")


# Random text has capitals; crewlog's own identifiers have none.
_OURS = r"(?=[a-z0-9_-]{0,64}[A-Z])(?=[A-Z0-9_-]{0,64}[a-z])[A-Za-z0-9_-]{20,}+"

_TOKENS = (
    (
        "_",
        (
            *(_token(f"gh{kind}_", rf"gh{kind}_[A-Za-z0-9]{{16,}}+") for kind in "pousr"),
            _token("github_pat_", r"github_pat_[A-Za-z0-9_]{16,}+"),
            _token("k_live_", r"[prs]k_live_[A-Za-z0-9]{10,}+"),
            _token("k_test_", r"[prs]k_test_[A-Za-z0-9]{10,}+"),
            _token("npm_", r"npm_[A-Za-z0-9]{30,}+"),
            _token("hf_", r"hf_[A-Za-z0-9]{20,}+"),
            _token("crewlog_u_", r"crewlog_u_[A-Za-z0-9_-]{20,}+"),
            _token("crewlog_w_", r"crewlog_w_[A-Za-z0-9._-]{40,}+"),
            _token("crewlog_", rf"crewlog_{_OURS}"),
            _token("gitoma_", rf"gitoma_{_OURS}"),
        ),
    ),
    (
        "-",
        (
            *(
                _token(f"gl{kind}-", rf"gl{kind}-[A-Za-z0-9_.-]{{16,}}+")
                for kind in ("pat", "dt", "rt", "cbt", "ptt", "ft", "oas", "soat", "agent", "imt")
            ),
            _token("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,}+"),
            _token("sk-", r"sk-(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]{20,}+"),
            _token("pypi-", r"pypi-(?:Ag[A-Za-z0-9_-]{14,}+|[A-Za-z0-9_-]{50,}+)"),
        ),
    ),
    (
        "",
        (
            _token("AKIA", r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])"),
            _token("ASIA", r"ASIA[A-Z0-9]{16}(?![A-Za-z0-9])"),
            _token("AIza", r"AIza[A-Za-z0-9_-]{30,}+"),
            _token(
                "eyJ",
                r"(?<!-)eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+){1,3}",
            ),
        ),
    ),
)
"""Tokens, grouped by a character that all of a group contain, each with a text that it contains.
Most lines lack the character.
"""

_TRIGGERS = (*(trigger for _, tokens in _TOKENS for trigger, _ in tokens), "PRIVATE KEY")

_LOGIN = r"(?:password|passwd|passphrase|(?<![A-Za-z])pwd|(?<=[_-])pass)"
_KEY = r"(?:api|access|secret|private|account|auth|signing|encryption|master|shared)[_.-]?key"
_NAME = rf"(?:{_LOGIN}|token|secret|{_KEY}|(?<=_)auth|(?<=[_-])credentials?)"
_IGNORE = re.ASCII | re.IGNORECASE

_SECRET_NAME = re.compile(rf"{_NAME}\Z", _IGNORE)
_IS_PASSWORD = re.compile(rf"{_LOGIN}\Z", _IGNORE)
_VALUE = r"""
    (?:
        [bfru]{0,2}(?P<quote>\\?["'])
        (?P<quoted>(?:(?!(?P=quote))(?:\\[^\n]|[^\\\n]))*+)
      | (?P<bare>[^\s"'&;<>\\`]++)
    )
"""
_ASSIGNED = re.compile(
    rf"""
    (?P<name>{_NAME})
    (?P<sign>
        (?:\\?["'])?\]?[ \t]{{0,8}}
        (?: :[ ]?(?:str|bytes|string|SecretStr)(?:[ ]?\|[ ]?None)?[ ]?= | => | := | ={{1,3}} | : )
        [ \t]{{0,8}}
    )
    {_VALUE}
    """,
    _IGNORE | re.VERBOSE,
)
_MAY_ASSIGN = re.compile(
    r"(?:word|passwd|phrase|pwd|pass|token|secret|key|auth|credentials?)"
    r"""(?:\\?["'])?\]?[ \t]{0,8}[:=]"""
)
"""Half of `_ASSIGNED`, in lower case, for speed: the end of a name and a sign."""

_FLAG = re.compile(
    rf"(?<![\w-])(?P<name>--(?:[a-z0-9]++-){{0,4}}{_NAME})(?P<sign>[ \t]{{1,8}}){_VALUE}",
    _IGNORE | re.VERBOSE,
)
_QUERY = re.compile(
    r"([?&](?:key|auth|jwt|sig|signature|x-amz-signature)=)([^\s&\"'#<>\\\[\]]{16,}+)", _IGNORE
)
_AUTHORIZATION = re.compile(
    r"""
    (authorization(?:\\?["'])?[ \t]{0,4}[:=][ \t]{0,4}(?:\\?["'])?)
    ((?:bearer|basic|token|digest|negotiate|apikey|bot)[ \t]{1,4})?
    ([^\s"',;\\]++)
    """,
    _IGNORE | re.VERBOSE,
)
_BEARER = re.compile(r"(\bbearer[ \t]{1,4})([A-Za-z0-9._~+/=-]{8,}+)", _IGNORE)
_BASIC = re.compile(r"(\bbasic[ \t]{1,4})([A-Za-z0-9+/]{8,}+={0,2})", _IGNORE)

_PLACEHOLDER = re.compile(
    r"""
    [\[\](){},.:*•…<>|-]*
  | \[?(?:redacted|hidden|masked|secret|removed|filtered|unset|missing|empty|required|optional)\]?
  | none|null|nil|undefined|true|false|yes|no|on|off
  | str|int|bytes|bool|string|any|secretstr|optional\[.*
  | x{3,}
  | <[^>]*>.*                               # <token>
  | \{.*                                    # {token}, {{ token }}, or an object
  | (?-i:\$\{?[A-Z_][A-Z0-9_]*\}?)          # $TOKEN
  | \$[({].*
  | %[a-z]|%\(.*|(?-i:%[A-Z_]+%)
    """,
    _IGNORE | re.VERBOSE | re.DOTALL,
)
_CODE = re.compile(
    rf"""
    [a-z_.]+\(.*                            # get_token(...)
  | (?:self|cls|this|os|args|opts|options|settings|config|env|process|request|response|params|ctx)
    \.[a-z_][a-z_.\[]*
  | (?:[a-z]+[_.])*{_NAME}                  # token=token, token=access_token
    """,
    _IGNORE | re.VERBOSE | re.DOTALL,
)
_PATH = re.compile(
    r"(?:~|\.{1,2})/|/(?:app|data|dev|etc|home|mnt|opt|proc|root|run|srv|tmp|Users|usr|var|work)/"
)
_DIRECTORY = re.compile(r"[A-Za-z]:|[~./]")
_SHORT_NUMBER = re.compile(r"[0-9.,]{1,8}", re.ASCII)
_DIGIT = re.compile(r"[0-9]")
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?:[-_'][A-Za-z]+)*", re.ASCII)
_TRAILING = ",.)]}:"


def _is_placeholder(value: str) -> bool:
    return _PLACEHOLDER.fullmatch(value) is not None


class _Assignment(NamedTuple):
    """A value that is assigned, without quotes, to a name that sounds secret."""

    name: str
    sign: str
    value: str
    is_last: bool  # nothing follows on the line

    def is_secret(self) -> bool:
        if _CODE.fullmatch(self.value) or _PATH.match(self.value):
            return False
        if self.name.lower() == "pwd" and _DIRECTORY.match(self.value):
            return False  # the shell's working directory
        if _IS_PASSWORD.search(self.name):
            return "=" in self.sign or self.is_last or not _PLAIN_WORD.fullmatch(self.value)
        if self.name.lower() == "token" and _SHORT_NUMBER.fullmatch(self.value):
            return False  # a count of tokens
        if self.sign in ("=", "=>"):
            return True
        return len(self.value) >= 20 or (len(self.value) >= 6 and bool(_DIGIT.search(self.value)))


_ASSIGNED_WORDS = ("token", "key", "pass", "secret", "auth", "pwd", "credential")
_WORDS = _by_rarest((*_ASSIGNED_WORDS, "bearer", "basic"))
"""Every text in which `_hide_assigned` finds something has one of these, or a question mark."""


def _hide_assigned(s: str) -> str:
    lowered = s.lower()
    if "authorization" in lowered:
        s = _AUTHORIZATION.sub(_hide_authorization, s)
    if "bearer" in lowered:
        s = _BEARER.sub(_hide_bearer, s)
    if "basic" in lowered:
        s = _BASIC.sub(_hide_basic, s)
    for word in _ASSIGNED_WORDS:
        if word in lowered:
            if _MAY_ASSIGN.search(lowered):
                s = _ASSIGNED.sub(_hide_value, s)
            if "--" in s:
                s = _FLAG.sub(_hide_value, s)
            break
    if "?" in s:
        s = _QUERY.sub(rf"\1{HIDDEN}", s)
    return s


def _hide_value(match: re.Match[str]) -> str:
    name, sign, quoted, bare = match.group("name", "sign", "quoted", "bare")
    if quoted is not None:
        shown = not quoted or _is_placeholder(quoted)
        return match[0] if shown else f"{match[0][: match.start('quoted') - match.start()]}{HIDDEN}"
    value = bare if _is_placeholder(bare) else bare.rstrip(_TRAILING)
    if not value.strip("=:>"):
        return match[0]  # the sign alone: its value is still to come
    if _is_placeholder(value) or value.rstrip(_TRAILING) + "]" == HIDDEN:
        return match[0]
    line_end = match.string[match.end() : match.end() + 1]
    assignment = _Assignment(name, sign.strip(" \t\\\"'"), value, line_end in ("", "\n", "\r"))
    if not assignment.is_secret():
        return match[0]
    return f"{name}{sign}{HIDDEN}{bare[len(value) :]}"


def _hide_authorization(match: re.Match[str]) -> str:
    before, scheme, value = match[1], match[2] or "", match[3]
    guessed = len(value) >= 16 and _DIGIT.search(value)
    if _is_placeholder(value) or not (scheme or guessed):
        return match[0]
    return f"{before}{scheme}{HIDDEN}"


def _hide_bearer(match: re.Match[str]) -> str:
    return match[1] + HIDDEN if len(match[2]) >= 24 or _DIGIT.search(match[2]) else match[0]


def _hide_basic(match: re.Match[str]) -> str:
    """Hides only what decodes to `user:password`: much prose contains the word basic."""
    try:
        decoded = b64decode(match[2] + "=" * (-len(match[2]) % 4), validate=True).decode()
    except ValueError:
        return match[0]
    return match[1] + HIDDEN if ":" in decoded and decoded.isprintable() else match[0]
