"""Secrets of every kind go, and what only looks a little like one stays."""

from __future__ import annotations

import json
import re
import string
import threading
import time
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_otel import redaction
from ollama_otel.errors import SettingsError
from ollama_otel.redaction import BUILT_IN, is_secret_key, pattern, redact
from tests.examples import examples
from tests.fake_secrets import KINDS, is_luhn, secrets
from tests.secret_shapes import Part, shapes


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "Authorization: Basic dXNlcjpwYXNz\nHost: x",
            "Authorization: [redacted: authorization]\nHost: x",
        ),
        (
            '{"Authorization": "Bearer a.b", "b": 1}',
            '{"Authorization": "[redacted: authorization]", "b": 1}',
        ),
        (
            'proxy-authorization: Digest username="joe", response="1f"',
            "proxy-authorization: [redacted: authorization]",
        ),
        (
            "curl -H 'Authorization: Bearer x1' http://h",
            "curl -H 'Authorization: [redacted: authorization]' http://h",
        ),
        ("https://joe:hunter2@host/x", "https://joe:[redacted: password]@host/x"),
        ("redis://:hunter2@host/0", "redis://:[redacted: password]@host/0"),
        ("amqp://joe:p@ss@w@host/x", "amqp://joe:[redacted: password]@host/x"),
        ("http://h:80/a@b and a@b", "http://h:80/a@b and a@b"),
        ('{"pwd": "hunter2"}', '{"pwd": "[redacted: secret]"}'),
        ("Uid=sa;Pwd=hunter2;x=1", "Uid=sa;Pwd=[redacted: secret];x=1"),
        ('{"private_key": "abc", "b": 1}', '{"private_key": "[redacted: secret]", "b": 1}'),
        ("curl -H 'Cookie: a=b; c=d' http://h", "curl -H 'Cookie: [redacted: cookie]' http://h"),
        ('Set-Cookie: sid="a b"; Path=/\nX: y', "Set-Cookie: [redacted: cookie]\nX: y"),
        ("Bearer abcDEF123 and on", "Bearer [redacted: bearer_token] and on"),
        ("OPENAI_API_KEY=abc", "OPENAI_API_KEY=[redacted: secret]"),
        ("x-api-key: foo", "x-api-key: [redacted: secret]"),
        ('{"apikey": "foo bar", "b": 1}', '{"apikey": "[redacted: secret]", "b": 1}'),
        (
            '{\\"password\\": \\"hunter2\\", \\"b\\"',
            '{\\"password\\": \\"[redacted: secret]\\", \\"b\\"',
        ),
        ("password: hunter2", "password: [redacted: secret]"),
        ("?token=abc123&x=1", "?token=[redacted: secret]&x=1"),
        ("secret = abcdef", "secret = [redacted: secret]"),
        ("Mail joe.d+x@mail.example.co.uk.", "Mail [redacted: email]."),
        ("card 4111 1111 1111 1111 123.", "card [redacted: card_number] 123."),
        (
            "4111 1111 1111 1111 2x and 4111 1111 1111 1111 1.5",
            "[redacted: card_number] 2x and [redacted: card_number] 1.5",
        ),
        ("3782-822463-10005", "[redacted: card_number]"),
        ("DE89 3704 0044 0532 0130 00 OK", "[redacted: iban] OK"),
        ("gb82west12345698765432", "[redacted: iban]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE\n-----END RSA PRIVATE KEY-----\nrest",
            "[redacted: private_key]\nrest",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\\n" + "A1b/" * 16 + "\\n" + "A1b/",
            "[redacted: private_key]",
        ),
        (
            "-----BEGIN PRIVATE KEY----- starts a key, and that is all.",
            "[redacted: private_key] starts a key, and that is all.",
        ),
    ],
)
def test_a_secret_leaves_a_mark_and_all_else_stays(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "sha256:" + "4111111111111111" * 4,
        "e83c5163316f89bfbde7d9ab23ca2e25604af290",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "41111111-1111-1111-8111-111111111111",
        "2026-11-22T15:42:03.845187625Z 2026-11-22 15-42-03 20261122154203 1763826123845187625",
        "total_duration 4111111111111112 and 4111 1111 1111 1112",
        "0.4111111111111111",
        "4111111111111111.5",
        "version 1.2.3-rc.4+5, numpy==1.26.4, llama3.2:3b-instruct-q4_K_M",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
        "Meet me @ noon; @app.route is a decorator; a @ b; pip install x@1.2.3",
        "git@github.com:ollama/ollama.git",
        "The secret: practice. A token: a piece of text. Cookies: sweet. Cookie: a small file.",
        "def login(password: str, token=token) -> None: self.password = get_password()",
        "max_tokens=100000 num_token = 5 password == other token: 'hello'",
        "The bearer of this letter; bearer authentication; Bearer tokens",
        "Authorization is what follows.",
        "PWD=/root OLDPWD=/tmp and pwd: where am I? 'pwd: expected bytes'",
        "sk-learn-is-no-key-and-never-was",
        "DE89 is a road, DE89370400440532013001 is no account",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("times", range(1, 4))
@pytest.mark.parametrize(
    "header", ["password", "pwd", "private_key", "Authorization", "Cookie", "x-api-key"]
)
def test_json_in_json_is_no_hiding_place(header: str, times: int) -> None:
    text = json.dumps({header: "sid=hunter2", "b": 1})
    for _ in range(times):
        text = json.dumps(text)
    redacted = redact(text)
    assert "hunter2" not in redacted
    for _ in range(times):
        redacted = json.loads(redacted)
    assert json.loads(redacted).keys() == {header, "b"}


lines = st.one_of(
    st.text(max_size=40),
    st.integers(4040, 4110).map(lambda size: "." * size),
    st.sampled_from(["Cookie: a=b", "Authorization:", "Bearer", "password:", "4111 1111", "DE89"]),
    *map(secrets, KINDS),
)


@pytest.mark.parametrize(
    "redactor",
    [each for each in BUILT_IN if hasattr(each, "__wrapped__")],
    ids=lambda it: it.__name__,
)
def test_a_long_text_is_redacted_as_it_would_be_at_once(redactor: Any) -> None:
    @settings(max_examples=examples(100))
    @given(
        texts=st.lists(lines, max_size=12), end=st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n"])
    )
    def check(texts: list[str], end: str) -> None:
        text = end.join(texts)
        assert redactor(text) == redactor.__wrapped__(text)

    check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("def connect(password: str, token: str) -> None: key = 1\n", 2_000_000),
        # Lines that are long, and slow to search.
        ("sk-", 500_000),
        ("key_", 500_000),
        ("docker login -", 200_000),
        ("://a:b@", 1_000_000),
        ("4111 ", 500_000),
    ],
)
def test_a_long_text_lets_other_threads_run(unit: str, size: int) -> None:
    text = unit * (size // len(unit))
    gaps = [0.0]
    is_over = threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not is_over.wait(0.001):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    redact(text)
    took = time.perf_counter() - started
    is_over.set()
    watcher.join()
    assert max(gaps) < took / 2


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_survives_in_any_text(kind: str) -> None:
    @settings(max_examples=examples(150))
    @given(before=st.text(max_size=30), secret=secrets(kind), after=st.text(max_size=30))
    def check(before: str, secret: str, after: str) -> None:
        assert secret not in redact(f"{before} {secret}\n{after}")

    check()


pieces = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            *(
                "Authorization: ",
                "Bearer ",
                "Cookie: a=b;",
                "password=",
                '"token": "',
                "api_key: ",
                "secret=",
            ),
            *(
                "**Password:** ",
                "password is ",
                " as the password",
                "| password |\n|---|\n| ",
                "curl -u bob:",
                "<password>",
                "('password', '",
                "--token ",
                "password\n",
                "&token=",
                "echo ",
            ),
            *("%40", "%3D", "\\u0026", "\\/", "&quot;", "\\n", "(", ")", ",", "|", "<", ">", "`"),
            *(
                "[redacted: email]",
                "[redacted: ",
                "]",
                '"',
                "'",
                "\\",
                "\n",
                " ",
                "=",
                ":",
                "@",
                "-",
                "://",
                "a.b",
            ),
            *(
                "-----BEGIN PRIVATE KEY-----",
                "-----END PRIVATE KEY-----",
                "Digest ",
                "basic ",
                "eyJ",
                "sk-",
            ),
            *(
                "4111 1111 1111 1111",
                "DE89",
                "3704 0044 0532 0130 00",
                "joe@example.com",
                "abcDEF123456",
            ),
        ]
    ),
    *map(secrets, KINDS),
)


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(st.lists(pieces, max_size=8).map("".join))
@example("password=Authorization: Bearer abcDEF123")
@example("joe@example.com@example.com")
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


