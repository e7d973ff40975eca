"""A dialect with other framing, other fields and other media needs nothing but its own class."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._exchange.exchange import Exchange
from ollama_otel._exchange.observers import CallFollower, Instrumentation
from ollama_otel._wire.dialect import Dialect, Speech, as_json
from ollama_otel._wire.endpoints import added_dialect, find_endpoint
from ollama_otel._wire.lenient_json import parse_object
from ollama_otel._wire.sse import SSE
from ollama_otel.records import (
    CallRecord,
    CallStart,
    Conversation,
    Endpoint,
    Message,
    RequestFacts,
    ResponseFacts,
    Text,
    Thinking,
)
from ollama_otel.testing import TickingClock

CHAT = Endpoint(
    method="POST",
    path="/v1/toy",
    name="toy_chat",
    genai_operation="chat",
    dialect="toy",
    streams_by_default=True,
    response="completion",
)


class Toy(Dialect):
    """Server-sent events: a head with the model, words, a reason, counts, and `[DONE]`."""

    name = "toy"
    framing = SSE
    closing_count: ClassVar[int] = 3
    needs_opening: ClassVar[bool] = True

    def read_request(
        self, endpoint: Endpoint, body: Mapping[str, Any] | None, *, size: int | None
    ) -> RequestFacts:
        return RequestFacts(model=(body or {}).get("model"), stream=True, size=size)

    def conversation(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Conversation:
        return Conversation(messages=(Message(role="user", parts=(Text(body["say"]),)),))

    def is_end_mark(self, payload: bytes) -> bool:
        return payload == b"[DONE]"

    def speech(self, message: Mapping[str, Any]) -> Speech | None:
        return "answer" if "word" in message else "thinking" if "thought" in message else None

    def read_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tool_messages: Sequence[Mapping[str, Any]],
        has_thinking: bool,
        has_end_mark: bool,
    ) -> ResponseFacts:
        said = {key: value for message in messages for key, value in message.items()}
        return ResponseFacts(
            model=said.get("model"),
            done=has_end_mark and "reason" in said,
            done_reason=said.get("reason"),
            output_tokens=said.get("tokens"),
            has_thinking=has_thinking,
        )

    def joined(self, messages: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Message:
        thought = "".join(message.get("thought", "") for message in messages)
        words = "".join(message.get("word", "") for message in messages)
        parts = (*([Thinking(thought)] if thought else []), Text(words))
        return Message(role="assistant", parts=parts, is_cut=is_cut)

    def read_document(self, endpoint: Endpoint, body: bytes) -> ResponseFacts:
        return ResponseFacts(done=parse_object(body) is not None)

    def document_messages(self, body: bytes) -> list[dict[str, Any]]:
        message = parse_object(body)
        return [] if message is None else [message]

    def error_body(self, text: str) -> bytes:
        return as_json({"wrong": text})


TOY = Toy()
HEAD, THOUGHT = TOY.framing.frame(b'{"model":"m"}'), TOY.framing.frame(b'{"thought":"Hm"}')
WORDS = [TOY.framing.frame(as_json({"word": word})) for word in ("Hel", "lo")]
END = [
    TOY.framing.frame(b'{"reason":"stop"}'),
    TOY.framing.frame(b'{"tokens":2}'),
    TOY.framing.frame(b"[DONE]"),
]
STREAM = [HEAD, THOUGHT, *WORDS, *END]
PING = b": ping\n\n"


@pytest.fixture(autouse=True, scope="module")
def toy() -> Iterator[None]:
    with added_dialect(TOY, CHAT):
        yield


def record_of(*pieces: bytes, stops_after: int | None = None) -> CallRecord:
    records: list[CallRecord] = []

    class Keeper(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            records.append(record)

    endpoint = find_endpoint("POST", "/v1/toy")
    assert endpoint is CHAT
    call = Exchange.begin(
        Instrumentation(observers=(Keeper(),), clock=TickingClock(), keeps_content=True),
        endpoint,
        scheme="http",
        host="h",
        port=None,
        path="/v1/toy",
        content=b'{"model":"m","say":"Hello"}',
        size=27,
    )
    call.head(200, content_type="text/event-stream", content_encoding="")
    with call.receiving() as (feed, pulled):
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
        *(response.model, response.done_reason, response.output_tokens, response.has_thinking),
    )


WHOLE = (
    *("completed", "final_message", 7),
    Message(role="assistant", parts=(Thinking("Hm"), Text("Hello"))),
    *("m", "stop", 2, True),
)


def test_a_stream_of_another_dialect_is_read() -> None:
    record = record_of(*STREAM)
    assert facts_of(record) == WHOLE
    assert record.start.request.model == "m"
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


def test_the_end_mark_needs_no_blank_line() -> None:
    assert facts_of(record_of(*STREAM[:-1], b"data: [DONE]")) == WHOLE


def test_thinking_is_told_from_the_first_answer() -> None:
    record = record_of(*STREAM)
    assert record.time_to_first_chunk is not None
    assert record.time_to_first_answer is not None
    assert record.time_to_first_answer > record.time_to_first_chunk


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        (STREAM[:-1], ("failed", "no_final_message", "incomplete")),
        ([HEAD, *WORDS], ("failed", "no_final_message", "incomplete")),
        ([HEAD, *WORDS, END[2]], ("failed", "no_final_message", "incomplete")),
        ([], ("failed", "no_final_message", "incomplete")),
        ([*STREAM[:3], b'data: {"word'], ("failed", "not_protocol", "protocol")),
        ([b"<html>\n\n<p>\n\n"], ("failed", "not_protocol", "protocol")),
        ([b"<html>"], ("failed", "not_protocol", "protocol")),
    ],
)
def test_a_stream_without_its_end_is_failed(pieces: list[bytes], end: tuple[str, ...]) -> None:
    record = record_of(*pieces)
    assert (record.outcome, record.ending, record.error_type) == end


def test_a_stream_that_is_left_is_abandoned() -> None:
    record = record_of(*STREAM, stops_after=4)
    assert (record.outcome, record.chunk_count, record.response.model) == ("abandoned", 4, "m")


def test_an_error_is_framed_as_the_dialect_does() -> None:
    assert TOY.error_message("no") == b'data: {"wrong":"no"}\n\n'
    assert json.loads(TOY.error_body("no")) == {"wrong": "no"}
