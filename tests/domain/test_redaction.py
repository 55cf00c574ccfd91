"""Redaction: what is hidden, what stays, and bounded work for any input."""

import base64
import json
import random
import string
import time
from urllib.parse import quote

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.job.events import JobOutput
from domain.log import SYSTEM, new_events
from domain.log.mapper import EventMapper
from domain.redaction import HIDDEN, Redactor, hide_key_lines, key_of
from scheduler.drivers.lines import LineSplitter

GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OURS = "gitoma_" + "Zq3-x8Kw_Lr0Tf9vBn2YcHs5Jm1Pd7Ga4Ue6Ri8Ot2Z"
WORKER = "crewlog_w_crew-reviewer-0f3a91bc.2." + "vJ3Kx8aa-_0123456789abcdefghijklmnopqrstuvw"
KEY_TEXT = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

MUST_HIDE = [
    # (text, the part that must be hidden)
    ("https://user:hunter2@example.com/x", "hunter2"),
    ("fatal: unable to access 'https://ghp_x@github.com/o/r.git/': 403", "ghp_x"),
    ("git clone https://x-access-token:tok@github.com/o/r", "tok@"),
    ("git://me:pw@host/r ssh://me:pw@host/r", "pw"),
    ("postgres://crew:p%40ss@db:5432/crew", "p%40ss"),
    ("postgres://crew:pa/ss#word@db/crew", "ss#word"),
    ("redis://:s3cr3t@cache:6379/0", "s3cr3t"),
    ("amqp://u:p@ss@host//", "p@ss"),
    ("git+https://oauth2:abc@gitlab.com/x", "abc"),
    ('{"url":"https://u:topsecret@h/x"}', "topsecret"),
    (f"remote: {GITHUB}", GITHUB),
    (f"x={GITHUB}.", GITHUB),
    ("gho_" + "A" * 36, "AAAA"),
    ("github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789", "mNoPqRs"),
    ("glpat-xxYYzz11223344556677", "xxYYzz"),
    ("xoxb-123456789012-abcdefABCDEF", "abcdefABCDEF"),
    ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    ("ASIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    (f"aws_secret_access_key={AWS_SECRET}", AWS_SECRET),
    (f"aws_secret_access_key = {AWS_SECRET}", AWS_SECRET),
    (f'"SecretAccessKey": "{AWS_SECRET}"', AWS_SECRET),
    ("AIzaSyD-1234567890abcdefghijklmnopqrstu", "1234567890abc"),
    ("sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH", "abcdefghij"),
    ("sk-proj-abcdefghijklmnop_qrstuvwxyz-0123456789", "abcdefghij"),
    ("sk-ant-api03-abcdefghijklmnopqrstuvwxyz", "abcdefghij"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghij"),
    ("pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAw", "AgEIcHlw"),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39"),
    ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "abcdefghij"),
    (f"cookie: session={JWT}; path=/", "dozjgNryP4J3"),
    (f"token is {OURS}", OURS),
    ("crewlog_" + OURS[7:], OURS[7:]),
    (f"CREWLOG_WORKER_TOKEN={WORKER}", "vJ3Kx8"),
    (f"worker {WORKER}, bye", "vJ3Kx8"),
    ("crewlog_u_abcdefghijklmnopqrstuvwxyz0123456789-_abcde", "klmnop"),
    ("Authorization: Bearer tok", "tok"),
    ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ('{"Authorization": "Bearer abc.def"}', "abc.def"),
    ("curl -H 'Authorization: token abc123' https://h", "abc123"),
    ("Proxy-Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("sent Bearer 0a1b2c3d4e5f", "0a1b2c3d4e5f"),
    ("sent basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("password=hunter2", "hunter2"),
    ("PASSWORD=x", "=x"),
    ("DB_PASSWORD=correct-horse", "correct-horse"),
    ("MYSQL_PASS=letmein", "letmein"),
    ("password: hunter2", "hunter2"),
    ("  password: correcthorse", "correcthorse"),
    ("password = 'correct horse battery'", "horse"),
    ('"password": "correct \\"horse\\" battery"', "battery"),
    ('password="cut in the middle', "middle"),
    ("{'passwd': 'abc'}", "abc"),
    ('{\\"token\\": \\"abc\\"}', "abc"),
    ("token=abc", "abc"),
    ("GITHUB_TOKEN=abcdef", "abcdef"),
    ("//npm.example.org/:_authToken=abc-def", "abc-def"),
    ("//npm.example.org/:_auth=YWJjOmRlZg", "YWJjOmRlZg"),
    ("api_key=0123", "0123"),
    ("apiKey: '0123'", "0123"),
    ("X-Api-Key: 0123abcd", "0123abcd"),
    ("client_secret=abc&grant=x", "abc"),
    ("Server=db;Uid=sa;Pwd=hunter2;Encrypt=yes", "hunter2"),
    ("AccountKey=Zm9vYmFyYmF6cXV4==;x", "Zm9vYmFy"),
    ("password: str = 'hunter2'", "hunter2"),
    ("GET /x?access_token=abc123&page=2", "abc123"),
    ("https://h/x?key=0123456789abcdef0123", "0123456789abcdef"),
    ("https://h/x?a=1&sig=0123456789abcdef0123", "0123456789abcdef"),
    ("tool --token 0123abcd --verbose", "0123abcd"),
    ("tool --db-password 'a b'", "a b"),
    (f"-----BEGIN PRIVATE KEY-----\n{KEY_TEXT}\n-----END PRIVATE KEY-----", KEY_TEXT),
    (f"-----BEGIN RSA PRIVATE KEY-----\\n{KEY_TEXT}\\n-----END RSA PRIVATE KEY-----", KEY_TEXT),
    (f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY_TEXT}\n{KEY_TEXT}", KEY_TEXT),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx: y\n-----END PGP PRIVATE KEY BLOCK-----", "x: y"),
]

MUST_KEEP = [
    "",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "job 550e8400-e29b-41d4-a716-446655440000 started",
    "mail a@b.c or <first.last@example.com>",
    "git@github.com:o/r.git",
    "ssh://git@github.com/o/r.git and git+ssh://git@host/r",
    "https://example.com/path?x=1#y",
    "https://host/path@v1.2",
    "https://medium.com/@user and http://localhost:8080/a@b",
    "https://npm.example.org/@scope/pkg/-/pkg-1.0.0.tgz",
    '{"homepage":"https://a.b","mail":"x@y.z"}',
    "file:///home/a@b/c",
    "token=",
    "password:",
    "Enter password: ",
    'password=""',
    "the password must be at least 8 characters",
    "password: must be at least 8 characters",
    "max_tokens=4096 tokens: 1234, token_count=12 token: 128",
    "prompt_tokens=12, completion_tokens=7",
    "SyntaxError: Unexpected token: } in JSON at position 4",
    "unexpected token: identifier",
    "def login(user: str, password: str, token: str | None = None) -> None:",
    "    token = get_token()",
    "    client = Client(token=token, password=self.password, secret=settings.secret)",
    "password=None token=null secret=true",
    "curl -H 'Authorization: Bearer $TOKEN' -u user:${PASSWORD}",
    "export TOKEN=$OTHER_TOKEN password=<password> token={token} secret=***",
    'token = os.environ["X"]',
    "Missing or malformed Authorization header.",
    "HTTP basic authentication, the basic understanding of bearer tokens, bearer authentication",
    "PWD=/srv/app OLDPWD=/tmp",
    "private_key=/home/me/.ssh/id_ed25519",
    "tests/test_auth.py::test_token_is_checked[secret-key] PASSED   [ 50%]",
    "FAILED tests/test_x.py::test_password - AssertionError: assert 'a' == 'b'",
    '  File "/usr/lib/python3.11/secrets.py", line 12, in token_hex',
    "task-0123456789abcdefghijklmnop risk-assessment-2024-report-final",
    "class sk-fading-circle-something-long",
    "npm_config_registry npm_package_dependencies_left_pad_version",
    "crewlog_projection_engine_checkpoint_table_name_v2",
    "crewlog_w_ and crewlog_u_ are how the tokens of workers and users begin",
    "gitoma_state_directory_of_the_current_user",
    "aGVsbG8gd29ybGQsIHRoaXMgaXMgb3JkaW5hcnkgYmFzZTY0IHRleHQ=",
    "the file begins with -----BEGIN PRIVATE KEY----- and a line break",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "keyboard: us, monkey: 1, turkey=x",
    "Collecting hf_transfer==0.1.9",
]


@pytest.mark.parametrize(("text", "secret"), MUST_HIDE)
def test_what_looks_like_a_credential_is_hidden(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in Redactor().text(text)


@pytest.mark.parametrize("text", MUST_KEEP)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("text", [text for text, _ in MUST_HIDE])
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = Redactor().text(text)
    assert Redactor().text(once) == once


WORDS = ["password", "token", "_key", "api", "pwd", "Bearer ", "basic ", "Authorization", "hunter2"]
SIGNS = [*"=: \"'\\@/[](){},.&?\nx", "://", "--", "https"]
SECRETS = ["eyJabcdef", "0123456789abcdef", "ghp_", "sk-", GITHUB, KEY_TEXT, HIDDEN, "REDACTED"]
MARKS = ["-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"]
FRAGMENTS = st.sampled_from([*WORDS, *SIGNS, *SECRETS, *MARKS])
TEXTS = st.one_of(st.lists(FRAGMENTS, max_size=14).map("".join), st.text(max_size=60))


@given(TEXTS, st.lists(st.text(min_size=4, max_size=9), max_size=2))
@example("password=[REDACTED", [])
@example("http://a:b/" * 80 + "@", [])
@example("password=]]]]]abc", ["]abc=]"])
def test_redaction_is_idempotent_for_any_text(text: str, secrets: list[str]) -> None:
    redactor = Redactor(secrets)
    once = redactor.text(text)
    assert redactor.text(once) == once


def test_what_stays_around_a_hidden_value_is_readable() -> None:
    hide = Redactor().text
    assert hide("https://u:p@h/x") == "https://REDACTED@h/x"
    assert hide("Authorization: Bearer abc") == f"Authorization: Bearer {HIDDEN}"
    assert hide("f(password=hunter2, x=1)") == f"f(password={HIDDEN}, x=1)"
    assert hide('{"token": "abc", "n": 1}') == f'{{"token": "{HIDDEN}", "n": 1}}'
    assert hide("?access_token=abc1&page=2") == f"?access_token={HIDDEN}&page=2"


SECRET = "s3rver/secret+value é"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.b64encode(f"x-user:{SECRET}:more".encode()).decode(),
        base64.urlsafe_b64encode(f"ab{SECRET}~~~".encode()).decode(),
    ],
)
def test_a_given_secret_is_hidden_in_every_form(form: str) -> None:
    plain = f"<<{form}>>"
    assert Redactor().text(plain) == plain
    assert HIDDEN in Redactor([SECRET]).text(plain)
    assert SECRET not in Redactor([SECRET]).text(plain)


def test_each_long_line_of_a_given_secret_is_hidden() -> None:
    secret = f"begin\n{KEY_TEXT}\nend"
    assert Redactor([secret]).text(f"| {KEY_TEXT}") == f"| {HIDDEN}"


def test_each_line_of_a_secret_in_wrapped_base64_is_hidden() -> None:
    secret = "".join(chr(33 + (7 * n) % 90) for n in range(150))
    for width in (64, 76):
        encoded = base64.b64encode(f"{secret}\n".encode()).decode()
        for at in range(0, len(encoded) - width, width):
            line = encoded[at : at + width]
            assert Redactor([secret]).text(f"> {line}") == f"> {HIDDEN}"


@pytest.mark.parametrize("secret", ['ä"geheim-Wort-77x', "tab\tand\\slash-99é", 'plain"quote-77'])
def test_a_secret_with_characters_that_json_escapes_does_not_get_into_the_log(secret: str) -> None:
    event = JobOutput(attempt=1, first_line=1, lines=[f"<{secret}>"], end_offset=1)
    (row,) = EventMapper(Redactor([secret])).stored(
        new_events("job-a/output", [event], SYSTEM), [1]
    )
    assert orjson.loads(row.state)["data"]["lines"] == [f"<{HIDDEN}>"]


def test_a_secret_with_bytes_that_are_no_text_is_hidden_in_output() -> None:
    raw = b"caf\xff-geheim-Wort-99"
    lines = LineSplitter(clip=str).feed(b"bad: " + raw + b"\n")
    redactor = Redactor([raw.decode("utf-8", "surrogateescape")])
    assert [redactor.text(line) for line in lines.texts] == [f"bad: {HIDDEN}"]
    encoded = base64.b64encode(b"user:" + raw).decode()
    assert HIDDEN in redactor.text(encoded)


def test_short_secrets_are_passed_over() -> None:
    assert Redactor(["", "a", "12345"]).text("a 12345") == "a 12345"


def test_every_string_of_a_json_value_is_redacted() -> None:
    value = Redactor().value(
        {
            "argv": ["git", "clone", "https://u:p@h/r"],
            "password": "hunter2",
            "env": {"API_KEY": "x1", "EMPTY_TOKEN": ""},
            "n": [1, 2.5, None, True],
            GITHUB: "key",
        }
    )
    assert value == {
        "argv": ["git", "clone", "https://REDACTED@h/r"],
        "password": HIDDEN,
        "env": {"API_KEY": HIDDEN, "EMPTY_TOKEN": ""},
        "n": [1, 2.5, None, True],
        HIDDEN: "key",
    }
    assert Redactor().value(value) == value


def test_a_value_of_any_depth_is_taken() -> None:
    deep = json.loads("[" * 900 + '"x"' + "]" * 900)
    assert HIDDEN in json.dumps(Redactor().value(deep))


HOSTILE = ["a", "=", ":", "@", "/", "://a:", "://a:@", "http://a:b/", "token=", "token ", 'token="']
HOSTILE += ["token\\", "eyJabcde.", "--a-", "-----BEGIN PRIVATE KEY-----", "basic aaaaaaaa ", "sk-"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_input_of_any_length_is_redacted_in_the_end(piece: str) -> None:
    """Linear work takes a fraction of a second; quadratic work would take an hour."""
    assert (
        Redactor()
        .text(piece * (262_144 // len(piece)) + " @\ntoken=x1")
        .endswith("token=" + HIDDEN)
    )


@given(st.lists(TEXTS, min_size=1, max_size=30))
@example([*(f"line {n}" for n in range(20)), f"token {GITHUB}"])
@example([*(f"line {n}" for n in range(20)), "password=hunter2x9"])
def test_many_texts_together_come_out_as_each_alone(texts: list[str]) -> None:
    redactor = Redactor(["hunter2-the-secret"])
    assert redactor.value(list(texts)) == [redactor.text(text) for text in texts]


@given(TEXTS)
@example('hunter2-the-\u00e9"secret')
def test_a_text_called_clean_is_one_in_which_nothing_is_hidden(text: str) -> None:
    redactor = Redactor(['hunter2-the-\u00e9"secret'])
    if redactor.is_clean(json.dumps({"data": [text]}, ensure_ascii=False)):
        assert redactor.text(text) == text
    assert redactor.is_clean("an ordinary line of output")


def parts_shown(redactor: Redactor, text: str, secret: str) -> list[str]:
    """The texts, cut within the secret, whose redaction shows more of the secret than its prefix,
    which only names its kind.
    """
    at = text.index(secret)
    start = secret[: max(4, min(8, len(secret) // 2))]
    found = []
    for cut in range(at + 1, at + len(secret)):
        for shown in (redactor.cut(text[:cut]), redactor.beginning(text[:cut])):
            if start in shown[at:] and start in text[at:cut]:
                found.append(text[:cut])
    return found


@pytest.mark.parametrize(("text", "secret"), MUST_HIDE)
def test_no_part_of_a_credential_is_shown_where_it_is_cut(text: str, secret: str) -> None:
    assert parts_shown(Redactor(), text, secret) == []


@pytest.mark.parametrize("before", ["", "x", "the value is ", "a=", "ab"])
def test_no_part_of_a_known_secret_is_shown_where_it_is_cut(before: str) -> None:
    secret = "abab correct horse #1"
    redactor = Redactor([secret])
    for form in redactor._secrets:
        assert parts_shown(redactor, before + form, form) == []


@pytest.mark.parametrize(
    "text",
    ["connecting to db... ", "....", "Continue? [y/N] ", "Password: ", "done 50%", "a/b.c:12: x"],
)
def test_a_text_that_is_no_credential_is_shown_before_it_is_whole(text: str) -> None:
    assert Redactor(["s3cr3t-value"]).beginning(text) == text


@given(TEXTS, st.lists(st.text(min_size=6, max_size=9), max_size=2))
@example("password==password", [])
@example("token===", [])
@example("password:==", [])
def test_what_is_shown_of_a_text_before_it_is_whole_needs_no_more_redaction(
    text: str, secrets: list[str]
) -> None:
    redactor = Redactor(secrets)
    beginning = redactor.beginning(text)
    assert redactor.text(text).startswith(beginning)
    assert redactor.beginning(beginning) == beginning


KEY_LINES = ["-----BEGIN RSA PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED", "", "MIIEpAIBAAKCAQEA"]
KEY_LINES += ["c2VjcmV0IGtleQ==", "-----END RSA PRIVATE KEY-----"]


@pytest.mark.parametrize("edge", range(len(KEY_LINES) + 3))
def test_a_private_key_over_many_lines_is_hidden_wherever_they_are_parted(edge: int) -> None:
    lines = ["before", *KEY_LINES, "after"]
    first, key = hide_key_lines(lines[:edge], None)
    second, key = hide_key_lines(lines[edge:], key)
    shown = first + second
    assert key is None
    assert len(shown) == len(lines)
    assert [shown[0], shown[-1]] == ["before", "after"]
    assert not set(shown) & set(KEY_LINES[1:])


def test_a_line_that_only_speaks_of_private_keys_hides_nothing() -> None:
    lines = ["the file begins with -----BEGIN PRIVATE KEY----- and a line break", "abcdef"]
    assert hide_key_lines(lines, None) == (lines, None)


@pytest.mark.parametrize("before", ["", "  ", "| ", "job-1 | ", "+"])
@pytest.mark.parametrize("edge", range(len(KEY_LINES) + 1))
def test_a_private_key_is_hidden_behind_what_stands_before_each_line(
    before: str, edge: int
) -> None:
    body = KEY_TEXT * 40  # a key may be one line, however long
    lines = [f"{before}{line}".rstrip() for line in [*KEY_LINES[:-1], body, KEY_LINES[-1]]]
    first, key = hide_key_lines(lines[:edge], None)
    if first:
        assert key_of(first[-1]) == key  # as after a restart
    second, key = hide_key_lines([*lines[edge:], f"{before}after"], key)
    shown = first + second
    assert key is None
    assert shown[-1] == f"{before}after"
    assert len(shown) == len(lines) + 1
    assert not [line for line in shown if "KCAQEA" in line or "cmV0" in line or KEY_TEXT in line]
    assert all(line.startswith(before.rstrip()) for line in shown)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", [" ", "A", "A ", "a: "])
def test_a_line_of_any_length_after_a_key_takes_linear_time(piece: str) -> None:
    line = piece * (1_048_576 // len(piece)) + "!"
    assert hide_key_lines([KEY_LINES[0], line], None)[0][1] == line


def test_a_row_of_what_a_secret_begins_with_is_looked_at_a_few_times_only() -> None:
    secret = "another-secret-value"
    probes: list[str] = []

    class Counting(Redactor):
        def _begun(self, end: str) -> int:
            probes.append(end)
            return super()._begun(end)

    assert secret[:1] * 9 not in Counting([secret]).beginning(secret[:1] * 4_096)
    assert len(probes) < 20


LONG = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=100_000))


@pytest.mark.parametrize("length", [8_191, 12_000, 100_000])
@pytest.mark.parametrize("missing", [1, 9, 3_000, 8_000])
def test_no_part_of_a_long_known_secret_is_shown_where_it_is_cut(length: int, missing: int) -> None:
    secret = LONG[:length]
    redactor = Redactor([secret])
    for form in (form for form in redactor._secrets if len(form) >= length):
        cut = "x" * 20_000 + " " + form[:-missing]
        shown = redactor.cut(cut)
        assert form[100:132] not in shown
        assert shown.startswith("x" * 10_000)
        assert redactor.beginning(cut) + HIDDEN == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize("secret", [LONG, "a" * 600_000 + "b", "ab" * 300_000 + "c"])
@pytest.mark.parametrize("repeated", [8, 16, 40, 4_000])
def test_a_text_full_of_what_a_long_secret_begins_with_takes_linear_time(
    secret: str, repeated: int
) -> None:
    text = secret[:repeated] * (1_048_576 // repeated)
    started = time.process_time()
    Redactor([secret]).beginning(text + "!")
    Redactor([secret]).beginning(text)
    assert time.process_time() - started < 5  # work by the square would take minutes