_SHAPES = [shape.text for part in get_args(Part) for _, shape in shapes(part)]
_GLUE = (
    *(
        "",
        " ",
        "\n",
        ", ",
        ": ",
        "=",
        '"',
        "'",
        "`",
        "|",
        "\\n",
        "%3D",
        "&amp;",
        "@",
        "(",
        ")",
        "[",
    ),
    *("]", "\u2026", "\u00bb", " - ", "<", ">", "- ", "**", "[redacted: secret]", "[redacted: "),
)


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(_SHAPES).flatmap(
                lambda text: st.sampled_from((text, text[: len(text) // 2], text[len(text) // 2 :]))
            ),
            st.sampled_from(_GLUE),
        ).map("".join),
        max_size=5,
    ).map("".join)
)
@example("login bob password Summer862kvMy password is: Tr0Ub4Dor-173qm, see")
@example("my password is Falcon573kb[redacted: my password is Falcon573kb")
@example("Use Zq9-hunter as password: **API key**: `Hunter_136tz`")
def test_redacting_shapes_of_secrets_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "[redacted: my password is Falcon573kb",
        "[redacted: Authorization: Bearer Falcon573kb",
        "[redacted: Cookie: sid=Falcon573kb",
    ],
)
def test_what_only_begins_like_a_mark_hides_nothing(text: str) -> None:
    assert "Falcon573kb" not in redact(text)


