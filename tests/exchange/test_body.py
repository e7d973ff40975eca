"""Real bodies, however they are cut or broken, give a record: the same one, or one that says so."""

from __future__ import annotations

import base64
import gc
import json
import time
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_otel._exchange.exchange import Exchange
from ollama_otel._exchange.observers import CallFollower, Instrumentation
from ollama_otel._exchange.streams import CompletionStream, ProgressStream
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.failures import ERROR_TYPES
from ollama_otel._wire.native import NATIVE
from ollama_otel._wire.native.response import Tally
from ollama_otel.records import CallRecord, CallStart, Ending, Outcome, Progress
from ollama_otel.testing import TickingClock
from tests.examples import examples
from tests.exchange.shell import as_shell

RECORDED = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "data" / "ollama-0.33.0").glob("*.json"))
}
OLLAMAS = {
    name: recorded
    for name, recorded in RECORDED.items()
    if find_endpoint(recorded["request"]["method"], recorded["request"]["path"])
}
BODIES = {
    name: b"".join(
        chunk.encode() if isinstance(chunk, str) else base64.b64decode(chunk["base64"])
        for chunk in recorded["chunks"]
    )
    for name, recorded in OLLAMAS.items()
}
LONG = {name: body for name, body in BODIES.items() if body}


class Keeper:
    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def begin(self, start: CallStart) -> CallFollower:
        keeper = self

        class Kept(CallFollower):
            def end(self, record: CallRecord) -> None:
                keeper.records.append(record)

        return Kept()


def play(
    name: str,
    pieces: Iterable[bytes],
    *,
    stops_after: int | None = None,
    keeps_content: bool = False,
) -> CallRecord:
    """Send a recorded request, and feed `pieces` as the shells do."""
    recorded, keeper = OLLAMAS[name], Keeper()
    asked, headers = recorded["request"], recorded["headers"]
    endpoint = find_endpoint(asked["method"], asked["path"])
    assert endpoint is not None
    body = asked["body"] if isinstance(asked["body"], dict) else None
    call = Exchange(
        Instrumentation(observers=(keeper,), clock=TickingClock(), keeps_content=keeps_content),
        CallStart(
            endpoint=endpoint,
            request=NATIVE.read_request(endpoint, body, size=None),
            server_address="127.0.0.1",
            server_port=11434,
        ),
    )
    call.head(
        recorded["status"],
        content_type=headers.get("content-type", ""),
        content_encoding=headers.get("content-encoding", ""),
    )
    with call.receiving() as inlets:
        feed, pulled = as_shell(inlets)
        pulled()
        for count, piece in enumerate(pieces):
            if count == stops_after:
                call.close()
            feed(piece)
            pulled()
    call.close()
    (record,) = keeper.records
    return record


def timeless(record: CallRecord) -> CallRecord:
    """The record without what the client's clock measured."""
    return replace(
        record,
        duration=0.0,
        time_to_first_chunk=None,
        time_to_first_answer=None,
        longest_gap=None,
        held_by_caller=None,
        progress=Progress(),
    )


