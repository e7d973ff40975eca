"""The recorder reads a dialect with another framing, whatever stands between its messages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._exchange.exchange import Exchange, Url
from ollama_otel._exchange.observers import CallFollower, Instrumentation
from ollama_otel._guard import guard
from ollama_otel._wire.dialect import as_json
from ollama_otel._wire.endpoints import added_dialect, find_endpoint
from ollama_otel.records import CallRecord, CallStart, Message, Text, Thinking, ToolCall
from ollama_otel.testing import TickingClock
from tests.exchange.shell import as_shell
from tests.toy_dialect import ASK, TOY, stream

STREAM = stream(
    {"musing": "Hm"}, {"words": "Hel"}, {"words": "lo"}, {"device": "look", "with": {"at": 1}}
)
PING = b": ping\n\n"
WHOLE = (
    *("completed", "final_message", 7),
    Message(
        role="assistant",
        parts=(Thinking("Hm"), Text("Hello"), ToolCall(name="look", arguments={"at": 1})),
    ),
    *("toy-1", 3, 4, "stop", True, ("look",)),
)


@pytest.fixture(autouse=True, scope="module")
def toy() -> Iterator[None]:
    with added_dialect(TOY, ASK):
        yield


def record_of(*pieces: bytes, stops_after: int | None = None) -> CallRecord:
    records: list[CallRecord] = []

    class Keeper(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            records.append(record)

    endpoint = find_endpoint("POST", "/toy/ask")
    assert endpoint is ASK
    asked = {
        "who": "toy-1",
        "live": True,
        "said": [{"by": "user", "words": "Hello"}],
        "devices": ["look"],
    }
    call = Exchange.begin(
        Instrumentation(observers=(Keeper(),), clock=TickingClock(), keeps_content=True),
        endpoint,
        Url("http", "h", None, "/toy/ask"),
        content=as_json(asked),
        size=27,
    )
    call.head(200, content_type="text/event-stream", content_encoding="")
    with call.receiving() as inlets:
        feed, pulled = as_shell(inlets)
        pulled()
        for count, piece in enumerate(pieces):
            if count == stops_after:
                call.close()
            feed(piece)
            pulled()
    (record,) = records
    return record


def facts_of(record: CallRecord) -> tuple[Any, ...]:
    response = record.response
    return (
        *(record.outcome, record.ending, record.chunk_count, record.answer),
        *(response.model, response.input_tokens, response.output_tokens, response.done_reason),
        *(response.has_thinking, response.tool_calls),
    )


def test_a_stream_of_another_dialect_is_read() -> None:
    record = record_of(*STREAM)
    assert facts_of(record) == WHOLE
    assert record.start.request.model == "toy-1"
    assert record.start.conversation is not None
    assert record.start.conversation.question == "Hello"


@given(borders=st.lists(st.integers(0, len(b"".join(STREAM))), max_size=12))
def test_any_cut_gives_the_same_facts(borders: list[int]) -> None:
    body = b"".join(STREAM)
    places = [0, *sorted(borders), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places)]
    assert facts_of(record_of(*pieces)) == WHOLE


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
@pytest.mark.parametrize("ping", [PING, PING * 5, b": ping"], ids=["one", "five", "unfinished"])
def test_comments_anywhere_change_nothing(place: int, ping: bytes) -> None:
    if ping == b": ping" and place < len(STREAM):
        ping += b"\n"
    assert facts_of(record_of(*STREAM[:place], ping, *STREAM[place:])) == WHOLE


def test_a_comment_that_comes_late_pushes_no_facts_out() -> None:
    pieces = [*STREAM, *[PING] * 300]
    assert facts_of(record_of(*pieces)) == WHOLE


def test_the_end_mark_needs_no_blank_line() -> None:
    assert facts_of(record_of(*STREAM[:-1], STREAM[-1].rstrip())) == WHOLE


def test_thinking_is_told_from_the_first_answer() -> None:
    record = record_of(*STREAM)
    assert record.time_to_first_chunk is not None
    assert record.time_to_first_answer is not None
    assert record.time_to_first_answer > record.time_to_first_chunk


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        (STREAM[:-1], ("failed", "no_final_message", "incomplete")),
        ([], ("failed", "no_final_message", "incomplete")),
        ([*STREAM[:3], b'data: {"bit'], ("failed", "not_protocol", "protocol")),
        ([b"<html>\n\n<p>\n\n"], ("failed", "not_protocol", "protocol")),
        ([b"<html>"], ("failed", "not_protocol", "protocol")),
    ],
)
def test_a_stream_without_its_end_is_failed(pieces: list[bytes], end: tuple[str, ...]) -> None:
    record = record_of(*pieces)
    assert (record.outcome, record.ending, record.error_type) == end


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (b'data: {"bit":7}\n\n', "reading a response: AttributeError"),
        (b'data: {"device":"at the top"}\n\n', "reading the end of a response: KeyError"),
    ],
)
def test_a_fault_of_a_dialect_is_not_a_failure_of_the_call(event: bytes, fault: str) -> None:
    record = record_of(STREAM[0], event, *STREAM[1:])
    assert (record.outcome, record.error_type) == ("completed", None)
    assert fault in guard.faults


def test_a_stream_that_is_left_is_abandoned() -> None:
    record = record_of(*STREAM, stops_after=4)
    assert (record.outcome, record.chunk_count, record.response.model) == ("abandoned", 4, "toy-1")


def test_an_error_is_framed_as_the_dialect_does() -> None:
    assert TOY.error_message("no") == b'data: {"trouble":"no"}\n\n'
