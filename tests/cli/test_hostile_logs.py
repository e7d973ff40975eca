"""Whatever a log holds, a command prints it, or says in a sentence why it cannot."""

from __future__ import annotations

import gzip
import io
import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from ollama_otel._cli import main
from ollama_otel._cli.top_call import call_in_full, verdicts_in_full
from ollama_otel._cli.top_screen import Choice, lines_of
from ollama_otel._log import reader
from ollama_otel._top.selection import SORTS
from ollama_otel._top.sources import LogSource, read_once
from ollama_otel._top.state import State
from ollama_otel.errors import OllamaOtelError
from ollama_otel.replay import ReplayApp, read


def request(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "v": 2,
        "event": "request",
        "id": f"4f3a-{number}",
        "at": "2026-01-02T03:04:05Z",
        "operation": "chat",
        "method": "POST",
        "path": "/api/chat",
        "server": "localhost",
        "port": 11434,
        "conversation_id": "c",
        "tags": {"k": "v"},
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
        "sampled": True,
        "request": {"model": "m", "stream": True, "size": 60, "options": {"seed": 1}},
        "body": {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi", "images": [{"sha256": "ab", "size": 3}]},
                {"role": "tool", "content": "18", "tool_name": "f"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "options": {"seed": 1},
        },
        "changes": ["redacted"],
        **fields,
    }


def end(number: int, **fields: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "Hi", "thinking": "Hm"}
    called = {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    messages = (
        {"model": "m", "message": {**said, **called}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True},
    )
    return {
        "v": 2,
        "event": "end",
        "id": f"4f3a-{number}",
        "at": "2026-01-02T03:04:07Z",
        "operation": "chat",
        "model": "m",
        "outcome": "completed",
        "ending": "final_message",
        "status": 200,
        "duration": 2.0,
        "time_to_first_chunk": 0.5,
        "chunk_count": 2,
        "content_type": "application/x-ndjson",
        "size": 99,
        "response": {
            "done": True,
            "done_reason": "stop",
            "total_duration": 1.9,
            "load_duration": 0.4,
            "prompt_eval_duration": 0.2,
            "eval_duration": 1.0,
            "input_tokens": 3,
            "output_tokens": 4,
        },
        "residency": {"gpu_share": 0.5, "reload_cause": "evicted", "evicted_by": "n"},
        "chunks": [[0.5, json.dumps(each) + "\n"] for each in messages],
        **fields,
    }


LINES: list[dict[str, Any]] = [
    {"v": 2, "event": "opened", "at": "2026-01-01T00:00:00Z", "run": "r", "pid": 1},
    request(1),
    end(1),
    request(2),
    end(2, outcome="failed", ending="error_status", status=500, error_type="500"),
]
EVIL = "\x1b[2J\u202e\x00"
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(st.characters() | st.sampled_from(EVIL), max_size=8),
    st.sampled_from(
        [
            *(0, -1, 1e-9, -0.999999999, 1e9, 1e18, 1e300, -1e300, 2**63, 2**64, -(2**70), 10**400),
            *("", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "2026-01-01"),
            *("0001-01-01T00:00:00+23:59", "NaN", "ab" * 40, "é", "/api/\x1b", "-1", "💥" * 99),
            *(
                [],
                {},
                [[]],
                [None],
                {"": None},
                [[1e300, "x"]],
                [[-5.0, "{}"]],
                [[0, {"base64": "?"}]],
            ),
            *([[0.1, '{"message":{"content":7},"done":true}\n']], {"content": {"a": [EVIL]}}),
            [[0.1, '{"message":{"content":"x","tool_calls":[{"function":7}]}}\n']],
        ]
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(each for key, item in inner for each in places(item, (*path, key)))]


@st.composite
def hostile_logs(draw: st.DrawFn) -> bytes:
    lines = json.loads(json.dumps(LINES))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from([each for each in places(lines) if each]))
        target: Any = lines
        try:
            for key in path[:-1]:
                target = target[key]
            if draw(st.booleans()):
                target[path[-1]] = deepcopy(draw(ODD))
            elif isinstance(target, dict):
                # A field that the line did not have.
                target[draw(st.sampled_from(FIELDS))] = deepcopy(draw(ODD))
            else:
                del target[path[-1]]
        except (KeyError, IndexError, TypeError):
            # An earlier change has taken the place away.
            continue
    raw = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at + draw(st.integers(0, 9)) :]
    return raw


