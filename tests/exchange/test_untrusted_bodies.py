"""Bodies that an attacker made cost bounded memory, and their records say only what is known."""

from __future__ import annotations

import itertools
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from ollama_otel.records import CallRecord, Progress, ResponseFacts
from tests.exchange.test_exchange import HELLO, JSON, Scene, chat, final, tool_call

MEBIBYTE = 1024 * 1024
PULL = {"path": "/api/pull", "body": {"model": "m"}}
DOCUMENT = {"body": {**HELLO, "stream": False}}
TOOLS = {"body": {**HELLO, "tools": [tool_call("f")]}}


def packed(parts: Iterable[bytes], wbits: int = 31) -> Iterator[bytes]:
    """Compress a body, in pieces as from a socket."""
    packer = zlib.compressobj(9, wbits=wbits)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


def endless(start: bytes, part: bytes, size: int = 48 * MEBIBYTE) -> Iterator[bytes]:
    yield start
    yield from itertools.repeat(part, size // len(part))


def recorded(
    pieces: Iterable[bytes], scene: Any, *, status: int = 200, **head: Any
) -> tuple[CallRecord, int]:
    """Return the record of a body that nobody keeps, and the peak of what was allocated."""
    call = Scene(**scene).head(status, **head)
    tracemalloc.start()
    try:
        for _ in call.body(*()) if pieces is None else _fed(call, pieces):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return call.record, peak


def _fed(call: Scene, pieces: Iterable[bytes]) -> Iterator[None]:
    with call.call.receiving() as (clock, pulled, arrived, took, kept, settle):
        pulled(clock())
        for piece in pieces:
            arrived(clock())
            took(piece)
            if len(kept) >= 64:
                settle()
            yield
            pulled(clock())


LINES = chat("a") * 1000
BOMBS: dict[str, tuple[Callable[[], Iterable[bytes]], dict[str, Any], dict[str, Any]]] = {
    "lines": (lambda: endless(b"", LINES), {}, {}),
    "one line": (lambda: endless(b'{"message":{"content":"', b"a" * MEBIBYTE), {}, {}),
    "values": (lambda: [b'{"a":[' + b"[]," * 2_500_000 + b"1]}\n"], {}, {}),
    "objects": (lambda: [b'{"a":[' + b"{}," * 2_500_000 + b"1]}\n"], {}, {}),
    "numbers": (lambda: [b'{"a":[' + b"1," * 3_500_000 + b"1]}"], {}, {}),
    "document": (
        lambda: endless(b'{"message":{"content":"', b"a" * MEBIBYTE),
        DOCUMENT,
        {"content_type": JSON},
    ),
    "document of values": (
        lambda: [b'{"message":{},"a":[' + b"[]," * 2_500_000 + b"1]}"],
        DOCUMENT,
        {"content_type": JSON},
    ),
    "keys around vectors": (
        lambda: [
            b"{" + b"".join(b'"%d":1,' % n for n in range(700_000)) + b'"embeddings":[[0.5]]}'
        ],
        {"path": "/api/embed", "body": {"model": "m", "input": "a"}},
        {"content_type": JSON},
    ),
    "progress": (
        lambda: endless(b"", b'{"status":"pulling"}\n' * 1000, size=20 * MEBIBYTE),
        PULL,
        {},
    ),
    "progress of values": (lambda: [b'{"a":[' + b"[]," * 2_500_000 + b"1]}\n"], PULL, {}),
}
ENCODINGS = {"": 0, "gzip": 31, "deflate": 15}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_passed_on_and_not_read(name: str, encoding: str) -> None:
    make, scene, head = BOMBS[name]
    pieces = make() if not encoding else packed(make(), ENCODINGS[encoding])
    record, peak = recorded(pieces, scene, **head, encoding=encoding)
    # The pieces of the body itself, and a copy of one message.
    assert peak < 48 * MEBIBYTE
    if name in {"lines", "progress"} and not encoding:
        assert record.outcome == "failed" and record.chunk_count > 300_000
        return
    assert (record.outcome, record.ending) == ("completed", "whole_body")
    assert record.response == ResponseFacts()
    assert record.chunk_count == 0
    assert record.progress == Progress()
    assert record.error_message is None


@pytest.mark.slow
def test_a_bomb_of_an_error_is_an_error() -> None:
    pieces = packed(endless(b'{"error":"', b"a" * MEBIBYTE))
    record, peak = recorded(pieces, {}, status=500, content_type=JSON, encoding="gzip")
    assert peak < 48 * MEBIBYTE
    assert (record.outcome, record.ending, record.error_type) == (
        *("failed", "error_status", "server_error"),
    )
    assert len(record.error_message or "") <= 1024


@pytest.mark.slow
def test_an_error_of_very_many_values_is_an_error() -> None:
    body = b'{"error":[' + b"[]," * 2_500_000 + b"1]}"
    record, peak = recorded([body], {}, status=500, content_type=JSON)
    assert peak < 48 * MEBIBYTE
    assert (record.outcome, record.error_type) == ("failed", "server_error")


@pytest.mark.slow
def test_a_bomb_that_the_caller_leaves_is_abandoned() -> None:
    call = Scene().head(encoding="gzip")
    body = call.body(*packed(endless(b'{"message":{"content":"', b"a" * MEBIBYTE)))
    for _ in itertools.islice(body, 40):
        pass
    body.close()
    call.call.close()
    assert (call.record.outcome, call.record.ending) == ("abandoned", "closed_early")


@pytest.mark.slow
def test_what_was_captured_of_a_bomb_is_marked_as_cut() -> None:
    lines = packed([chat("Hello"), *endless(b'{"message":{"content":"', b"a" * MEBIBYTE)])
    call = Scene(keeps_content=True).head(encoding="gzip")
    record = call.drain(*lines)
    assert record.answer is not None
    assert (record.answer.text, record.answer.is_cut) == ("Hello", True)


def test_a_document_that_is_not_read_has_no_answer() -> None:
    body = b'{"message":{"content":"hi"},"a":[' + b"[]," * 2_500_000 + b"1]}"
    call = Scene({**HELLO, "stream": False}, keeps_content=True).head(content_type=JSON)
    assert call.drain(body).answer is None


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_unfinished_line_in_tiny_pieces_costs_its_bytes(size: int) -> None:
    pieces = (bytes([97 + n % 26] * size) for n in range(300_000))
    _, peak = recorded(pieces, {})
    assert peak < 6 * MEBIBYTE


@pytest.mark.slow
def test_pieces_without_bytes_cost_nothing() -> None:
    record, peak = recorded(itertools.repeat(b"", 300_000), {})
    assert peak < MEBIBYTE
    assert record.outcome == "failed"


@pytest.mark.slow
def test_tool_calls_with_long_arguments_cost_bounded_memory() -> None:
    call = tool_call("f")
    call["function"]["arguments"] = {"text": "x" * 30_000}
    line = chat(tool_calls=[call])
    record, peak = recorded(itertools.chain(itertools.repeat(line, 2000), [final()]), TOOLS)
    assert peak < 16 * MEBIBYTE
    assert record.response.tool_calls[0] == "f"
    assert record.response.tool_calls[-1] == ResponseFacts.MORE_NAMES
    assert record.response.tool_call_count is None
    assert record.finish_reason == "tool_call"
    assert record.chunk_count == 2001


@pytest.mark.parametrize("depth", [150, 250, 900, 100_000])
def test_deep_nesting_is_no_fault_of_ours(depth: int) -> None:
    # The guard is loud in tests: a fault of ours raises.
    line = b'{"a":' * depth + b"1" + b"}" * depth + b"\n"
    record, _ = recorded([line, final()], {})
    assert (record.outcome, record.chunk_count) == ("completed", 2)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 4000, "9" * 30, "0.5", "true", "-1"])
def test_numbers_that_no_server_sends_are_unknown(number: str) -> None:
    line = f'{{"done":true,"eval_count":{number},"total_duration":{number}}}\n'
    record, _ = recorded([line.encode()], {})
    assert record.outcome == "completed"
    assert (record.response.output_tokens, record.response.total_duration) == (None, None)


def test_an_answer_of_megabytes_is_read() -> None:
    # Ordinary text is no bomb, and neither is an image.
    text = json.dumps({"a": ["word, "] * 30_000})
    record, _ = recorded([chat(text * 4), final()], {})
    assert (record.outcome, record.chunk_count) == ("completed", 2)
    assert record.response.output_tokens == 30
