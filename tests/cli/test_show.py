"""The command `show`: the table, one call in full, JSON, and what is not in the log."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._cli import call_list, call_view, main
from ollama_otel._cli.curl import curl_for
from ollama_otel._cli.slowness import why
from ollama_otel._display import visible
from ollama_otel._facts import FACTS, Fact, FactTable
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.format import call_from
from ollama_otel._wire.address import parse_host

QUESTION = "Why is the sky blue?\nIt's \x1b[31mred"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
FINAL = {
    "model": "m",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
}


def known(values: dict[str, Any]) -> dict[str, Any]:
    """A line has no nulls: what is not known is not there."""
    return {name: value for name, value in values.items() if value is not None}


def request(number: int, **fields: Any) -> dict[str, Any]:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": QUESTION},
        ],
        "stream": True,
        "options": {"temperature": 0.2},
        "tools": [WEATHER],
    }
    values = {
        "v": 1,
        "event": "request",
        "id": f"4f3a2b1c-{number}",
        "at": f"2026-01-02T03:04:{number:02d}.000000Z",
        "operation": "chat",
        "method": "POST",
        "path": "/api/chat",
        "server": "127.0.0.1",
        "port": 11434,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "sampled": True,
        "request": {"model": "m", "stream": True, "size": 64, "options": {"temperature": 0.2}},
        "body": body,
        **fields,
    }
    return known(values)


def line(**message: Any) -> str:
    part = {"model": "m", "message": {"role": "assistant", "content": "", **message}, "done": False}
    return json.dumps(part) + "\n"


def end(number: int, **fields: Any) -> dict[str, Any]:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    values = {
        "v": 1,
        "event": "end",
        "id": f"4f3a2b1c-{number}",
        "at": f"2026-01-02T03:05:{number:02d}.000000Z",
        "operation": "chat",
        "model": "m",
        "outcome": "completed",
        "status": 200,
        "duration": 2.1,
        "time_to_first_chunk": 0.8,
        "chunk_count": 4,
        "size": 300,
        "content_type": "application/x-ndjson",
        "response": {
            "done": True,
            "input_tokens": 35,
            "output_tokens": 12,
            "total_duration": 2.0,
            "load_duration": 0.5,
            "prompt_eval_duration": 0.25,
            "eval_duration": 0.75,
        },
        "chunks": [
            [0.8, line(thinking="A greeting.")],
            [0.1, line(content="Hel")],
            [0.9, line(content="lo", tool_calls=[call])],
            [0.1, json.dumps(FINAL) + "\n"],
        ],
        **fields,
    }
    return known(values)


FAILED = {
    "outcome": "failed",
    "error_type": "model_not_found",
    "error_message": "model 'nope' not found",
    "status": 404,
    "chunks": [[0.01, '{"error":"model \'nope\' not found"}']],
    "content_type": "application/json",
    "response": {},
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three calls: one completed, one failed, one that never ended."""
    lines = [
        request(1),
        end(1),
        request(2, request={"model": "nope:latest", "size": 64}),
        end(2, **FAILED),
        request(13),
    ]
    return write(tmp_path, *lines)


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "calls.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def call(request: dict[str, Any], end: dict[str, Any] | None = None) -> RecordedCall:
    return call_from(request, end, file=Path("calls.jsonl"), line=1)


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")


Captured = pytest.CaptureFixture[str]


