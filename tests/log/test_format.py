"""The format: what is written comes back, every key is described, old logs stay readable."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ollama_otel.replay
from ollama_otel._log.format import (
    VERSION,
    call_from,
    chunks_as_lists,
    end_line,
    request_line,
    timestamp,
)
from ollama_otel._wire.endpoints import ENDPOINTS
from ollama_otel._wire.failures import ERROR_TYPES
from ollama_otel._wire.native import Progress, RequestFacts, ResponseFacts
from ollama_otel.context import CallContext
from ollama_otel.records import CallRecord, CallStart, Outcome
from ollama_otel.replay import read

DESCRIPTION = (Path(ollama_otel.replay.__file__).parent / "FORMAT.md").read_text()

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
seconds = st.integers(0, 10**12).map(lambda microseconds: microseconds / 1e6)
count = st.integers(0, 2**53)
nanoseconds = st.integers(0, 2**60).map(lambda number: number / 1e9)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


requests = st.builds(
    RequestFacts,
    model=maybe(text),
    stream=st.booleans(),
    purpose=st.sampled_from(["call", "load", "unload"]),
    options=st.dictionaries(text, st.integers() | text | st.booleans(), max_size=3),
    think=maybe(st.booleans() | text),
    keep_alive=maybe(text),
    asks_for_json=st.booleans(),
    raw=maybe(st.booleans()),
    truncate=maybe(st.booleans()),
    dimensions=maybe(count),
    input_count=maybe(count),
    image_count=count,
    tools=st.lists(text, max_size=3).map(tuple),
    size=maybe(count),
    body=st.none(),
)
responses = st.builds(
    ResponseFacts,
    model=maybe(text),
    remote_model=maybe(text),
    remote_host=maybe(text),
    done=st.booleans(),
    done_reason=maybe(text),
    input_tokens=maybe(count),
    output_tokens=maybe(count),
    total_duration=maybe(nanoseconds),
    load_duration=maybe(nanoseconds),
    prompt_eval_duration=maybe(nanoseconds),
    eval_duration=maybe(nanoseconds),
    tool_calls=st.lists(text, max_size=3).map(tuple),
    has_thinking=st.booleans(),
    error=maybe(text),
)
layers = st.dictionaries(text, count, max_size=3)
progresses = st.builds(
    Progress,
    first=layers,
    completed=layers,
    total=layers,
    started_at=maybe(seconds),
    updated_at=maybe(seconds),
)
starts = st.builds(
    CallStart,
    endpoint=st.sampled_from([row for row in ENDPOINTS if not row.path.endswith("*")]),
    request=requests,
    server_address=maybe(text),
    server_port=maybe(st.integers(1, 65535)),
    started_at=st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds * 1000),
    context=st.builds(
        CallContext,
        conversation_id=maybe(text),
        user_id=maybe(text),
        tags=st.dictionaries(text, text, max_size=2),
    ),
    path=st.none(),
    content=st.none(),
).map(lambda start: replace(start, path=start.endpoint.path))
records = st.builds(
    CallRecord,
    start=starts,
    outcome=st.sampled_from(get_args(Outcome)),
    error_type=maybe(st.sampled_from(list(ERROR_TYPES))),
    error_message=maybe(text),
    http_status=maybe(st.integers(100, 599)),
    response=responses,
    duration=seconds,
    time_to_first_chunk=maybe(seconds),
    time_to_first_answer=maybe(seconds),
    chunk_count=count,
    longest_gap=maybe(seconds),
    held_by_caller=maybe(seconds),
    response_size=count,
    progress=maybe(progresses),
    answer=st.none(),
    sent_at=st.just(0.0),
    content_type=maybe(st.sampled_from(["application/json", "application/x-ndjson"])),
    content_encoding=maybe(st.just("gzip")),
)


def through_json(line: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(line))
    return value


@settings(max_examples=300, deadline=None)
@given(
    record=records,
    trace_id=st.integers(0, 2**128 - 1),
    span_id=st.integers(0, 2**64 - 1),
    is_sampled=st.booleans(),
    chunks=maybe(st.lists(st.tuples(seconds, st.binary(min_size=1, max_size=9)), max_size=5)),
)
def test_what_is_written_comes_back(
    record: CallRecord,
    trace_id: int,
    span_id: int,
    is_sampled: bool,
    chunks: list[tuple[float, bytes]] | None,
) -> None:
    request = request_line(
        "run-1", record.start, trace_id=trace_id, span_id=span_id, is_sampled=is_sampled
    )
    lists = (
        None
        if chunks is None
        else chunks_as_lists([data for _, data in chunks], [at for at, _ in chunks], 0.0)
    )
    end = end_line("run-1", record, chunks=lists)
    call = call_from(through_json(request), through_json(end), file=Path("a"), line=1)
    assert call.start == record.start
    assert call.record == record
    assert call.trace_id == (f"{trace_id:032x}" if trace_id else None)
    assert call.span_id == (f"{span_id:016x}" if span_id else None)
    assert call.is_sampled == is_sampled
    assert call.chunks == (None if chunks is None else tuple(chunks))
    assert None not in request.values()
    assert None not in end.values()


@given(st.lists(st.floats(0, 0.001), max_size=2000))
@settings(max_examples=50, deadline=None)
def test_times_of_chunks_do_not_drift(gaps: list[float]) -> None:
    arrivals, now = [], 1000.0
    for gap in gaps:
        now += gap
        arrivals.append(now)
    lists = chunks_as_lists([b"x"] * len(arrivals), arrivals, 1000.0)
    sums, total = [], 0
    for delta, _ in through_json({"chunks": lists})["chunks"]:
        total += round(delta * 1e6)
        sums.append(total / 1e6)
    assert all(
        math.isclose(at, arrival - 1000.0, abs_tol=6e-7)
        for at, arrival in zip(sums, arrivals, strict=True)
    )


@pytest.mark.parametrize(
    ("nanoseconds", "written"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999Z"),
        (1_767_225_600_000_001_500, "2026-01-01T00:00:00.000001Z"),
    ],
)
def test_times_are_in_utc_and_cut_to_the_microsecond(nanoseconds: int, written: str) -> None:
    assert timestamp(nanoseconds) == written


def test_a_character_cut_in_two_is_kept_in_base64() -> None:
    assert chunks_as_lists([b"a\xc3", b"\xbcb"], [0.5, 0.75], 0.0) == [
        [0.5, {"base64": "YcM="}],
        [0.25, {"base64": "vGI="}],
    ]


def described(event: str) -> set[str]:
    [section] = re.findall(rf"### `{event}`.*?\n(.*?)(?=\n##)", DESCRIPTION, re.DOTALL)
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_every_key_is_described_and_every_described_one_is_written() -> None:
    start = CallStart(
        endpoint=ENDPOINTS[0],
        request=RequestFacts(),
        server_address="a",
        server_port=1,
        started_at=1,
        context=CallContext(conversation_id="c", user_id="u", tags={"t": "1"}),
    )
    request = request_line(
        "1", start, trace_id=1, span_id=1, is_sampled=True, body=1, changes="a", missing="m"
    )
    record = CallRecord(
        **{
            row.name: 1
            for row in fields(CallRecord)
            if row.name not in {"start", "response", "progress"}
        },  # type: ignore[arg-type]
        start=start,
        response=ResponseFacts(),
        progress=Progress(),
    )
    start.request.model = "m"  # type: ignore[misc]
    record.response.model = "m"  # type: ignore[misc]
    end = end_line("1", record, chunks=[], changes="a", missing="m")
    general = {"v", "event"}
    assert set(request) - general == described("request")
    assert set(end) - general == described("end")


@pytest.mark.parametrize("facts", [RequestFacts, ResponseFacts, Progress])
def test_every_fact_is_described(facts: type) -> None:
    for row in fields(facts):
        assert f"`{row.name}`" in DESCRIPTION, row.name


def test_the_description_is_of_this_version() -> None:
    assert DESCRIPTION.startswith(f"# The format of a replay log, version {VERSION}\n")


def test_a_log_of_version_1_is_read_by_all_later_ones() -> None:
    """Written by the first release; it is never to be written anew."""
    completed, abandoned, failed, unended = read(
        Path(__file__).parents[1] / "data" / "replay-log-v1.jsonl"
    )
    assert completed.record is not None
    assert completed.record.outcome == "completed"
    assert completed.start.request.body == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "stream": True,
        "tools": [],
        "options": {"seed": 7},
    }
    answer = completed.answer()
    assert answer is not None
    assert answer.text == "Because of Rayleigh scattering."
    assert [round(chunk.offset, 6) for chunk in completed.chunks or ()] == [
        0.101,
        0.126,
        0.151,
        0.176,
        0.201,
    ]
    assert completed.record.response.output_tokens == 4
    assert completed.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert abandoned.record is not None
    assert abandoned.record.outcome == "abandoned"
    assert abandoned.changes == {"redacted"}
    assert failed.record is not None
    assert (failed.record.error_type, failed.record.http_status) == ("model_not_found", 404)
    assert unended.record is None
