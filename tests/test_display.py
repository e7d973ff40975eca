"""What may control a terminal, mislead a reader or hide is shown as an escape."""

from __future__ import annotations

import ast
import io
import logging
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import ollama_otel
from ollama_otel._cli.terminal import _escaped, console_for_tables
from ollama_otel._display import (
    EscapingStream,
    logger,
    masked_url,
    shell_command,
    url_path,
    visible,
    visible_line,
)
from ollama_otel.errors import OllamaOtelError

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
INVISIBLE = "\xad\u034f\u115f\u180e\u200b\u2060\u2063\u206a\u3164\ufeff\ufff9\U000e0001\U000e0041"
CONTROLS = "\x1b\x07\x9b\x9d\r\x08\x0b\x0c\x00\x7f\u2028\u2029\x85\ud800"
EVIL = CONTROLS + BIDI + INVISIBLE
anything = st.text(st.characters() | st.sampled_from(EVIL + "\u200c\u200d\ufe0f👩❤1ع"))


def is_harmless(text: str) -> bool:
    return not set(EVIL) & set(text)


@given(anything)
def test_no_control_is_left_in_any_text(text: str) -> None:
    shown = visible(text)
    assert is_harmless(shown)
    for each in shown:
        assert unicodedata.category(each) not in {"Cc", "Cs", "Zl", "Zp"} or each in "\n\t"
    # Shown twice is shown once.
    assert visible(shown) == shown
    assert "\n" not in visible_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\x9bb", r"a\x9bb"),
        ("a\rb\r\nc\td", "a\\x0db\nc\td"),
        ("\u202ecod.exe", r"\u202ecod.exe"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("pass\u200bword", r"pass\u200bword"),
        # A joiner, or a selector, that joins or selects nothing.
        ("pass\u200dword", r"pass\u200dword"),
        ("a\u200c", r"a\u200c"),
        ("x\ufe0f", r"x\ufe0f"),
        ("❤\ufe0f\ufe0f", "❤\ufe0f\\ufe0f"),
    ],
)
def test_each_escape_is_that_of_python(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧 👩🏽‍🚀 ❤️‍🔥 1️⃣ 🇩🇪 👩‍❤️‍👨",
        "می‌خواهم",
        "क्‍ष",
        "שלום עולם, العالم",
        "葛\U000e0100 日本語 한국어 ไทย é e\u0301",
        "no-break\xa0space, ideographic\u3000space",
        r"C:\new\x1b",
    ],
)
def test_emoji_and_all_scripts_stay_readable(text: str) -> None:
    assert visible(text) == text


# --- consoles and streams -----------------------------------------------------------------


def test_a_console_escapes_whatever_it_prints() -> None:
    file = io.StringIO()
    console = console_for_tables(file, no_color=True)
    evil = "\x1b]0;x\x9b\u202e\u200b"
    table = Table(evil)
    table.add_row(Text(evil), evil)
    tree = Tree(Text(evil))
    tree.add(evil)
    for each in (evil, Text(evil), table, tree):
        console.print(each)
    assert is_harmless(file.getvalue())
    assert file.getvalue().count(r"\x1b]0;x\x9b\u202e\u200b") == 4


def test_the_styles_of_the_rest_of_a_text_stay() -> None:
    text = Text.assemble(("a\x1bb", "bold"), "c\x9b", ("d", "bold"))
    escaped = _escaped(text)
    assert escaped.plain == r"a\x1bbc\x9bd"
    bold = {
        at for span in escaped.spans if span.style == "bold" for at in range(span.start, span.end)
    }
    assert [escaped.plain[at] for at in sorted(bold)] == ["a", "b", "d"]


def test_a_stream_escapes_what_is_written() -> None:
    file = io.StringIO()
    stream = EscapingStream(file)
    print("a\x1b", file=stream, flush=True)
    assert file.getvalue() == "a\\x1b\n"
    assert not stream.isatty()


def test_our_errors_are_harmless() -> None:
    error = OllamaOtelError("found '\x1b[2J'")
    assert str(error) == r"found '\x1b[2J'"
    assert error.args == ("found '\x1b[2J'",)


# --- log lines ----------------------------------------------------------------------------


def test_what_a_log_line_quotes_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    log = logger("ollama_otel.test")
    log.warning("%s failed %d times: %s", "m\x1b[2J", 3, ValueError("x\nERROR forged"))
    assert caplog.messages == ["m\\x1b[2J failed 3 times: x\n  ERROR forged"]
    assert logger("ollama_otel.test").filters == log.filters
    assert len(log.filters) == 1


def test_every_logger_of_ours_escapes() -> None:
    package = Path(ollama_otel.__file__).parent
    named = {
        (path.relative_to(package).as_posix(), ast.unparse(node.args[0]))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    }
    assert named == {
        ("_display.py", "name"),
        # Its values are escaped one by one.
        ("_telemetry/log_lines.py", "_NAME"),
        # Loggers of OpenTelemetry, which write lines of their own.
        ("_cli/demo_run.py", "'opentelemetry'"),
        ("_telemetry/export_failures.py", "name"),
        ("_telemetry/export_failures.py", "line.name"),
    }


# --- commands and URLs --------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_copied_command_gets_the_same_word(word: str) -> None:
    command = shell_command(["printf", "%s", word])
    assert visible(command) == command
    assert "\n" not in command
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout == word.encode()


def test_a_path_has_only_what_urls_can_have() -> None:
    assert url_path("/v\x1b/api/chat%20") == "/v%1B/api/chat%20"
    assert url_path("/\u202e") == "/%E2%80%AE"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:1/p", "http://h:1/p"),
        ("http://a:b@h:1/p?x=1#y", "http://***@h:1/p?***"),
        ("http://h/#token", "http://h/#***"),
        ("admin:hunter2@127.0.0.1:9", "***@127.0.0.1:9"),
        ("htp://admin:hunter2@h", "htp://***@h"),
        ("http://a:p/w@[bad", "http://***"),
        ("http://a:p@w@h/x", "http://***@h/x"),
        ("http://a:p?w@h/x", "http://***"),
        ("http://h/\x1b", r"http://h/\x1b"),
    ],
)
def test_secrets_of_urls_are_masked(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@given(
    st.sampled_from(["http://", "https://", "x://", "//", ""]),
    st.text(min_size=1),
    st.sampled_from(["h", "127.0.0.1:1", "[::1]", "[bad", ""]),
    st.sampled_from(["", "/", "/p"]),
)
def test_no_password_is_shown(scheme: str, noise: str, host: str, path: str) -> None:
    password = f"CANARY{noise}"
    assert "CANARY" not in masked_url(f"{scheme}user:{password}@{host}{path}")
    assert "CANARY" not in masked_url(f"{scheme}{host}{path}?token={password}")


def test_logging_stays_that_of_the_application() -> None:
    record = logging.LogRecord("x", 30, "f", 1, "no arguments \x1b", None, None)
    assert logger("ollama_otel.test").filter(record)