def show(capsys: Captured, *arguments: str | Path, status: int = 0) -> str:
    assert main(["show", *map(str, arguments)]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


# --- the table ----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal_and_has_the_newest_call_last(
    log: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = show(capsys, log).splitlines()
    assert max(map(len, lines)) <= columns
    shown = [line.split()[1] for line in lines if "4f3a2b1c" in line]
    assert shown == ["4f3a2b1c-1", "4f3a2b1c-2", "4f3a2b1c-13"]
    text = "\n".join(lines)
    for part in ("Friday, 02 January 2026", "chat m", "completed", "2.10 s", "35/12"):
        assert part in text
    assert "model_not_found  Why is the sky blue? It's" in text
    assert "never ended" in lines[-1 if columns == 120 else -2]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_long_ids_and_models_differ_at_their_ends(columns: int) -> None:
    """Ids in a folder of cassettes begin with the names of its files."""
    ids = [f"test_answers/test_a_question_with_many_words.json-{number}" for number in range(3)]
    models = [f"hf.co/somebody/a-model-with-a-long-name:{size}" for size in ("q4", "q8", "f16")]
    calls = [
        call(request(1, id=each, request={"model": model, "size": 64}), end(1, id=each))
        for each, model in zip(ids, models, strict=True)
    ]
    lines = [line.plain for line in call_list.rows(calls, width=columns)]
    assert max(map(len, lines)) <= columns
    cut = [line.split()[1] for line in lines if "completed" in line]
    assert [each[-2:] for each in cut] == ["-0", "-1", "-2"]
    if columns > 60:
        assert all(any(f":{size} " in line for line in lines) for size in ("q4", "q8", "f16"))


def test_a_pipe_gets_wide_lines(
    log: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    (row,) = [line for line in show(capsys, log).splitlines() if "4f3a2b1c-1 " in line]
    assert "0.80 s" in row
    assert "Why is the sky blue?" in row


def test_nothing_of_a_log_can_steer_the_terminal(log: Path, capsys: Captured) -> None:
    assert "\x1b" not in show(capsys, log)
    assert "\x1b" not in show(capsys, log, "1")


def test_the_table_can_be_narrowed_down(log: Path, capsys: Captured) -> None:
    def ids(*arguments: str) -> list[str]:
        rows = map(json.loads, show(capsys, log, "--json", *arguments).splitlines())
        return [row["id"] for row in rows]

    assert ids() == ["4f3a2b1c-1", "4f3a2b1c-2", "4f3a2b1c-13"]
    assert ids("--failed") == ["4f3a2b1c-2"]
    assert ids("--model", "nope") == ["4f3a2b1c-2"]
    assert ids("--model", "m:latest") == ["4f3a2b1c-1", "4f3a2b1c-13"]
    assert ids("--limit", "2") == ["4f3a2b1c-2", "4f3a2b1c-13"]


def test_json_has_the_facts_and_null_for_what_is_not_known(log: Path, capsys: Captured) -> None:
    completed, failed, unended = map(json.loads, show(capsys, log, "--json").splitlines())
    expected = {
        "id": "4f3a2b1c-1",
        "at": "2026-01-02T03:04:01.000000Z",
        "operation": "chat",
        "path": "/api/chat",
        "model": "m",
        "outcome": "completed",
        "error_type": None,
        "error_message": None,
        "duration": 2.1,
        "time_to_first_chunk": 0.8,
        "input_tokens": 35,
        "output_tokens": 12,
        "question": QUESTION,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "file": str(log),
        "line": 1,
        # What follows from what was logged is there as well.
        "decode_rate": 16.0,
        "cold_start": True,
        "options": {"temperature": 0.2},
        "phases": {
            "load": 0.5,
            "queue_estimate": 0.5,
            "prompt_eval": 0.25,
            "eval": 0.75,
            "client": 0.1,
        },
        "tools": [],
        "reload_cause": None,
    }
    assert completed | expected == completed
    columns = {column.name for column in FACTS.columns()}
    assert completed.keys() == columns | {"id", "at", "question", "file", "line"}
    assert failed["error_type"] == "model_not_found"
    assert unended["outcome"] is unended["duration"] is None


def test_a_fact_that_is_added_to_the_table_is_in_the_json() -> None:
    added = Fact(
        path="response.error", type="text", source="server", sentence=".", key="k", column="added"
    )
    facts = FactTable((*FACTS.rows, added))
    recorded = call(request(1), end(1, response={"error": "busy"}))
    for values in (call_list.as_values, call_view.as_values):
        assert "added" not in values(recorded)
        assert values(recorded, facts=facts)["added"] == "busy"


def test_a_folder_is_shown_as_well(log: Path, capsys: Captured) -> None:
    assert show(capsys, log.parent, "--json") == show(capsys, log, "--json")


def test_no_call_that_is_asked_for_is_told(log: Path, capsys: Captured) -> None:
    assert show(capsys, log, "--model", "other") == "No calls match.\n"


def test_an_empty_log_is_told(tmp_path: Path, capsys: Captured) -> None:
    assert show(capsys, write(tmp_path)) == "This log has no calls.\n"


def test_a_narrow_table_keeps_its_figures(
    log: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    heading, _, first, *_ = lines = show(capsys, log).splitlines()
    assert max(map(len, lines)) <= 60
    assert heading.split() == ["time", "id", "call", "outcome", "duration", "in/out"]
    assert first.endswith("2.10 s   35/12")
    assert "4f3a2b1c-1 " in first


def test_what_was_recorded_is_no_command_to_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    odd = "\x1b]0;pwn\x07\u202e"
    path = write(
        tmp_path,
        request(1, id=odd, path=f"/api/chat{odd}", server=odd, changes=[odd]),
        end(1, **{**FAILED, "id": odd, "error_type": odd, "changes": [odd], "missing": odd}),
    )
    for text in (
        show(capsys, path),
        show(capsys, path, odd),
        show(capsys, path, "other", status=2),
    ):
        assert "]0;pwn" in text
        assert not {"\x1b", "\x07", "\u202e"} & {*text}


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_bad_limit_is_told(log: Path, capsys: Captured, limit: str) -> None:
    with pytest.raises(SystemExit):
        main(["show", str(log), f"--limit={limit}"])
    assert f"expected a whole number of at least 1, found '{limit}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "body", "question"),
    [
        ("/api/generate", {"prompt": "p"}, "p"),
        ("/api/embed", {"input": ["a", "b"]}, "a"),
        ("/api/embed", {"input": "i"}, "i"),
        ("/api/web_search", {"query": "q"}, "q"),
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]},
            "a",
        ),
        ("/api/chat", {"messages": [{"role": "assistant", "content": "a"}]}, None),
        ("/api/chat", {"messages": [7, {"role": "user", "content": 7}]}, None),
        ("/api/generate", {"prompt": 7}, None),
        ("/api/chat", {}, None),
        ("/api/chat", ["not an object"], None),
    ],
)
def test_the_question_is_what_was_asked_last(path: str, body: Any, question: str | None) -> None:
    recorded = call(request(1, path=path, body=body))
    assert call_list.as_values(recorded)["question"] == question


