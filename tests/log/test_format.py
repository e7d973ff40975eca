"""The format: what is written comes back, every key is described, old logs stay readable."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import ollama_otel.replay
from ollama_otel._facts import FACTS, Fact
from ollama_otel._frozen import FrozenDict
from ollama_otel._log.format import (
    VERSION,
    LoggedEnd,
    LoggedStart,
    call_from,
    chunks_as_lists,
    end_line,
    event_from,
    request_line,
    timestamp,
)
from ollama_otel._wire.endpoints import ENDPOINTS
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallCost,
    CallRecord,
    CallResilience,
    CallStart,
    Ending,
    ModelResidency,
    Progress,
    RequestFacts,
    ResponseFacts,
    SpanIds,
    ToolCall,
    Truncation,
)
from ollama_otel.replay import RecordedCall, read
from tests.examples import examples

from .any_call import maybe, records, seconds

DATA = Path(__file__).parents[1] / "data"
DESCRIPTION = (Path(ollama_otel.replay.__file__).parent / "FORMAT.md").read_text()


def through_json(line: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(line))
    return value


@settings(max_examples=examples(300))
@given(
    record=records,
    chunks=maybe(st.lists(st.tuples(seconds, st.binary(min_size=1, max_size=9)), max_size=5)),
)
def test_what_is_written_comes_back(
    record: CallRecord, chunks: list[tuple[float, bytes]] | None
) -> None:
    request = request_line("run-1", record.start)
    lists = (
        None
        if chunks is None
        else chunks_as_lists([data for _, data in chunks], [at for at, _ in chunks], 0.0)
    )
    end = end_line("run-1", record, chunks=lists)
    call = call_from(through_json(request), through_json(end), file=Path("a"), line=1)
    assert call.start == record.start
    assert call.record == record
    assert call.trace_id == record.start.trace_id
    assert call.span_id == record.start.span_id
    assert call.is_sampled == record.start.is_sampled
    assert call.chunks == (None if chunks is None else tuple(chunks))
    assert None not in request.values()
    assert None not in end.values()


@given(st.lists(st.floats(0, 0.001), max_size=2000))
@settings(max_examples=examples(50))
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


def described(event: str) -> dict[str, str]:
    """Return the rows of one event's table by key."""
    [section] = re.findall(rf"### `{event}`.*?\n(.*?)(?=\n##)", DESCRIPTION, re.DOTALL)
    rows = re.findall(r"^(\| `([\w.]+)` \|.* \|)$", section.split("\n\n`ending`")[0], re.MULTILINE)
    return {key: row for row, key in rows}


def row_of(fact: Fact) -> str:
    kind = {"texts": "list of texts"}.get(fact.type, fact.type)
    kind += " or text" if fact.also is str else ""
    unit = f" `{fact.unit}` " if fact.unit else " "
    return f"| `{fact.key}` | {kind} |{unit}| {fact.sentence} |"


@pytest.mark.parametrize("line", ["request", "end"])
def test_every_fact_of_a_line_is_described_as_the_table_of_facts_has_it(line: str) -> None:
    rows = described(line)
    facts = {fact.key: row_of(fact) for fact in FACTS.rows if fact.key and fact.line == line}
    assert {key: row for key, row in rows.items() if key in facts} == facts
    beside = {"request": {"body"}, "end": {"operation", "model", "chunks"}}[line]
    assert set(rows) - set(facts) == {"id", "at", "changes", "missing"} | beside


