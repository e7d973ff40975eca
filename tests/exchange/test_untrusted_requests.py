"""Requests of any size and shape cost bounded memory, and facts say only what was read."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._exchange.exchange import Exchange, Url
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.lenient_json import LARGE, is_costly
from ollama_otel.records import CallStart, RequestFacts
from tests.toy_dialect import TOY

MEBIBYTE = 1024 * 1024
IMAGE = base64.b64encode(random.Random(1).randbytes(3 * MEBIBYTE)).decode()


def begun(content: bytes, *, path: str = "/api/chat", keeps_content: bool = False) -> CallStart:
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    exchange = Exchange.begin(
        Instrumentation(keeps_content=keeps_content),
        endpoint,
        Url("http", "127.0.0.1", 11434, path),
        content=content,
        size=len(content),
    )
    exchange.close()
    return exchange.start


def peak_of(action: Callable[[], Any]) -> int:
    """Return how many bytes were allocated at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def chat(messages: bytes, **fields: Any) -> bytes:
    head = json.dumps({"model": "m", "stream": False, "options": {"num_ctx": 8}, **fields})
    return head[:-1].encode() + b',"messages":[' + messages + b"]}"


BOMBS = {
    "lists": chat(b"[]," * 2_500_000 + b"{}"),
    "objects": chat(b"{}," * 2_500_000 + b"{}"),
    "numbers": chat(b"1," * 3_500_000 + b"1"),
    "nested": chat(b"[" * 400_000 + b"]" * 400_000 + b",[]" * 400_000),
    "messages": chat(b'{"role":"user"},' * 500_000 + b"{}"),
    "keys": chat(b"{}")[:-1] + b"".join(b',"%d":{}' % n for n in range(700_000)) + b"}",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("keeps_content", [False, True])
def test_a_bomb_costs_no_more_than_its_own_size(content: bytes, *, keeps_content: bool) -> None:
    starts: list[CallStart] = []
    peak = peak_of(lambda: starts.append(begun(content, keeps_content=keeps_content)))
    assert peak < len(content) + 4 * MEBIBYTE
    [start] = starts
    assert start.conversation is None
    assert start.request.size == len(content)


@pytest.mark.parametrize("name", ["lists", "objects", "numbers", "messages"])
def test_of_a_bomb_its_short_fields_are_facts_and_counts_are_unknown(name: str) -> None:
    facts = begun(BOMBS[name]).request
    assert facts == RequestFacts(
        model="m",
        stream=False,
        options={"num_ctx": 8},
        image_count=None,
        size=len(BOMBS[name]),
    )


@pytest.mark.parametrize(
    ("field", "unknown"),
    [
        ("images", "image_count"),
        ("messages", "image_count"),
        ("messages", "input_count"),
        ("options", "options"),
        ("tools", "tool_count"),
        ("model", "model"),
        ("keep_alive", "keep_alive"),
        ("think", "think"),
    ],
)
def test_a_field_that_is_too_long_is_unknown_and_never_zero(field: str, unknown: str) -> None:
    values = b"[" + b"[]," * 400_000 + b"1]"
    facts = begun(b'{"%s":%s}' % (field.encode(), values)).request
    assert not getattr(facts, unknown)
    assert facts.image_count == (None if field in {"images", "messages"} else 0)
    # It has messages, so that it does not only move the model.
    assert facts.purpose == ("call" if field == "messages" else "load")


def test_the_number_of_texts_to_embed_is_unknown_in_a_bomb() -> None:
    content = b'{"model":"m","input":[' + b'"",' * 400_000 + b'""]}'
    assert begun(content, path="/api/embed").request.input_count is None
    content = b'{"model":"m","input":["a","b"],"x":[' + b"1," * 600_000 + b"1]}"
    facts = begun(content, path="/api/embed").request
    assert (facts.model, facts.input_count, facts.image_count) == ("m", 2, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 2_000_000,
        b'{"model":"m","messages":[' + b"[]," * 400_000,
        b'{"model":' + b"[" * 800_000 + b"]" * 800_000 + b"}",
        b"\x00" + chat(b"[]," * 400_000 + b"{}"),
        chat(b"[]," * 400_000 + b'"\xff"'),
        chat(b"[]," * 400_000 + b"NaN"),
    ],
    ids=range(6),
)
def test_a_bomb_that_is_no_json_has_unknown_facts(content: bytes) -> None:
    facts = begun(content).request
    assert facts.model in {None, "m"}
    assert (facts.input_count, facts.size) == (None, len(content))


@pytest.mark.slow
def test_images_are_passed_over() -> None:
    message = json.dumps({"role": "user", "content": "?", "images": [IMAGE, IMAGE]}).encode()
    content = chat(b",".join([message] * 2))
    facts: list[RequestFacts] = []
    assert peak_of(lambda: facts.append(begun(content).request)) < MEBIBYTE
    assert (facts[0].model, facts[0].image_count, facts[0].input_count) == ("m", 4, 2)


@pytest.mark.slow
def test_images_are_passed_over_in_a_bomb() -> None:
    message = json.dumps({"role": "user", "content": "?", "images": [IMAGE]}).encode()
    content = chat(b",".join([message, *[b"{}"] * 500_000]))
    assert peak_of(lambda: begun(content)) < 4 * MEBIBYTE
    assert begun(content).request.model == "m"


@pytest.mark.slow
def test_the_content_of_a_large_request_is_not_captured() -> None:
    message = {"role": "user", "content": "?", "images": [IMAGE]}
    small = chat(json.dumps(message).encode())
    start = begun(small, keeps_content=True)
    assert start.conversation is not None and len(start.conversation.messages) == 1
    large = chat(json.dumps({**message, "images": [IMAGE] * 9}).encode())
    start = begun(large, keeps_content=True)
    assert start.conversation is None
    assert (start.request.model, start.request.image_count) == ("m", 9)


def test_a_dialect_that_parses_requests_whole_does_not_parse_a_bomb() -> None:
    assert TOY.parse_request(chat(b"{}")) is not None
    assert TOY.parse_request(BOMBS["lists"]) is None


@pytest.mark.slow
@given(st.lists(st.tuples(st.binary(max_size=8), st.integers(0, 200_000)), max_size=6))
def test_a_document_is_costly_if_it_has_too_many_values(parts: list[tuple[bytes, int]]) -> None:
    document = b"x" * LARGE + b"".join(part * times for part, times in parts)
    counted = sum(document.count(mark) for mark in b"[{,")
    assert is_costly(document) is (len(document) > LARGE and counted > 300_000)