# --- why, slow ones, order ----------------------------------------------------------------

TIMES = {
    "done": True,
    "input_tokens": 35,
    "output_tokens": 12,
    "total_duration": 9.0,
    "load_duration": 0.0,
    "prompt_eval_duration": 0.25,
    "eval_duration": 0.75,
}
ON_CPU = {"gpu_share": 0.0}
CHANGED = {"reload_cause": "num_ctx", "reload_before": "512", "reload_after": "2048"}


@pytest.mark.parametrize(
    ("times", "fields", "said"),
    [
        ({"load_duration": 7.5}, {}, "cold load 7.50 s"),
        (
            {"load_duration": 7.5},
            {"residency": CHANGED},
            "cold load 7.50 s: num_ctx 512 -> 2048",
        ),
        ({}, {}, "queue, estimated 8.00 s"),
        (
            {"prompt_eval_duration": 8.0, "input_tokens": 12000},
            {},
            "prompt 8.00 s, 12000 tokens",
        ),
        ({"prompt_eval_duration": 8.0, "input_tokens": None}, {}, "prompt 8.00 s"),
        ({"eval_duration": 8.0, "output_tokens": 560}, {}, "decode 8.00 s, 560 tokens at 70/s"),
        (
            {"eval_duration": 8.0, "output_tokens": 56},
            {"residency": ON_CPU},
            "decode 8.00 s, 56 tokens at 7/s, on the CPU",
        ),
        ({"total_duration": 1.0}, {}, "client or network 8.10 s"),
        ({"total_duration": None}, {"outcome": "abandoned"}, "stream 8.30 s"),
        ({"eval_duration": 8.0}, {"duration": 1.9}, ""),
        ({"eval_duration": 8.0}, {"duration": 1.9, "residency": CHANGED}, "cold: num_ctx 512"),
        ({}, FAILED | {"duration": 9.1}, ""),
    ],
)
def test_a_slow_call_says_why_from_what_is_known(
    times: dict[str, Any], fields: dict[str, Any], said: str
) -> None:
    values = {"duration": 9.1, "response": known({**TIMES, **times}), **fields}
    recorded = call(request(1), end(1, **values))
    assert recorded.record is not None
    found = why(recorded.record)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_the_table_has_the_reason_beside_the_question(tmp_path: Path, capsys: Captured) -> None:
    log = write(tmp_path, request(1), end(1, duration=9.1, response=TIMES), request(2), end(2))
    for columns, heading in (("100", "in/out"), ("140", "why, asked")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", columns)
            table = show(capsys, log)
        assert table.splitlines()[0].endswith(heading)
        assert "queue, estimated 8.00 s  Why is the sky blue?" in table


def test_slow_calls_alone_are_listed(log: Path, capsys: Captured) -> None:
    def ids(*arguments: str) -> list[str]:
        rows = map(json.loads, show(capsys, log, "--json", *arguments).splitlines())
        return [row["id"] for row in rows]

    # Two of them took 2.1 s, and one has no end.
    assert ids("--slow") == ids("--slow", "2.1") == ["4f3a2b1c-1", "4f3a2b1c-2"]
    assert ids("--slow", "2.2") == []
    assert show(capsys, log, "--slow", "2.2") == "No calls match.\n"
    with pytest.raises(SystemExit):
        main(["show", str(log), "--slow", "x"])


def test_the_limit_of_slow_calls_is_that_of_the_reasons(tmp_path: Path, capsys: Captured) -> None:
    log = write(tmp_path, request(1), end(1, duration=1.5))
    assert "decode" not in show(capsys, log)
    assert "decode 0.75 s, 12 tokens at 16/s" in show(capsys, log, "--slow", "1")


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("start", [1, 2, 3, 4]),
        # The call without an end comes first, as nothing of it is known.
        ("duration", [4, 2, 3, 1]),
        ("first", [4, 1, 3, 2]),
        ("load", [4, 1, 2, 3]),
        ("in", [4, 3, 1, 2]),
        ("out", [4, 1, 3, 2]),
    ],
)
def test_the_table_is_sorted_with_the_highest_last(
    tmp_path: Path, capsys: Captured, order: str, ids: list[int]
) -> None:
    ends = [
        (3.0, 0.1, {"load_duration": 0.1, "input_tokens": 20, "output_tokens": 1}),
        (1.0, 0.9, {"load_duration": 0.2, "input_tokens": 30, "output_tokens": 9}),
        (2.0, 0.5, {"load_duration": 0.3, "input_tokens": 10, "output_tokens": 5}),
    ]
    lines = []
    for number, (duration, first, times) in enumerate(ends, 1):
        response = {**TIMES, **times}
        done = end(number, duration=duration, time_to_first_chunk=first, response=response)
        lines += [request(number), done]
    log = write(tmp_path, *lines, request(4))
    shown = show(capsys, log, "--json", "--sort", order).splitlines()
    assert [int(json.loads(row)["id"][-1]) for row in shown] == ids
    last = show(capsys, log, "--json", "--sort", order, "--limit", "2").splitlines()
    assert last == shown[-2:]


