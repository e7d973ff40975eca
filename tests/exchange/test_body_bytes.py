"""Bodies that are not UTF-8, are cut within a character, or hold NUL: judged as the caller is.

Of a document the official client raises for invalid UTF-8; in the messages of a stream it replaces
it, and the caller gets the text.
"""

from __future__ import annotations

from typing import Any

import httpx
import ollama
import pytest

from ollama_otel import Client, Settings
from ollama_otel.records import CallRecord, Text
from ollama_otel.testing import Capture

ASK = [{"role": "user", "content": "x"}]
START = b'{"model":"m","message":{"role":"assistant","content":"'
LATIN, NUL, HALF = b"h\xe9", b"h\x00", b"h\xc3"


def part(text: bytes) -> bytes:
    return START + text + b'"},"done":false}\n'


def last(text: bytes) -> bytes:
    return START + text + b'"},"done":true,"done_reason":"stop","eval_count":3}\n'


def called(body: list[bytes], call: Any) -> tuple[Any, CallRecord]:
    """What a caller gets, an exception included, and what is recorded."""
    capture = Capture()
    mock = httpx.MockTransport(lambda _: httpx.Response(200, content=iter(body)))
    client = Client(
        transport=mock, settings=Settings(capture_content="span_only"), **capture.options
    )
    try:
        got: Any = call(client)
    except (ValueError, ollama.ResponseError) as error:
        got = error
    return got, capture.records[0]


def chat(client: Client) -> Any:
    return client.chat("m", messages=ASK)


def stream(client: Client) -> Any:
    return [each.message.content for each in client.chat("m", messages=ASK, stream=True)]


def embed(client: Client) -> Any:
    return client.embed("m", "x")


def show(client: Client) -> Any:
    return client.show("m")


def pull(client: Client) -> Any:
    return list(client.pull("m", stream=True))


VECTORS = b'{"model":"m","embeddings":[[1,2]],"total_duration":1'
DOCUMENTS: dict[str, tuple[bytes, Any]] = {
    "latin-1": (last(LATIN), chat),
    "latin-1 without done": (START + LATIN + b'"}}', chat),
    "latin-1, cut": (START + LATIN, chat),
    "cut within a character": (START + HALF, chat),
    "a NUL in the text": (last(NUL), chat),
    "a NUL at the end": (last(b"h") + b"\0", chat),
    "NULs": (b"\0\0\0", chat),
    "no text": (b"\xff\xfe\xfd", chat),
    "a latin-1 error": (b'{"error":"' + LATIN + b'"}', chat),
    "latin-1 beside vectors": (VECTORS + b',"model":"' + LATIN + b'"}', embed),
    "latin-1 in vectors": (b'{"embeddings":[[1,\xe9]]}', embed),
    "a NUL in vectors": (b'{"embeddings":[[1,\0002]]}', embed),
    "a NUL after vectors": (VECTORS + b"}\0", embed),
    "vectors and a cut character": (VECTORS + b',"model":"' + HALF, embed),
    "latin-1 in facts": (b'{"model_info":{"a":"' + LATIN + b'"}}', show),
    "a NUL in facts": (b'{"model_info":{"a":"' + NUL + b'"}}', show),
    "facts that are cut within a character": (b'{"model_info":{"a":"' + HALF, show),
    "facts that are no JSON within": (b'{"model_info":{"a":}}', show),
}
CUT_STREAMS: dict[str, tuple[list[bytes], Any]] = {
    "latin-1": ([part(b"h"), START + LATIN], stream),
    "within a character": ([part(b"h"), START + HALF], stream),
    "a NUL": ([part(NUL), last(b"")], stream),
    "a line of NUL": ([part(b"h"), b"\0\n", last(b"")], stream),
    "progress with a NUL": ([b'{"status":"\0"}\n', b'{"status":"success"}\n'], pull),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_raises_has_failed(name: str) -> None:
    body, call = DOCUMENTS[name]
    for pieces in ([body], [body[:30], body[30:]]):
        got, record = called(pieces, call)
        assert isinstance(got, ValueError)
        assert (record.ending, record.error_type) == ("not_protocol", "protocol")
        assert record.response.output_tokens is None
        assert record.answer is None or not record.answer.parts


@pytest.mark.parametrize("name", CUT_STREAMS)
def test_a_stream_that_raises_has_failed(name: str) -> None:
    got, record = called(*CUT_STREAMS[name])
    assert isinstance(got, ValueError)
    assert (record.ending, record.error_type) == ("not_protocol", "protocol")


@pytest.mark.parametrize("at", [0, 1])
def test_a_stream_with_replaced_characters_is_the_callers_answer(at: int) -> None:
    texts = [b"h", b"h"]
    texts[at] = LATIN
    got, record = called([part(texts[0]), last(texts[1])], stream)
    assert (record.outcome, record.ending) == ("completed", "final_message")
    assert record.response.output_tokens == 3
    assert record.answer is not None
    assert record.answer.parts == (Text("".join(got)),)
    assert "\ufffd" in "".join(got)


def test_a_stream_with_replaced_characters_may_lack_its_end() -> None:
    got, record = called([part(b"h"), part(LATIN)], stream)
    assert got == ["h", "h\ufffd"]
    assert (record.ending, record.error_type) == ("no_final_message", "incomplete")


def test_progress_with_replaced_characters_is_progress() -> None:
    _, record = called([b'{"status":"\xe9"}\n', b'{"status":"success"}\n'], pull)
    assert record.outcome == "completed"
    _, record = called([b'{"status":"\xe9"}\n'], pull)
    assert (record.ending, record.error_type) == ("no_final_message", "incomplete")


@pytest.mark.parametrize("call", [chat, embed])
def test_utf_8_is_whole(call: Any) -> None:
    body = last("hé".encode()) if call is chat else VECTORS + ',"model":"é"}'.encode()
    got, record = called([body], call)
    assert not isinstance(got, Exception)
    assert record.outcome == "completed"


def test_a_long_body_without_facts_is_judged_by_its_ends() -> None:
    long = b'{"model_info":{"a":"' + b"x" * 70_000 + b'"}}'
    pieces = [long[at : at + 1000] for at in range(0, len(long), 1000)]
    got, record = called(pieces, show)
    assert not isinstance(got, Exception)
    assert record.outcome == "completed"
    got, record = called(pieces[:-1], show)
    assert isinstance(got, ValueError)
    assert record.ending == "not_protocol"