FULL = CallRecord(
    start=CallStart(
        endpoint=replace(ENDPOINTS[0], dialect="other"),
        request=RequestFacts(
            model="m",
            stream=True,
            purpose="load",
            options={"seed": 1},
            think=False,
            keep_alive="5m",
            asks_for_json=True,
            raw=False,
            truncate=False,
            dimensions=0,
            input_count=0,
            image_count=1,
            tools=("t",),
            size=0,
        ),
        server_address="a",
        server_port=1,
        server_scheme="http",
        started_at=1,
        context=CallContext(conversation_id="c", user_id="u", tags=FrozenDict({"t": "1"})),
        span=SpanIds(trace=1, span=1, is_sampled=True),
    ),
    outcome="failed",
    ending="exception",
    error_type="network",
    error_message="cut",
    exception_type="ReadError",
    http_status=200,
    response=ResponseFacts(
        model="m",
        remote_model="r",
        remote_host="h",
        done=True,
        done_reason="stop",
        input_tokens=2,
        output_tokens=2,
        total_duration=4.5,
        load_duration=1.0,
        prompt_eval_duration=1.0,
        eval_duration=1.0,
        tool_calls=("t",),
        has_thinking=True,
        error="e",
    ),
    duration=5.0,
    time_to_first_chunk=0.0,
    time_to_first_answer=0.0,
    chunk_count=1,
    longest_gap=0.0,
    held_by_caller=0.0,
    cold_start=False,
    progress=Progress(total_bytes=2, moved_bytes=1, moving_time=1.0),
    resilience=CallResilience(
        attempts=3,
        delay=1.5,
        retried=("connect", "server_busy"),
        limiter_wait=0.25,
        backoff=0.75,
        rejection="deadline",
        server_address="other",
        server_port=11434,
        model="m2",
    ),
    residency=ModelResidency(
        gpu_share=0.0,
        model_size=5,
        model_gpu_size=0,
        context_length=1,
        reload_cause="num_ctx",
        reload_before="1",
        reload_after="2",
        evicted_by="m",
    ),
    truncation=Truncation(
        kind="history_dropped",
        certainty="confirmed",
        context_length=4,
        prompt_tokens=6,
        lost_tokens=3,
        dropped_messages=1,
    ),
    cost=CallCost(estimate=0.1, currency="EUR", energy_estimate=5.0, gpu_seconds_estimate=0.5),
    content_type="application/json",
    content_encoding="gzip",
    is_from_network=True,
)


def keys_of(line: dict[str, Any], sections: set[str]) -> set[str]:
    """Return the keys as the description has them: dotted below a section."""
    return {
        key
        for name, value in line.items()
        for key in ([f"{name}.{inner}" for inner in value] if name in sections else [name])
    }


def test_every_described_key_is_written_and_no_other() -> None:
    record = replace(FULL, start=replace(FULL.start, request=FULL.start.request))
    request = request_line("1", record.start, body=1, changes="a", missing="m")
    # No queue can be estimated of a request with images.
    no_images = replace(record.start.request, image_count=0, asks_for_json=False)
    record = replace(record, start=replace(record.start, request=no_images))
    end = end_line("1", record, chunks=[], changes="a", missing="m")
    general = {"v", "event"}
    assert keys_of(request, {"request"}) - general == set(described("request"))
    sections = {"response", "progress", "residency", "resilience", "truncation", "cost"}
    assert keys_of(end, sections) - general == set(described("end"))


def test_of_what_is_not_known_nothing_is_written() -> None:
    start = CallStart(endpoint=ENDPOINTS[0])
    record = CallRecord(start=start, outcome="abandoned", ending="closed_early", duration=0.0)
    assert set(request_line("1", start)) == {"v", "event", "id", "at", "operation"} | {
        "method",
        "path",
    }
    assert set(end_line("1", record)) == {"v", "event", "id", "at", "operation"} | {
        "outcome",
        "ending",
        "duration",
        "size",
    }


def test_what_follows_from_facts_is_written_and_computed_anew_when_read() -> None:
    start = replace(FULL.start, request=RequestFacts(model="m"))
    record = replace(FULL, start=start, resilience=CallResilience())
    line = through_json(end_line("1", record))
    assert line["queue_estimate"] == 1.5
    assert line["phases"] == {
        "load": 1.0,
        "queue_estimate": 1.5,
        "prompt_eval": 1.0,
        "eval": 1.0,
        "client": 0.5,
    }
    assert (line["decode_rate"], line["prefill_rate_estimate"]) == (2.0, 2.0)
    assert line["finish_reason"] == "tool_call"
    assert line["progress"]["rate"] == 1.0
    line |= {"queue_estimate": 7.0, "finish_reason": "edited"}
    request = through_json(request_line("1", record.start))
    call = call_from(request, line, file=Path("a"), line=1)
    assert call.record is not None
    assert (call.record.queue_estimate, call.record.finish_reason) == (1.5, "tool_call")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_number_beyond_64_bits_is_malformed(number: int) -> None:
    line = through_json(end_line("1", FULL))
    line["response"]["output_tokens"] = number
    with pytest.raises(ValueError, match="output_tokens"):
        call_from(through_json(request_line("1", FULL.start)), line, file=Path("a"), line=1)


def test_the_server_s_durations_are_written_to_the_nanosecond() -> None:
    response = replace(FULL.response, total_duration=4.123456789)
    line = end_line("1", replace(FULL, response=response, duration=4.123456789))
    assert line["response"]["total_duration"] == 4.123456789
    assert line["duration"] == 4.123457