def recut(body: bytes, borders: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(borders), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


def lines(body: bytes) -> list[bytes]:
    return body.splitlines(keepends=True)


# --- the bodies as they were recorded ---------------------------------------------------------


def test_the_recorded_bodies_were_found() -> None:
    assert len(OLLAMAS) > 50
    assert sum(name.endswith("-stream") for name in OLLAMAS) > 10


@pytest.mark.parametrize("name", OLLAMAS)
def test_a_recorded_call_ends_as_its_status_says(name: str) -> None:
    record = play(name, lines(BODIES[name]))
    is_good = OLLAMAS[name]["status"] < 400 or name == "blob-absent"
    if name in {"chat-engine-killed", "pull-unreachable-stream"}:
        is_good = False
    assert record.outcome == ("completed" if is_good else "failed")
    assert (record.error_type is None) == is_good
    assert record.error_type not in {"incomplete", "protocol"}
    assert record.response_size == len(BODIES[name])


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("chat-stream", ("tiny-agent", 15, 29, "stop", 29)),
        ("chat-warm", ("tiny-agent", 15, 29, "stop", 0)),
        ("chat-length-stream", ("tiny-agent", 15, 5, "length", 6)),
        ("chat-think-stream", ("tiny-thinker", 17, 48, "stop", 46)),
        ("chat-tools-stream", ("tiny-agent", 22, 43, "tool_call", 3)),
        ("chat-tools", ("tiny-agent", 22, 43, "tool_call", 0)),
        ("chat-unload", ("tiny-agent", None, None, "unload", 0)),
        ("chat-preload", ("tiny-agent", None, None, "load", 0)),
        ("generate-stream", ("tiny-agent", 15, 29, "stop", 29)),
        ("generate", ("tiny-agent", 15, 29, "stop", 0)),
        ("embed-many", ("tiny-embed", 16, None, None, 0)),
        ("embeddings", (None, None, None, None, 0)),
        ("chat-engine-killed", (None, None, None, None, 219)),
    ],
)
def test_the_facts_of_a_recorded_call_are_read(name: str, facts: tuple[Any, ...]) -> None:
    record = play(name, lines(BODIES[name]))
    response = record.response
    assert (
        response.model,
        response.input_tokens,
        response.output_tokens,
        record.finish_reason,
        record.chunk_count,
    ) == facts


def test_recorded_timings_are_in_seconds() -> None:
    response = play("chat-stream", lines(BODIES["chat-stream"])).response
    assert response.total_duration == 0.02480757
    assert response.load_duration == 0.002659249
    assert response.prompt_eval_duration == 0.001182
    assert response.eval_duration == 0.01675


@pytest.mark.parametrize("name", ["chat-tools-stream", "chat-tools"])
def test_recorded_tool_calls_are_named(name: str) -> None:
    record = play(name, lines(BODIES[name]))
    assert record.response.tool_calls == ("get_current_weather", "get_current_weather")


@pytest.mark.parametrize(
    ("name", "has_thinking"),
    [
        ("chat-think-stream", True),
        ("chat-think", True),
        ("generate-think-stream", True),
        ("chat-stream", False),
    ],
)
def test_recorded_thinking_is_told_from_an_answer(name: str, has_thinking: bool) -> None:
    record = play(name, lines(BODIES[name]))
    assert record.response.has_thinking == has_thinking
    if has_thinking and record.time_to_first_chunk is not None:
        assert record.time_to_first_answer is not None
        assert record.time_to_first_answer > record.time_to_first_chunk


@pytest.mark.parametrize("name", ["chat-stream", "chat-think-stream", "generate-stream"])
def test_the_text_of_a_recorded_stream_is_put_together(name: str) -> None:
    answer = play(name, lines(BODIES[name]), keeps_content=True).answer
    assert answer is not None
    assert answer.text == (
        "Sunlight scatters off the air, and blue light scatters far more than red light, "
        "so the whole sky looks blue."
    )
    assert answer.thinking == (
        "The user asks a short question. I will answer in one sentence.\n"
        if "think" in name
        else ""
    )


# --- cut elsewhere ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LONG)
def test_byte_by_byte_gives_the_same_record(name: str) -> None:
    body = BODIES[name][:200_000]
    assert timeless(play(name, recut(body, range(1, len(body))))) == timeless(play(name, [body]))


@settings(max_examples=examples(4))
@given(data=st.data(), keeps_content=st.booleans())
@pytest.mark.parametrize("name", LONG)
def test_any_cut_gives_the_same_record(name: str, data: st.DataObject, keeps_content: bool) -> None:
    body = BODIES[name]
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=40))
    cut = play(name, recut(body, borders), keeps_content=keeps_content)
    whole = play(name, lines(body), keeps_content=keeps_content)
    assert timeless(cut) == timeless(whole)


@settings(max_examples=examples(40))
@given(
    name=st.sampled_from(
        ["chat-stream", "chat-think-stream", "chat-tools-stream", "generate-stream"]
    ),
    count=st.integers(0, 60),
)
def test_a_stream_left_at_any_line_is_abandoned_unless_its_final_line_came(
    name: str, count: int
) -> None:
    parts = lines(BODIES[name])
    record = play(name, parts, stops_after=count) if count < len(parts) else play(name, parts)
    assert record.outcome == ("completed" if count >= len(parts) else "abandoned")
    assert record.chunk_count == min(count, len(parts))