@pytest.mark.parametrize("wanted", ["4f3a2b1c-1", "1"])
def test_the_rate_of_a_call_is_compared_with_the_usual_one(
    tmp_path: Path, capsys: Captured, wanted: str
) -> None:
    """With the median over four calls or more of the same model at the same server."""

    def log(calls: int, **others: Any) -> Path:
        slow = {**TIMES, "eval_duration": 4.0}
        lines = [request(1), end(1, response=slow)]
        for number in range(2, calls + 1):
            lines += [request(number, **others), end(number, response=TIMES)]
        return write(tmp_path, *lines)

    assert "12 out, 3 tokens/s (usually 16)" in show(capsys, log(4), wanted)
    assert "usually" not in show(capsys, log(3), wanted)
    assert "usually" not in show(capsys, log(9, server="gpu2"), wanted)
    assert "usually" not in show(capsys, log(9, request={"model": "other"}), wanted)


# --- one call -----------------------------------------------------------------------------


def test_one_call_is_shown_with_all_there_is_to_know(log: Path, capsys: Captured) -> None:
    text = show(capsys, log, "4f3a2b1c-1")
    places = [
        text.index(part)
        for part in (
            "chat m\n",
            "POST /api/chat at 127.0.0.1:11434, 2026-01-02",
            f"4f3a2b1c-1, {log}:1",
            "Asked",
            "  system",
            "    Be brief.",
            "  user",
            "    Why is the sky blue?",
            "Tools offered",
            "get_weather(city)  The weather in a city.",
            "Options",
            "temperature = 0.2",
            "Thinking",
            "A greeting.",
            "Answered",
            "Hello",
            'calls get_weather(city="Paris")',
            "Where the time went",
            "load ",
            "prompt ",
            "decode ",
            "client ",
            "first chunk after 0.80 s",
            "35 tokens in, 12 out",
            "Time between chunks",
            "4 in all; median 0.10 s, longest 0.90 s, after 0.90 s",
            "Trace",
            "http://localhost:16686/trace/0af7651916cd43dd8448eb211c80319c",
            "Make it again",
            "curl --no-buffer http://127.0.0.1:11434/api/chat",
        )
    ]
    assert places == sorted(places)
    assert "lacks" not in text


