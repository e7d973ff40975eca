"""Bodies that are not the protocol: the caller gets an exception, so the call has failed."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest

from ollama_otel import AsyncClient, Client
from ollama_otel.records import CallRecord
from ollama_otel.testing import Capture

PART = b'{"model":"m","message":{"role":"assistant","content":"hi "},"done":false}\n'
LAST = (
    b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'
)
STATUS = b'{"status":"pulling"}\n'
ASK = [{"role": "user", "content": "x"}]
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json; charset=utf-8"}

FOREIGN: dict[str, list[bytes]] = {
    "HTML": [b"<html>\n", b"sign in</html>\n"],
    "HTML without a line end": [b"<html>sign in</html>"],
    "HTML in the middle": [PART, b"<html>504</html>\n", LAST],
    "HTML far into the answer": [PART] * 100 + [b"<html>504</html>\n", LAST],
    "a blank line": [PART, b"\n", LAST],
    "a blank line first": [b"\n", PART, LAST],
    "a line of blanks": [PART, b"  \r\n", LAST],
    "server-sent events": [b"data: " + PART, b"\n", b"data: " + LAST],
    "two objects on a line": [PART[:-1] + PART, LAST],
    "a byte order mark": [b"\xef\xbb\xbf" + PART, LAST],
    "a list": [b"[1]\n", LAST],
    "a text": [b'"busy"\n', LAST],
    "an indented document": [b'{\n  "model": "m",\n', b'  "done": true\n}\n'],
}


def chat(
    pieces: Sequence[bytes], headers: dict[str, str], *, stream: bool, capture: Capture
) -> Any:
    mock = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=iter(pieces)))
    answer = Client(transport=mock, **capture.options).chat("m", messages=ASK, stream=stream)
    return list(answer) if stream else answer


def failed(record: CallRecord) -> None:
    assert (record.outcome, record.ending, record.error_type) == (
        "failed",
        "not_protocol",
        "protocol",
    )


@pytest.mark.parametrize("headers", [{}, NDJSON, JSON], ids=["untyped", "ndjson", "json"])
@pytest.mark.parametrize("is_joined", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_stream_that_the_official_client_cannot_read_has_failed(
    name: str, is_joined: bool, headers: dict[str, str]
) -> None:
    pieces, capture = FOREIGN[name], Capture()
    with pytest.raises((ValueError, AttributeError)):
        chat([b"".join(pieces)] if is_joined else pieces, headers, stream=True, capture=capture)
    failed(capture.records[0])


@pytest.mark.parametrize("name", sorted(set(FOREIGN) - {"an indented document"}))
def test_a_document_that_the_official_client_cannot_read_has_failed(name: str) -> None:
    capture = Capture()
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        chat(FOREIGN[name], {}, stream=False, capture=capture)
    failed(capture.records[0])


@pytest.mark.parametrize("pieces", [[PART, LAST], [LAST, LAST], [LAST[:-1] + LAST]])
def test_several_messages_are_no_document(pieces: list[bytes]) -> None:
    capture = Capture()
    with pytest.raises(ValueError, match="Extra data"):
        chat(pieces, JSON, stream=False, capture=capture)
    failed(capture.records[0])


@pytest.mark.parametrize("second", [b'{"embeddings":[[2]]}\n', b"<html></html>}"])
def test_several_embeddings_are_no_document(second: bytes) -> None:
    capture, first = Capture(), b'{"embeddings":[[1]]}\n'
    mock = httpx.MockTransport(lambda _: httpx.Response(200, content=first + second))
    with pytest.raises(ValueError, match="Extra data"):
        Client(transport=mock, **capture.options).embed("m", "x")
    failed(capture.records[0])


def test_several_messages_are_no_end_of_a_pull() -> None:
    capture = Capture()
    body = STATUS + b'{"status":"success"}\n'
    mock = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with pytest.raises(ValueError, match="Extra data"):
        Client(transport=mock, **capture.options).pull("m")
    failed(capture.records[0])


def test_vectors_may_be_indented() -> None:
    capture = Capture()
    mock = httpx.MockTransport(lambda _: httpx.Response(200, content=b'{\n"embeddings":[\n[1]]\n}'))
    Client(transport=mock, **capture.options).embed("m", "x")
    assert capture.records[0].outcome == "completed"


def test_a_document_may_be_indented() -> None:
    capture = Capture()
    body = b'\n{\n  "model": "m",\n "message": {"role": "assistant"},\n  "done": true\n}\n\n'
    chat([body], JSON, stream=False, capture=capture)
    assert capture.records[0].outcome == "completed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_without_the_encoding_of_its_header_has_failed(encoding: str, stream: bool) -> None:
    capture = Capture()
    with pytest.raises(httpx.DecodingError):
        chat([PART, LAST], {"content-encoding": encoding}, stream=stream, capture=capture)
    failed(capture.records[0])


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzip.compress(PART + LAST)),
        ("deflate", zlib.compress(PART + LAST)),
        ("deflate", raw_deflate(PART + LAST)),
    ],
)
def test_encoded_bodies_are_read(encoding: str, encoded: bytes) -> None:
    capture = Capture()
    pieces = [b"", encoded[:9], encoded[9:]]
    chat(pieces, {"content-encoding": encoding}, stream=True, capture=capture)
    record = capture.records[0]
    assert (record.outcome, record.ending) == ("completed", "final_message")


def test_an_async_stream_that_is_foreign_has_failed() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (PART, b"<html>504</html>\n", LAST):
            yield piece

    async def main() -> None:
        mock = httpx.MockTransport(lambda _: httpx.Response(200, content=pieces()))
        client = AsyncClient(transport=mock, **capture.options)
        with pytest.raises(ValueError, match="Expecting value"):
            async for _ in await client.chat("m", messages=ASK, stream=True):
                pass

    capture = Capture()
    asyncio.run(main())
    failed(capture.records[0])


@pytest.mark.parametrize("foreign", [b"<html>\n", b"\n", b"data: {}\n"])
def test_progress_that_is_foreign_has_failed(foreign: bytes) -> None:
    capture = Capture()
    mock = httpx.MockTransport(
        lambda _: httpx.Response(200, content=iter([STATUS, foreign, STATUS]))
    )
    with pytest.raises(ValueError, match="Expecting value"):
        list(Client(transport=mock, **capture.options).pull("m", stream=True))
    failed(capture.records[0])


@pytest.mark.parametrize("headers", [{}, JSON])
@pytest.mark.parametrize(
    "pieces",
    [[PART], [PART, PART], [PART, PART[:20]], [PART[:20]], [PART[:-1] + b"\r\n"], []],
)
def test_a_caller_that_leaves_a_good_stream_has_abandoned_it(
    pieces: list[bytes], headers: dict[str, str]
) -> None:
    def unread() -> Iterator[bytes]:
        yield from pieces
        yield b""
        raise AssertionError

    capture = Capture()
    mock = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=unread()))
    client = Client(transport=mock, **capture.options)
    request = client._client.build_request(
        "POST", "/api/chat", json={"model": "m", "messages": ASK}
    )
    response = client._client.send(request, stream=True)
    raw = response.iter_raw()
    for _ in pieces:
        next(raw)
    response.close()
    assert capture.records[0].outcome == "abandoned"
    assert capture.records[0].error_type is None


def test_a_caller_that_is_content_with_blank_lines_has_its_answer() -> None:
    capture = Capture()
    mock = httpx.MockTransport(lambda _: httpx.Response(200, content=iter([PART, b"\n", LAST])))
    client = Client(transport=mock, **capture.options)
    client._client.post("/api/chat", json={"model": "m", "messages": ASK})
    assert capture.records[0].outcome == "completed"