# --- broken -----------------------------------------------------------------------------------


def check(record: CallRecord) -> None:
    """What holds of every record, whatever came."""
    assert record.outcome in get_args(Outcome)
    assert record.ending in get_args(Ending)
    assert (record.error_type is not None) == (record.outcome == "failed")
    assert record.error_type is None or record.error_type in ERROR_TYPES
    assert (record.error_message is not None) == (record.outcome == "failed")
    assert record.duration > 0
    response = record.response
    for number in (
        response.input_tokens,
        response.output_tokens,
        response.total_duration,
        response.load_duration,
        record.queue_estimate,
        record.longest_gap,
        record.held_by_caller,
    ):
        assert number is None or 0 <= number < 2**63
    # All of it can be sent on.
    repr(record).encode()
    for text in (response.model, response.done_reason, record.error_message, *response.tool_calls):
        assert text is None or text.encode() is not None
    assert record.finish_reason is None or isinstance(record.finish_reason, str)


def broken(body: bytes, data: st.DataObject) -> bytes:
    """Flip bits, drop and double stretches, cut the end off."""
    pieces = bytearray(body)
    for _ in range(data.draw(st.integers(1, 8))):
        if not pieces:
            break
        at = data.draw(st.integers(0, len(pieces) - 1))
        length = data.draw(st.integers(1, 40))
        match data.draw(st.sampled_from(["flip", "drop", "double", "set", "cut"])):
            case "flip":
                pieces[at] ^= 1 << data.draw(st.integers(0, 7))
            case "drop":
                del pieces[at : at + length]
            case "double":
                pieces[at:at] = pieces[at : at + length]
            case "set":
                pieces[at] = data.draw(st.sampled_from(b'\x00\n\r"{}[],:\\\xff\xc3019-'))
            case "cut":
                del pieces[len(pieces) - min(length, len(pieces)) :]
    return bytes(pieces)


@pytest.mark.slow
@settings(max_examples=examples(8))
@given(data=st.data(), keeps_content=st.booleans())
@pytest.mark.parametrize("name", LONG)
def test_a_broken_body_gives_a_record(name: str, data: st.DataObject, keeps_content: bool) -> None:
    body = broken(BODIES[name][-4_000:] if data.draw(st.booleans()) else BODIES[name], data)
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    check(play(name, recut(body, borders), keeps_content=keeps_content))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["chat-tools-stream", "chat-stream", "create-stream", "chat-tools"]
)
def test_a_body_cut_off_anywhere_is_a_failure(name: str) -> None:
    body = BODIES[name].rstrip()
    for length in range(0, len(body), max(1, len(body) // 400)):
        record = play(name, lines(body[:length]))
        check(record)
        assert record.outcome == "failed"
        assert record.error_type in {"incomplete", "protocol"}


@settings(max_examples=examples(200))
@given(
    st.sampled_from(
        ["chat-stream", "chat-warm", "generate-stream", "embed-one", "create-stream", "tags"]
    ),
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b"\n", b"{}\n", b"[]\n", b"null\n"]), max_size=8
    ),
)
def test_any_bytes_at_all_give_a_record(name: str, pieces: list[bytes]) -> None:
    check(play(name, pieces))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = (
    *("model", "message", "response", "thinking", "tool_calls", "done", "done_reason", "error"),
    *("prompt_eval_count", "eval_count", "total_duration", "load_duration", "eval_duration"),
    *("status", "digest", "total", "completed", "embeddings", "embedding", "role", "content"),
    *("function", "name", "remote_model", "usage", "input_tokens"),
)
answers = st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8)
messages = st.fixed_dictionaries({"message": answers})