@pytest.mark.slow
@pytest.mark.parametrize("redactor", BUILT_IN, ids=lambda redactor: redactor.__name__)
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a@",
            "4",
            "1",
            "4 ",
            "444 ",
            "4444 ",
            "4444-",
            "-----BEGIN ",
            "-----BEGIN PRIVATE KEY-----",
        ),
        *(
            "-----BEGIN PRIVATE KEY-----\na: b\n",
            "sk-",
            "sk-a",
            "cookie:",
            'cookie: a="',
            "Authorization: ",
        ),
        *(
            "bearer ",
            "bearer",
            "eyJ",
            "eyJ.",
            "password=",
            'password: "',
            'password="\\',
            "token:",
            "token=a",
        ),
        *(
            "DE89",
            "DE89 ",
            "a.",
            "://a:",
            " ",
            "\t",
            "\n",
            "[redacted: ",
            "authorization:digest ",
            "\\",
            "A-",
        ),
        *(
            "| password |\n",
            "| password |\n|---|\n",
            "password is ",
            " as password",
            "curl -u ",
            "mysql -p",
            "docker login -p ",
            "echo ",
            "%25",
            "&amp;",
            "\\u0061",
            "password: \u201c",
            "token: '",
            "&key=",
            "(password) values (",
            "(a,",
            "# password\n\n",
            "<password>",
            "name=password ",
            "('password', ",
            "password for a ",
            "LS0tLS1CRUdJTi",
            "a1B",
            "aB3_",
            "pat",
            "1.",
            "identified by ",
            "auth('a',",
            "a:b@",
            "://a1",
            "key_",
            "--password ",
            "AzFu",
            "a_live_",
            "ab12AB_",
        ),
    ],
)
def test_no_text_takes_long(redactor: Callable[[str], str], unit: str) -> None:
    def texts(size: int) -> tuple[str, ...]:
        repeated = unit * (size // len(unit))
        return repeated, "x@" + repeated, repeated + "4x"

    for text, half in zip(texts(100_000), texts(50_000), strict=True):
        # A quadratic search takes four times as long for twice the text. Short times say nothing.
        if spent(redactor, text) > 0.5:
            assert spent(redactor, text, 3) < 3 * spent(redactor, half, 3)


def spent(redactor: Callable[[str], str], text: str, times: int = 1) -> float:
    """Return the seconds of CPU that one of so many runs took, the shortest."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        redactor(text)
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        *("token: a", "password: ' ", "| password |\n", "\\", "a1B_", "%25", "password for a "),
        *("4444 ", "4\u200b"),
    ],
)
def test_twice_the_text_takes_no_more_than_about_twice_the_time(unit: str) -> None:
    size = 40_000 // len(unit)
    # Quadratic time would be sixteen times as much.
    assert spent(redact, unit * 4 * size, 5) < 9 * spent(redact, unit * size, 5) + 0.02


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('{"password":"Tr0\\u0026Zq9"}', '{"password":"[redacted: secret]"}'),
        ('{"p\\u0061ssword":"Zq9hunter"}', '{"p\\u0061ssword":"[redacted: secret]"}'),
        ('{"to":"ada\\u0040example.org"}', '{"to":"[redacted: email]"}'),
        ("https:\\/\\/bob:Zq9hunter@h", "https:\\/\\/bob:[redacted: password]@h"),
        ("x%26password%3DZq9hunter%26y%3D1", "x%26password%3D[redacted: secret]%26y%3D1"),
        ("x%2526password%253DZq9hunter", "x%2526password%253D[redacted: secret]"),
        (
            "&quot;token&quot;: &quot;Zq9hunter&quot;",
            "&quot;token&quot;: &quot;[redacted: secret]&quot;",
        ),
        ('token: "the db password=Zq9-hunter"', 'token: "the db password=[redacted: secret]"'),
        ("**Password:** Zq9hunter", "**Password:** [redacted: secret]"),
        ("Use `Zq9hunter` as the password.", "Use `[redacted: secret]` as the password."),
        ("my password is Zq9hunter, ok?", "my password is [redacted: secret], ok?"),
        ("Password:\n```\nZq9hunter\n```\nbye", "Password:\n```\n[redacted: secret]\n```\nbye"),
        (
            "| user | password |\n|--|--|\n| bob | Zq9hunter |\n| eve | Xy8quartz |\n\nbye",
            "| user | password |\n|--|--|\n| bob | [redacted: secret] |\n| eve | [redacted: secret] |\n\nbye",
        ),
        ("curl -u bob:Zq9hunter http://h", "curl -u bob:[redacted: secret] http://h"),
        ("docker run -u 1000:1000 x", "docker run -u 1000:1000 x"),
        (
            "headers['Authorization'] = 'Zq9hunter'",
            "headers['Authorization'] = '[redacted: authorization]'",
        ),
        ("4111\u00a01111\u00a01111\u00a01111", "[redacted: card_number]"),
        ("1234 4111 1111 1111 1111 5678", "1234 4111 1111 1111 1111 5678"),
        ("4111 1111 1111 1111\n1234 5678 9012 3456", "4111 1111 1111 1111\n1234 5678 9012 3456"),
        (
            "4111 1111 1111 1111\n5555 5555 5555 4444\n",
            "[redacted: card_number]\n[redacted: card_number]\n",
        ),
        (
            "> -----BEGIN PRIVATE KEY-----\n> " + "A1b/" * 16 + "\n\nbye",
            "> [redacted: private_key]\n\nbye",
        ),
    ],
)
def test_only_the_secret_goes_in_any_form(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "The password is required. Your password is case-sensitive, and the token is invalid.",
        "password = getpass.getpass('Password: ')  # the password of the user",
        "if not (user or passwd): return None",
        "parser.add_argument('--password', help='The password')",
        "const { password, token } = req.body; setPassword(password);",
        "Set the password in the settings; see `password_policy` and `max_tokens`: 4096",
        "API keys are created at https://example.com/keys. Use ${API_KEY} or <your-api-key>.",
        "password: <your password>, api_key: your-api-key-here, token: xxxxxxxx, secret: ********",
        "The key idea: tokens are pieces of text; the secret of success is practice.",
        "errors.InvalidBase64PaddingDefect() and test_module_with_2_long_names_in_it.py",
    ],
)
def test_what_people_write_about_secrets_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    [
        *(
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "Set-Cookie",
            "api_key",
            "apikey",
            "api-key",
        ),
        *(
            "X-API-Key",
            "access_token",
            "refresh_token",
            "id_token",
            "client_secret",
            "secret",
            "PASSWORD",
        ),
        *("passwd", "private_key", "clientSecret"),
    ],
)
def test_a_key_that_names_a_secret_is_known_in_any_spelling(name: str) -> None:
    assert is_secret_key(name)


@pytest.mark.parametrize(
    "name", ["token", "tokens", "max_tokens", "key", "model", "content", "secretary", ""]
)
def test_other_keys_name_no_secret(name: str) -> None:
    assert not is_secret_key(name)


def test_a_pattern_of_the_user_takes_out_what_it_matches() -> None:
    assert (
        pattern(r"ID-\d+", "customer")("ID-1 and ID-22")
        == "[redacted: customer] and [redacted: customer]"
    )
    assert pattern(re.compile("x", re.IGNORECASE))("X") == "[redacted: pattern]"
    assert pattern("x*")("axb") == "a[redacted: pattern]b"
    assert pattern("x")("abc") == "abc"


def test_a_pattern_leaves_marks_alone() -> None:
    redactor = pattern("[a-z]+", "word")
    once = redactor("hello [redacted: email] world")
    assert once == "[redacted: word] [redacted: email] [redacted: word]"
    assert redactor(once) == once


@pytest.mark.parametrize(
    ("regex", "kind", "message"),
    [
        ("(", "x", "expected a regular expression for text, found '\\('"),
        (re.compile(b"x"), "x", "expected a regular expression for text"),
        ("x", "[a]", "expected a kind of 1 to 64 characters"),
        ("x", "", "expected a kind of 1 to 64 characters"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(regex: str, kind: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        pattern(regex, kind)


def test_every_redactor_offered_is_built_in() -> None:
    names = {
        name
        for name in redaction.__all__
        if name not in {"BUILT_IN", "Redactor", "pattern", "is_innocent", "is_secret_key", "redact"}
    }
    assert {redactor.__name__ for redactor in BUILT_IN} == names


@given(st.text(alphabet=string.digits, min_size=16, max_size=16))
def test_sixteen_digits_stay_unless_their_checksum_is_right(digits: str) -> None:
    if not is_luhn(digits):
        assert redact(digits) == digits


@pytest.mark.slow
@settings(max_examples=examples(2000))
@given(
    st.one_of(
        *map(secrets, KINDS),
        st.text(max_size=16),
        st.text("akeoxbhspwd-_ eyJ.", max_size=16),
        st.from_regex(
            r"(?:sk|rk|rzp|fw|hf|re|sm_aat|lin_api|npm|vcp)(?:_live|_test)?_[a-z]{5,20}",
            fullmatch=True,
        ),
    )
)
def test_what_is_innocent_holds_no_secret(text: str) -> None:
    if redaction.is_innocent(text):
        assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "sk_live_abcdefghij",
        "Bearer abcdeF",
        "xoxb-abcdefghij",
        "a@b.cc",
        "secret=x",
        "4111111111111",
        "pwd: x",
    ],
)
def test_the_shortest_secrets_are_not_innocent(text: str) -> None:
    assert not redaction.is_innocent(text)


@pytest.mark.parametrize(
    "text", ["", "model", "messages", "stop", "Hello, Ada!", "prompt_eval_duration"]
)
def test_names_of_fields_and_short_words_are_innocent(text: str) -> None:
    assert redaction.is_innocent(text)
