"""Messages come out whole, whatever pieces they came in: lines of NDJSON, and server-sent events."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._wire.framing import Framing
from ollama_otel._wire.ndjson import NDJSON
from ollama_otel._wire.sse import SSE
from tests.examples import examples

FRAMINGS: list[Framing] = [NDJSON, SSE]
by_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)

ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
event_lines = st.sampled_from(
    [
        *(b"data: a", b"data:b", b"data:", b"data:  c", b"data: data: d", b": comment", b":"),
        *(b"id: 7", b"event: message", b"database: no", b" data: no", b"\xe2\x80\xa8"),
        *(b"", b"", b""),
    ]
)
streams = st.lists(st.tuples(event_lines, ends).map(b"".join), max_size=14).map(b"".join)
documents = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def recut(body: bytes, borders: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(borders), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


def payloads_of(framing: Framing, pieces: Iterable[bytes]) -> list[bytes]:
    """The payloads of a body that comes in pieces; blank ones left out."""
    cutter = framing.cutter()
    found: list[bytes] = []
    for piece in pieces:
        whole = cutter.cut(piece)
        payloads = framing.payloads(whole)
        assert framing.count(whole) == len(payloads) - (framing is NDJSON)
        found += payloads
    found += framing.payloads(cutter.flush())
    assert cutter.held == 0
    return [payload for payload in found if payload.strip()]


def events_of(body: bytes) -> list[bytes]:
    """What the standard's own algorithm reads, line by line; an unfinished event counts too."""
    return _events(re.split(rb"\r\n|\n|\r", body))


def whole_messages(framing: Framing, body: bytes) -> list[bytes]:
    """The payloads of those messages whose end is there."""
    if framing is NDJSON:
        return [line for line in body.split(b"\n")[:-1] if line.strip()]
    lines = re.split(rb"\r\n|\n|\r", body)[:-1]
    last = max((place for place, line in enumerate(lines) if not line), default=0)
    return _events(lines[:last])


def _events(lines: list[bytes]) -> list[bytes]:
    events: list[list[bytes]] = [[]]
    for line in lines:
        name, _, value = line.partition(b":")
        if not line:
            events.append([])
        elif name == b"data":
            events[-1].append(value.removeprefix(b" "))
    return [data for lines in events if (data := b"\n".join(lines)).strip()]


# --- both -------------------------------------------------------------------------------------


@by_framing
@settings(max_examples=examples(300))
@given(body=streams, data=st.data())
def test_any_cut_gives_the_same_payloads(
    framing: Framing, body: bytes, data: st.DataObject
) -> None:
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    assert payloads_of(framing, recut(body, borders)) == payloads_of(framing, [body])


@by_framing
@settings(max_examples=examples(200))
@given(body=streams, data=st.data())
def test_nothing_is_lost_or_added(framing: Framing, body: bytes, data: st.DataObject) -> None:
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    cutter = framing.cutter()
    came = b""
    out = b""
    for piece in recut(body, borders):
        came += piece
        out += cutter.cut(piece)
        assert cutter.held == len(came) - len(out)
    assert out + cutter.flush() == body


@pytest.mark.slow
@by_framing
@settings(max_examples=examples(500))
@given(body=streams, data=st.data())
def test_a_message_comes_out_with_the_piece_that_ends_it(
    framing: Framing, body: bytes, data: st.DataObject
) -> None:
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    cutter = framing.cutter()
    came = b""
    found: list[bytes] = []
    for piece in recut(body, borders):
        came += piece
        found += [payload for payload in framing.payloads(cutter.cut(piece)) if payload.strip()]
        assert found == whole_messages(framing, came)


@pytest.mark.slow
@by_framing
@settings(max_examples=examples(100))
@given(values=st.lists(documents, max_size=5), data=st.data())
def test_what_is_framed_comes_out_again(
    framing: Framing, values: list[object], data: st.DataObject
) -> None:
    sent = [json.dumps(value, indent=data.draw(st.sampled_from([None, 1]))) for value in values]
    if framing is NDJSON:
        sent = [text.replace("\n", "") for text in sent]
    expected = [text.encode() for text in sent]
    body = b"".join(map(framing.frame, expected))
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    assert payloads_of(framing, recut(body, borders)) == expected
    assert framing.count(body) == len(expected)


@pytest.mark.slow
@by_framing
@given(values=st.lists(documents, max_size=5))
def test_spans_are_where_the_payloads_stand(framing: Framing, values: list[object]) -> None:
    expected = [json.dumps(value).encode() for value in values]
    body = b"".join(map(framing.frame, expected))
    assert [body[start:end] for start, end in framing.spans(body)] == expected


@by_framing
@settings(max_examples=examples(200))
@given(body=streams)
def test_spans_are_in_order_apart_and_never_empty(framing: Framing, body: bytes) -> None:
    spans = framing.spans(body)
    assert all(start < end for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    between = [0, *(place for span in spans for place in span), len(body)]
    outside = b"".join(
        body[start:end] for start, end in zip(between[::2], between[1::2], strict=True)
    )
    assert re.fullmatch(rb"(?:data:|[\s\x1c-\x1f])*", outside)


@pytest.mark.slow
@by_framing
def test_a_message_without_an_end_is_held_once(framing: Framing) -> None:
    cutter, piece = framing.cutter(), b"data: " + b"x" * 94
    tracemalloc.start()
    try:
        for _ in range(20_000):
            assert cutter.cut(bytes(bytearray(piece))) == b""
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cutter.held == 2_000_000
    assert peak < 5_000_000


# --- server-sent events -----------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(body=streams)
def test_events_are_those_of_the_standard(body: bytes) -> None:
    assert payloads_of(SSE, [body]) == events_of(body)


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"data:a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\nid: 7\n: c\ndata: b\n\n", [b"a\nb"]),
        (b": ping\n\ndata: a\n\n: ping\n\n", [b"a"]),
        (b"event: x\ndata: a\n\n", [b"a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"data: a\n\ndata: b\n", [b"a", b"b"]),
        (b"\n\n\ndata: a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        (b"database: a\n\n", []),
        (b"<html>\n\n", []),
        (b"", []),
    ],
)
def test_an_event_is_what_its_data_lines_say(body: bytes, payloads: list[bytes]) -> None:
    assert payloads_of(SSE, [body]) == payloads
    assert payloads_of(SSE, [bytes([byte]) for byte in body]) == payloads


def test_spans_hold_the_lines_without_data_too() -> None:
    body = b"event: x\r\ndata: {\r\ndata:}\r\n\r\n: ping\n\ndata:\n\n"
    assert [body[start:end] for start, end in SSE.spans(body)] == [
        b"event: x",
        b"{",
        b"}",
        b": ping",
    ]


def test_a_payload_of_several_lines_is_framed_in_as_many() -> None:
    assert SSE.frame(b"{\n}") == b"data: {\ndata: }\n\n"


# --- lines ------------------------------------------------------------------------------------


def test_spans_of_lines_leave_blanks_out() -> None:
    body = b' {"a":1} \r\n\n\t\n{"b":2}'
    assert [body[start:end] for start, end in NDJSON.spans(body)] == [b'{"a":1}', b'{"b":2}']


def test_a_stream_may_begin_with_a_byte_order_mark() -> None:
    body = b'\xef\xbb\xbfdata: {"a":1}\n\ndata: {"b":2}\n\n'
    assert SSE.payloads(body) == [b'{"a":1}', b'{"b":2}']
    assert [body[start:end] for start, end in SSE.spans(body)] == SSE.payloads(body)