def test_the_bars_between_chunks_show_where_it_stalled(log: Path, capsys: Captured) -> None:
    assert "  ▂█▂\n" in show(capsys, log, "4f3a2b1c-1")


def test_many_chunks_share_a_bar_and_none_is_lost(tmp_path: Path, capsys: Captured) -> None:
    waits = [0.01] * 300
    waits[150] = 3.0
    chunks = [[wait, line(content="a")] for wait in waits]
    log = write(tmp_path, request(1), end(1, chunks=chunks))
    text = show(capsys, log, "1")
    (bars,) = [row.strip() for row in text.splitlines() if "█" in row and "▁" in row]
    assert len(bars) == 60
    assert bars.count("█") == 1
    assert "a bar for 5 chunks, 300 in all; median 10 ms, longest 3.00 s, after 1.50 s" in text


def test_a_failed_call_says_why(log: Path, capsys: Captured) -> None:
    text = show(capsys, log, "4f3a2b1c-2")
    assert "HTTP 404, model_not_found: model 'nope' not found" in text
    assert "failed: model_not_found" in text


def test_a_call_that_never_ended_is_told(log: Path, capsys: Captured) -> None:
    text = show(capsys, log, "13")
    assert "never ended: its process was killed, or it is still running" in text
    assert "Why is the sky blue?" in text


def test_what_is_not_in_the_log_is_told(tmp_path: Path, capsys: Captured) -> None:
    bare = request(1, sampled=None)
    del bare["body"]
    log = write(tmp_path, bare, end(1, chunks=None))
    text = show(capsys, log, "1")
    assert "64 bytes; the text was not logged" in text
    assert "300 bytes, not logged" in text
    assert "Bodies were not logged: replay_bodies is off." in text
    assert "There is no command, as the request's body is not in the log: replay_bodies is off" in (
        text.replace("\n", " ")
    )
    assert "Not sampled" in text
    assert "curl " not in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"changes": ["redacted"]}, "Redacted: parts of the text"),
        ({"changes": ["images"]}, "Images are left out"),
        ({"changes": ["vectors"]}, "Vectors are left out"),
        ({"changes": ["decoded"]}, "logged uncompressed"),
        ({"changes": ["new kind"]}, "new kind"),
        ({"missing": "too_long", "chunks": None}, "longer than the log's limit"),
        ({"missing": "queue_full", "chunks": None}, "the log's queue was full"),
        ({"missing": "encoding", "chunks": None}, "cannot decode its encoding"),
    ],
)
def test_what_was_changed_is_told(
    tmp_path: Path, capsys: Captured, fields: dict[str, Any], said: str
) -> None:
    log = write(tmp_path, request(1), end(1, **fields))
    text = show(capsys, log, "1")
    assert said in text[text.index("What the log lacks") :]


def test_images_tools_answers_and_vectors_are_shown(tmp_path: Path, capsys: Captured) -> None:
    omitted = {"ollama_otel": "omitted", "sha256": "ab" * 32, "size": 123}
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "See", "images": [omitted, "QUJD"]},
            {"role": "assistant", "thinking": "Hm.", "tool_calls": [{"function": 7}]},
            {"role": "tool", "tool_name": "get_weather", "content": "11"},
        ],
    }
    embed = request(
        2, operation="embed", path="/api/embed", body={"model": "e", "input": ["a", "b"]}
    )
    vectors = json.dumps({"embeddings": [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]})
    log = write(
        tmp_path,
        request(1, body=body),
        embed,
        end(2, chunks=[[0.1, vectors]], content_type="application/json"),
    )
    text = show(capsys, log, "1")
    for part in ("[image, left out of the log: 123 bytes, sha256 abababab", "[image: 3 bytes"):
        assert part in text
    assert "tool get_weather" in text
    assert "assistant, thinking" in text
    assert "2 vector(s) of 3 numbers" in show(capsys, log, "2")