FIELDS = [
    *("chunks", "changes", "missing", "tags", "trace_id", "span_id", "sampled", "response"),
    *("residency", "progress", "duration", "time_to_first_piece", "error_message", "server"),
    *("port", "conversation_id", "content_type", "redirect", "attempt", "body", "request"),
]
COMMANDS = [
    ["show", "LOG"],
    ["show", "LOG", "--json"],
    ["show", "LOG", "1"],
    ["show", "LOG", "1", "--json"],
    ["show", "LOG", "2"],
    ["tail", "--once", "LOG"],
    ["top", "LOG", "--json"],
    ["diff", "LOG", "GOOD"],
    ["diff", "GOOD", "LOG", "--json", "--only", "all"],
    ["replay", "LOG", "--host", "127.0.0.1:9", "--out", "OUT"],
]


def is_clean(text: str) -> bool:
    return not any(ord(each) < 32 and each not in "\n\t" for each in text) and "\u202e" not in text


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=hostile_logs())
def test_no_log_ends_a_command_with_a_traceback(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], log: bytes
) -> None:
    path, good = tmp_path / "a.jsonl", tmp_path / "good.jsonl"
    path.write_bytes(log)
    good.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in LINES))
    names = {"LOG": str(path), "GOOD": str(good), "OUT": str(tmp_path / "out.jsonl")}
    status = main([names.get(word, word) for word in command])
    shown = capsys.readouterr()
    assert status in {0, 1, 2}
    assert is_clean(shown.out)
    assert is_clean(shown.err)
    assert len(shown.out) < 200_000
    assert "Traceback" not in shown.err


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=hostile_logs())
def test_no_log_breaks_the_library_in_another_way(tmp_path: Path, log: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(log)
    try:
        calls = list(read(path))
        ReplayApp(path)
    except OllamaOtelError:
        return
    for call in calls:
        call.answer()
        assert json.dumps(call.request_body) is not None


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=hostile_logs())
def test_no_log_breaks_the_screen_of_top(tmp_path: Path, log: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(log)
    source, state = LogSource(path), State()
    now = datetime(2026, 1, 2, 3, 5, tzinfo=UTC).timestamp()
    read_once(state, [source], clock=lambda: now)
    source.close()
    view = state.view(now)
    assert view.sources[0].problem is None
    console = Console(file=io.StringIO(), width=80)
    for sort in SORTS:
        lines = lines_of(view, Choice(sort=sort), width=140, height=30)
        assert all(is_clean(line.plain) for line in lines)
    for call in view.calls:
        console.print(call_in_full(call))
    console.print(verdicts_in_full(view))
    console.print(*lines_of(view, Choice(), width=80, height=24))


# --- crafted sizes ------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [-0.999999, -0.99999999, -1e300, 1e300])
def test_a_bar_is_never_longer_than_its_place(
    rest: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timings = {"total_duration": 0.0, "load_duration": 1.0, "eval_duration": rest}
    path = tmp_path / "a.jsonl"
    lines = request(1), end(1, response={"done": True, **timings})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert main(["show", str(path), "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\N{FULL BLOCK}") <= 8 * 30
    assert len(shown) < 5_000


@pytest.mark.slow
def test_a_line_of_any_length_needs_bounded_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"v":1,"event":"x","a":"' + b"a" * (64 << 20) + b'"}\n'))
    assert main(["show", str(path)]) == 2
    assert "expected lines of at most 1 MiB, found a longer one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "at",
    [
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
        *("9999-12-31T23:59:59Z", "2026-01-01", "2026-01-01T00:00:00", "now", ""),
    ],
)
@pytest.mark.parametrize("command", [["LOG"], ["LOG", "--json"], ["LOG", "1"]], ids=" ".join)
def test_an_impossible_time_is_an_error_in_a_sentence(
    command: list[str], at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(request(1, at=at)) + "\n")
    assert main(["show", *(str(path) if word == "LOG" else word for word in command)]) == 2
    assert "expected the request line of a call, found a malformed one" in capsys.readouterr().err


@pytest.mark.parametrize("pause", [1e300, -1e300, 1e10, 10**400])
def test_an_impossible_pause_is_an_error_and_no_wait(pause: float, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = request(1), end(1, chunks=[[pause, "x"]])
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(OllamaOtelError, match="expected the end line of a call"):
        ReplayApp(path)