@pytest.mark.slow
@settings(max_examples=examples(80))
@given(
    name=st.sampled_from(
        ["chat-tools-stream", "chat-tools", "generate-stream", "embed-one", "create-stream"]
    ),
    parts=st.lists(answers | messages | json_values, max_size=5),
    keeps_content=st.booleans(),
)
def test_any_json_at_all_gives_a_record(name: str, parts: list[Any], keeps_content: bool) -> None:
    check(
        play(
            name, [json.dumps(part).encode() + b"\n" for part in parts], keeps_content=keeps_content
        )
    )


@pytest.mark.parametrize(
    "line",
    [
        b'{"error":"half a pair: \\ud83d"}',
        b'{"model":"\\ud83d","done":true,"done_reason":"\\ude00"}',
        b'{"eval_count":' + b"9" * 400 + b',"total_duration":' + b"9" * 400 + b',"done":true}',
        b'{"eval_count":' + b"9" * 5_000 + b"}",
        b'{"eval_count":NaN,"total_duration":Infinity,"done":true}',
        b"[" * 100_000,
        b'{"message":' * 10_000,
        b"\xff\xfe{\x00}\x00",
    ],
)
@pytest.mark.parametrize("name", ["chat-stream", "chat-warm", "embed-one", "create-stream"])
def test_json_that_is_barely_json_gives_a_record(name: str, line: bytes) -> None:
    check(play(name, [line + b"\n"], keeps_content=True))


# --- size and speed ---------------------------------------------------------------------------


TOKEN = (
    b'{"model":"m","created_at":"2026-08-22T09:00:01.204118236Z",'
    b'"message":{"role":"assistant","content":" word"},"done":false}\n'
)
FINAL = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":7}\n'


def stream(count: int) -> CompletionStream:
    answer = CompletionStream(NATIVE, time.perf_counter, watches_tools=True)
    feed, pulled = as_shell(answer.inlets())
    for number in range(count):
        pulled()
        # A new object each time, as from a socket.
        feed(TOKEN[:-20] + b"%d" % (number % 10) + TOKEN[-19:])
    feed(FINAL)
    return answer


@pytest.mark.slow
def test_a_long_stream_takes_no_memory() -> None:
    stream(100)
    gc.collect()
    tracemalloc.start()
    try:
        answer = stream(200_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Half a byte a chunk; a tool that measures coverage allocates, too.
    assert peak < 100_000
    assert answer.facts().output_tokens == 7
    assert answer.timings(0.0, 0.0)["chunk_count"] == 200_001


@pytest.mark.slow
def test_a_long_pull_takes_no_memory() -> None:
    answer = ProgressStream(NATIVE, TickingClock(), Tally())
    feed, pulled = as_shell(answer.inlets())
    status = b'{"status":"pulling abc","digest":"sha256:abc","total":2000000000,"completed":%d}\n'
    pulled()
    feed(status % 1)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20_000):
            pulled()
            feed(status % (1_000 * number))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000
    answer.settle()
    answer.facts()
    assert answer.progress().moved_bytes == 19_999_000 - 1


@pytest.mark.slow
def test_content_that_is_kept_is_bounded() -> None:
    answer = CompletionStream(NATIVE, TickingClock(), watches_tools=True, keeps_content=True)
    feed, pulled = as_shell(answer.inlets())
    tracemalloc.start()
    try:
        for _ in range(30_000):
            pulled()
            feed(bytes(bytearray(TOKEN)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    feed(FINAL)
    assert answer.facts().output_tokens == 7


@pytest.mark.slow
def test_time_grows_with_the_length_of_a_stream_and_no_faster() -> None:
    def best(count: int) -> float:
        times = []
        for _ in range(2):
            begun = time.perf_counter()
            stream(count).facts()
            times.append(time.perf_counter() - begun)
        return min(times)

    best(1_000)
    assert best(200_000) < 30 * best(20_000)


@pytest.mark.slow
def test_one_line_that_never_ends_takes_linear_time() -> None:
    def taken(count: int) -> float:
        answer = CompletionStream(NATIVE, TickingClock(), watches_tools=True)
        feed, _ = as_shell(answer.inlets())
        begun = time.perf_counter()
        for _ in range(count):
            feed(b"x" * 100)
        answer.facts()
        return time.perf_counter() - begun

    taken(1_000)
    assert taken(100_000) < 40 * max(taken(10_000), 0.001)