@pytest.mark.parametrize(
    ("residency", "reason"),
    [
        (
            {"reload_cause": "num_ctx", "reload_before": "512", "reload_after": "2048"},
            "num_ctx 512 -> 2048",
        ),
        ({"reload_cause": "num_gpu", "reload_after": "20"}, "num_gpu default -> 20"),
        ({"reload_cause": "evicted", "evicted_by": "qwen3:latest"}, "evicted by qwen3:latest"),
        ({"reload_cause": "evicted"}, "evicted by another model"),
        ({"reload_cause": "expired"}, "keep_alive expired"),
        ({"reload_cause": "unknown"}, "reason unknown"),
    ],
)
def test_a_cold_call_says_why(
    tmp_path: Path, capsys: Captured, residency: dict[str, Any], reason: str
) -> None:
    log = write(tmp_path, request(1), end(1, residency=residency), request(2), end(2))
    listed = show(capsys, log)
    assert f"{reason}  Why is the sky blue?" in listed
    assert listed.count("cold: ") == 1
    shown = show(capsys, log, "1")
    assert f"Model in memory\n  loaded again for this call: {reason}\n" in shown
    assert "Model in memory" not in show(capsys, log, "2")


def test_what_the_server_held_of_the_model_is_shown(tmp_path: Path, capsys: Captured) -> None:
    log = write(
        tmp_path, request(1), end(1, residency={"gpu_share": 0.625, "context_length": 4096})
    )
    text = show(capsys, log, "1")
    assert "Model in memory\n  62% in GPU memory\n  context of 4096 tokens\n" in text
    assert "loaded again" not in text
    values = json.loads(show(capsys, log, "1", "--json"))
    assert (values["gpu_share"], values["context_length"]) == (0.625, 4096)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.046, "5% in GPU memory, runs on the CPU"),
        (0.0, "0% in GPU memory, runs on the CPU"),
        (0.1, "10% in GPU memory"),
    ],
)
def test_a_model_on_the_cpu_may_have_buffers_on_the_gpu(
    tmp_path: Path, capsys: Captured, share: float, shown: str
) -> None:
    log = write(tmp_path, request(1), end(1, residency={"gpu_share": share}))
    assert f"Model in memory\n  {shown}\n" in show(capsys, log, "1")


@pytest.mark.parametrize(
    ("path", "answer", "shown"),
    [
        ("/api/embeddings", '{"embedding":[0.1,0.2]}', "1 vector(s) of 2 numbers"),
        (
            "/api/embed",
            '{"embeddings":{"ollama_otel":"omitted","sha256":"ab","size":9,"count":2}}',
            "2 vector(s), left out of the log",
        ),
        ("/api/tags", '{"models":[]}', '{"models":[]}'),
        ("/api/tags", "a" * 2001, "... and 1 more characters: see --body"),
    ],
)
def test_a_body_that_is_not_a_completion_is_shown(
    tmp_path: Path, capsys: Captured, path: str, answer: str, shown: str
) -> None:
    method = "GET" if path == "/api/tags" else "POST"
    log = write(
        tmp_path,
        request(1, path=path, method=method, body={"model": "m"}),
        end(1, chunks=[[0.1, answer]], content_type="application/json"),
    )
    text = show(capsys, log, "1")
    assert shown in text[text.index("Answered") :].replace("\n  ", "")


@pytest.mark.slow
def test_an_answer_that_is_too_long_to_be_read_whole_says_so(
    tmp_path: Path, capsys: Captured
) -> None:
    long = [[0.1, line(content="a" * 300_000)] for _ in range(5)]
    assert "... and more: see --body" in show(
        capsys, write(tmp_path, request(1), end(1, chunks=long)), "1"
    )


def test_a_request_that_is_not_an_object_is_shown_as_json(tmp_path: Path, capsys: Captured) -> None:
    log = write(tmp_path, request(1, body=["odd", 7]), end(1))
    assert 'Asked\n  ["odd", 7]\n' in show(capsys, log, "1")


def test_a_tool_call_and_its_result_are_shown(tmp_path: Path, capsys: Captured) -> None:
    called = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    body = {
        "model": "m",
        "messages": [
            {"role": "assistant", "content": "", "tool_calls": [called]},
            {"role": "tool", "tool_name": "get_weather", "content": "11 degrees"},
        ],
    }
    text = show(capsys, write(tmp_path, request(1, body=body), end(1)), "1")
    assert (
        'Asked\n  assistant\n    calls get_weather(city="Paris")\n'
        "  tool get_weather\n    11 degrees\n"
    ) in text