def test_a_line_can_be_read_alone() -> None:
    begun = event_from(through_json(request_line("1", FULL.start)))
    assert isinstance(begun, LoggedStart)
    assert (begun.id, begun.at) == ("1", "1970-01-01T00:00:00.000000Z")
    assert begun.start.request == FULL.start.request
    ended = event_from(through_json(end_line("1", FULL)))
    assert isinstance(ended, LoggedEnd)
    assert (ended.id, ended.at) == ("1", "1970-01-01T00:00:05.000000Z")
    assert ended.record.start.endpoint.name == FULL.start.endpoint.name
    assert ended.record.start.request.model == "m"
    assert replace(ended.record, start=FULL.start) == FULL
    assert event_from({"v": VERSION, "event": "opened", "at": "x"}) is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "1", True, None])
def test_a_duration_that_is_not_a_finite_number_is_refused(value: object) -> None:
    line = end_line("1", FULL)
    with pytest.raises(ValueError, match="duration"):
        event_from({**line, "response": {"total_duration": value}})
    with pytest.raises(ValueError, match=r"longest_gap|duration"):
        event_from({**line, "longest_gap": value})


def test_the_description_is_of_this_version() -> None:
    assert DESCRIPTION.startswith(f"# The format of a replay log, version {VERSION}\n")


# --- logs of earlier versions -------------------------------------------------------------


def calls_of(version: int) -> list[RecordedCall]:
    """The calls of a log that a release with this version wrote; it is never to be written anew."""
    return list(read(DATA / f"replay-log-v{version}.jsonl"))


def ends_of(calls: list[RecordedCall]) -> list[tuple[Any, ...] | None]:
    return [
        None
        if (record := call.record) is None
        else (record.outcome, record.ending, record.error_type, record.exception_type)
        for call in calls
    ]