def test_json_of_one_call_has_what_was_said(log: Path, capsys: Captured) -> None:
    values = json.loads(show(capsys, log, "4f3a2b1c-1", "--json"))
    assert (values["answer"], values["thinking"]) == ("Hello", "A greeting.")
    assert values["tool_calls"] == [
        {"name": "get_weather", "arguments": {"city": "Paris"}, "id": None}
    ]
    assert values["phases"]["load"] == 0.5
    assert values["body"]["messages"][0]["content"] == "Be brief."
    assert values["chunk_times"] == [0.8, 0.9, 1.8, 1.9]
    assert values["curl"].startswith("curl ")


def test_body_is_the_bytes_of_the_answer_and_nothing_else(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log = write(
        tmp_path, request(1), end(1, chunks=[[0.1, "Grüße\r\n"], [0.1, {"base64": "/wA="}]])
    )
    assert main(["show", str(log), "1", "--body"]) == 0
    assert capfdbinary.readouterr().out == "Grüße\r\n".encode() + b"\xff\x00"


def test_an_answer_that_is_not_logged_is_no_body(log: Path, capsys: Captured) -> None:
    said = show(capsys, log, "13", "--body", status=2)
    assert said.startswith("ollama-otel: the answer of 4f3a2b1c-13 is not in the log")
    assert "give its ID" in show(capsys, log, "--body", status=2)


# --- which call ---------------------------------------------------------------------------


def test_an_id_may_be_its_beginning_if_that_is_unique(tmp_path: Path, capsys: Captured) -> None:
    log = write(tmp_path, request(1), {**request(2), "id": "77aa0000-1"})
    assert json.loads(show(capsys, log, "77", "--json"))["id"] == "77aa0000-1"


def test_a_whole_id_wins_over_the_beginning_of_others(log: Path, capsys: Captured) -> None:
    assert json.loads(show(capsys, log, "4f3a2b1c-1", "--json"))["id"] == "4f3a2b1c-1"


def test_a_number_is_that_of_a_call_also_if_ids_begin_with_it(
    tmp_path: Path, capsys: Captured
) -> None:
    run = [{**request(number), "id": f"2faa1582-{number}"} for number in (1, 2, 3)]
    log = write(tmp_path, *run)
    assert json.loads(show(capsys, log, "2", "--json"))["id"] == "2faa1582-2"
    log = write(tmp_path, *run, {**request(2), "id": "99aa1582-2"})
    said = show(capsys, log, "2", status=2)
    assert said.endswith("2faa1582-2, 99aa1582-2, 2faa1582-1, 2faa1582-3\n")


def test_an_ambiguous_id_is_told_with_all_it_may_mean(log: Path, capsys: Captured) -> None:
    assert show(capsys, log, "4f", status=2) == (
        f"ollama-otel: ambiguous id '4f' in {log}: 4f3a2b1c-1, 4f3a2b1c-2, 4f3a2b1c-13\n"
    )


def test_an_unknown_id_is_told_with_near_ones(log: Path, capsys: Captured) -> None:
    said = show(capsys, log, "4f3a2b1c-12", status=2)
    assert said.startswith(f"ollama-otel: no call in {log} has an id like '4f3a2b1c-12'; there are")
    assert "4f3a2b1c-13" in said


def test_a_log_that_is_not_there_is_told(tmp_path: Path, capsys: Captured) -> None:
    said = show(capsys, tmp_path / "none.jsonl", status=2)
    assert said.startswith("ollama-otel: expected a replay log")


# --- the curl command ---------------------------------------------------------------------


def arguments_of(command: str | None) -> list[str]:
    """What a shell makes of a command."""
    assert command is not None
    script = command.replace("curl ", "printf '%s\\0' ", 1)
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.processes
def test_the_command_sends_what_was_sent() -> None:
    curl = curl_for(call(request(1)))
    *words, body = arguments_of(curl.command)
    assert words == [
        "--no-buffer",
        "http://127.0.0.1:11434/api/chat",
        "-H",
        "Content-Type: application/json",
        "--data-raw",
    ]
    assert json.loads(body) == request(1)["body"]
    assert curl.caveat is None


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_breaks_the_command(text: str) -> None:
    body = {"model": "m", "prompt": text}
    command = curl_for(call(request(1, body=body))).command
    assert command is not None
    assert json.loads(last_word(command)) == body
    assert not any(letter < " " for letter in command)


def last_word(command: str) -> str:
    """The last word of a command, which may be in the quotes of a shell for any byte: `$'...'`."""
    found = re.search(r"\$'((?:[^'\\]|\\.)*)'\Z", command)
    if found is None:
        return shlex.split(command)[-1]
    return re.sub(
        rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), found[1].encode()
    ).decode()


@pytest.mark.parametrize("text", ["a\u034fb", "it's \u034f \\"])
def test_characters_that_are_not_seen_are_quoted(text: str) -> None:
    command = curl_for(call(request(1, body={"model": "m", "prompt": text}))).command
    assert command is not None
    assert "$'" in command
    assert text not in command
    assert json.loads(last_word(command))["prompt"] == text


@pytest.mark.processes
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "GET", "path": "/api/tags"}, ["http://127.0.0.1:11434/api/tags"]),
        (
            {"method": "HEAD", "path": "/api/version"},
            ["--head", "http://127.0.0.1:11434/api/version"],
        ),
        ({"method": "POST", "path": "/api/me"}, ["-X", "POST", "http://127.0.0.1:11434/api/me"]),
        ({"method": "GET", "path": "/api/ps", "port": 443}, ["https://127.0.0.1/api/ps"]),
        ({"method": "GET", "path": "/api/ps", "server": "::1"}, ["http://[::1]:11434/api/ps"]),
        (
            {"method": "GET", "path": "/api/ps", "server": None, "port": None},
            ["http://localhost/api/ps"],
        ),
    ],
)
def test_the_command_has_method_and_address(fields: dict[str, Any], words: list[str]) -> None:
    curl = curl_for(call(request(1, body=None, request={}, **fields)))
    assert arguments_of(curl.command) == words


@pytest.mark.processes
def test_another_host_gets_the_command_without_the_first_ones_prefix(
    log: Path, capsys: Captured
) -> None:
    curl = curl_for(
        call(request(1, path="/proxy/api/chat")), parse_host("https://gpu.example/ollama")
    )
    assert "https://gpu.example:443/ollama/api/chat" in arguments_of(curl.command)
    assert "http://1.2.3.4:11434/api/chat" in show(capsys, log, "13", "--host", "1.2.3.4")


def test_a_command_that_is_not_exact_says_so() -> None:
    omitted = {"ollama_otel": "omitted", "sha256": "00", "size": 1}
    assert "images" in str(curl_for(call(request(1, body={"images": [omitted]}))).caveat)
    within = {"prompt": f"![a]({json.dumps(omitted)})"}
    assert "images" in str(curl_for(call(request(1, body=within, changes=["images"]))).caveat)
    redacted = {"prompt": "my key is [redacted: api key]"}
    assert "redacted" in str(curl_for(call(request(1, body=redacted))).caveat)


# --- whatever it is -----------------------------------------------------------------------

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "function", "name", "arguments", "parameters"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(
    st.dictionaries(
        st.sampled_from(
            [*("messages", "tools", "images", "prompt", "input"), *("options", "system", "format")]
        ),
        ODD,
    )
)
def test_no_request_is_too_odd_to_be_shown(
    tmp_path_factory: pytest.TempPathFactory, body: dict[str, Any]
) -> None:
    path = write(tmp_path_factory.getbasetemp(), request(1, body=body), end(1))
    assert main(["show", str(path), "1", "--no-color"]) == 0
    assert list(call_list.rows([call(request(1, body=body), end(1))], width=80))


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\u202e\u2066\u2069")))
def test_what_is_printable_has_no_controls(text: str) -> None:
    shown = visible(text)
    assert not any(ord(each) < 32 and each not in "\n\t" for each in shown)
    assert not any(0x7F <= ord(each) < 0xA0 for each in shown)
    assert not {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"} & {*shown}


def test_a_body_on_a_terminal_is_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write(tmp_path, request(1), end(1, chunks=[[0.1, "a\x1b[2J\n"]]))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["show", str(log), "1", "--body"]) == 0
    assert capsys.readouterr().out == "a\\x1b[2J\n\n"


@pytest.mark.processes
def test_a_command_has_no_controls_and_the_same_words() -> None:
    curl = curl_for(
        call(request(1, path="/v\x1b\u202e/api/chat", server="h\x9b", body={"model": "\x1b👩‍🚀'"}))
    )
    assert curl.command is not None
    assert visible(curl.command) == curl.command
    assert "%1B%E2%80%AE/api/chat" in curl.command
    assert json.loads(arguments_of(curl.command)[-1]) == {"model": "\x1b👩‍🚀'"}