def test_a_log_of_version_1_is_read_by_all_later_ones() -> None:
    completed, abandoned, failed, unended = calls_of(1)
    assert completed.record is not None
    assert completed.record.outcome == "completed"
    assert completed.request_body == {
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


def test_calls_of_version_1_have_the_facts_that_it_did_not_write() -> None:
    calls = calls_of(1)
    assert ends_of(calls) == [
        ("completed", "final_message", None, None),
        ("abandoned", "closed_early", None, None),
        ("failed", "error_status", "model_not_found", None),
        None,
    ]
    records = [call.record for call in calls if call.record is not None]
    assert [record.cold_start for record in records] == [False, None, None]
    assert all(record.progress == Progress() for record in records)
    assert records[0].decode_rate == 40.0
    assert [call.start.request.options for call in calls] == [{"seed": 7}, {}, {}, {}]


OF_V1 = {"v": 1, "event": "end", "id": "1", "at": "2026-11-22T18:00:00.000000Z", "duration": 1.0}


@pytest.mark.parametrize(
    ("line", "ending", "exception_type"),
    [
        ({"outcome": "completed", "status": 200}, "final_message", None),
        ({"outcome": "completed", "status": 307}, "redirect", None),
        ({"outcome": "abandoned", "status": 200}, "closed_early", None),
        ({"outcome": "cancelled"}, "cancelled", None),
        ({"outcome": "failed", "status": 503, "error_type": "server_busy"}, "error_status", None),
        (
            {
                "outcome": "failed",
                "status": 200,
                "error_type": "incomplete",
                "error_message": "the answer ended without its final message",
            },
            "no_final_message",
            None,
        ),
        (
            {
                "outcome": "failed",
                "status": 200,
                "error_type": "protocol",
                "error_message": "the answer is not what an Ollama server sends",
            },
            "not_protocol",
            None,
        ),
        (
            {"outcome": "failed", "error_type": "connect", "error_message": "refused"},
            "exception",
            None,
        ),
        (
            {"outcome": "failed", "error_type": "timeout", "error_message": "ReadTimeout"},
            "exception",
            "ReadTimeout",
        ),
        (
            {"outcome": "failed", "status": 200, "error_type": "_OTHER", "error_message": "bang"},
            "exception",
            None,
        ),
        (
            {
                "outcome": "failed",
                "status": 200,
                "error_type": "runner_crashed",
                "error_message": "unexpected EOF",
            },
            "error_message",
            None,
        ),
    ],
)
def test_why_a_call_of_version_1_ended_follows_from_what_it_wrote(
    line: dict[str, Any], ending: Ending, exception_type: str | None
) -> None:
    event = event_from(OF_V1 | line)
    assert isinstance(event, LoggedEnd)
    assert (event.record.ending, event.record.exception_type) == (ending, exception_type)


def test_the_layers_of_version_1_are_added_up() -> None:
    layers = {
        "first": {"a": 10, "b": 0},
        "completed": {"a": 60, "b": 40},
        "total": {"a": 60, "b": 50},
        "started_at": 0.5,
        "updated_at": 2.5,
    }
    event = event_from(OF_V1 | {"outcome": "completed", "status": 200, "progress": layers})
    assert isinstance(event, LoggedEnd)
    assert event.record.progress == Progress(total_bytes=110, moved_bytes=90, moving_time=2.0)
    event = event_from(OF_V1 | {"outcome": "completed", "progress": {"first": {}, "total": {}}})
    assert isinstance(event, LoggedEnd)
    assert event.record.progress == Progress()


def test_a_cold_start_of_version_1_follows_from_its_load_duration() -> None:
    for load, is_cold in ((0.05, False), (2.0, True)):
        event = event_from(OF_V1 | {"outcome": "completed", "response": {"load_duration": load}})
        assert isinstance(event, LoggedEnd)
        assert event.record.cold_start is is_cold


def test_a_log_of_version_2_is_read_by_all_later_ones() -> None:
    calls = calls_of(2)
    tool, failed, left, pull, embedding, cold, unended = calls
    assert ends_of(calls) == [
        ("completed", "final_message", None, None),
        ("failed", "exception", "network", "ReadError"),
        ("abandoned", "closed_early", None, None),
        ("completed", "final_message", None, None),
        ("completed", "final_message", None, None),
        ("completed", "final_message", None, None),
        None,
    ]
    assert [call.start.endpoint.name for call in calls] == [
        *("chat", "chat", "generate", "pull_model", "embed", "chat", "chat"),
    ]
    answer = tool.answer()
    assert answer is not None and tool.record is not None
    assert answer.tool_calls == (ToolCall(name="weather", arguments={"city": "Paris"}),)
    assert tool.record.finish_reason == "tool_call"
    assert tool.record.response.tool_calls == ("weather",)
    assert tool.start.request.tools == ("weather",)
    assert tool.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert tool.start.base_url == "http://127.0.0.1:11434"
    assert tool.record.is_from_network
    assert tool.record.queue_estimate == pytest.approx(0.009)
    assert failed.record is not None
    assert (failed.record.http_status, failed.record.error_message) == (200, "reset by peer")
    assert failed.changes == {"redacted"}
    assert failed.body is not None and b"[redacted: email]" in failed.body
    assert left.answer() is not None and left.record is not None
    assert (left.record.chunk_count, left.record.response.done) == (1, False)
    assert pull.record is not None
    assert pull.record.progress == Progress(total_bytes=300, moved_bytes=200, moving_time=2.0)
    assert pull.record.progress.rate == 100.0
    assert embedding.changes == {"vectors"}
    assert embedding.record is not None
    assert embedding.record.response.input_tokens == 6
    assert cold.record is not None
    assert (cold.record.cold_start, cold.record.response.load_duration) == (True, 2.5)
    assert cold.record.residency == ModelResidency(
        gpu_share=0.75,
        context_length=4096,
        reload_cause="num_ctx",
        reload_before="2048",
        reload_after="4096",
    )
    assert cold.start.context == CallContext(
        conversation_id="c-42", user_id="ada", tags=FrozenDict({"feature": "search"})
    )
    assert unended.request_body is not None


def test_the_log_of_this_version_is_what_the_writer_writes() -> None:
    lines = (DATA / f"replay-log-v{VERSION}.jsonl").read_text().splitlines()
    parsed = {(line["event"], line.get("id")): line for line in map(json.loads, lines)}
    for call in calls_of(VERSION):
        written = request_line(
            call.id,
            call.start,
            body=call.request_body,
            changes=call.request_changes,
            missing=call.missing,
        )
        assert through_json(written) == parsed["request", call.id]
        if call.record is not None and call.chunks is not None:
            pieces = [chunk.data for chunk in call.chunks]
            chunks = chunks_as_lists(pieces, [chunk.offset for chunk in call.chunks], 0.0)
            written = end_line(call.id, call.record, chunks=chunks, changes=call.answer_changes)
            assert through_json(written) == parsed["end", call.id]
