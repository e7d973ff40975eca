"""A compressed body is undone while it streams by; what cannot be undone is said so."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._wire.encoding import (
    LONGEST_PART,
    InflatedBodyError,
    UnreadableEncodingError,
    decoder_for,
)
from tests.examples import examples


def undone(encoding: str) -> Callable[[bytes], bytes]:
    decoder = decoder_for(encoding)
    assert decoder is not None
    return lambda data: b"".join(decoder.parts(data))


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_plain_bytes_need_nothing_done(encoding: str) -> None:
    assert decoder_for(encoding) is None


@settings(max_examples=examples(50))
@given(
    body=st.binary(max_size=2_000),
    step=st.integers(1, 300),
    encoding=st.sampled_from(["gzip", "GZip", " x-gzip", "deflate"]),
)
def test_a_body_in_any_pieces_is_undone(body: bytes, step: int, encoding: str) -> None:
    decode = undone(encoding)
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    assert b"".join(decode(packed[i : i + step]) for i in range(0, len(packed), step)) == body


def test_what_has_come_is_undone_at_once() -> None:
    packer = zlib.compressobj(wbits=31)
    decode = undone("gzip")
    for line in (b'{"done":false}\n', b'{"done":true}\n'):
        assert decode(packer.compress(line) + packer.flush(zlib.Z_SYNC_FLUSH)) == line


def test_two_calls_do_not_share_a_decoder() -> None:
    one, other = undone("gzip"), undone("gzip")
    packed = gzip.compress(b"body")
    assert one(packed) == other(packed) == b"body"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "gzip, gzip", "\x00"])
def test_an_encoding_unknown_here_is_refused(encoding: str) -> None:
    with pytest.raises(UnreadableEncodingError):
        decoder_for(encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_what_its_header_says_is_told(encoding: str) -> None:
    decode = undone(encoding)
    with pytest.raises(zlib.error):
        decode(b'{"plain":"json"}')


MEBIBYTE = 1024 * 1024
WBITS = {"gzip": 31, "deflate": 15, "raw deflate": -15}


def packed(wbits: int, part: bytes, count: int) -> bytes:
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join(packer.compress(part) for _ in range(count)) + packer.flush()


@pytest.mark.parametrize("kind", WBITS)
def test_a_body_is_decoded_in_parts_of_bounded_size(kind: str) -> None:
    decoder = decoder_for(kind.removeprefix("raw "))
    assert decoder is not None
    lengths = [len(part) for part in decoder.parts(packed(WBITS[kind], bytes(MEBIBYTE), 8))]
    assert sum(lengths) == 8 * MEBIBYTE
    assert max(lengths) == LONGEST_PART


@pytest.mark.parametrize("kind", WBITS)
def test_a_bomb_is_not_decoded_to_its_end(kind: str) -> None:
    bomb = packed(WBITS[kind], bytes(MEBIBYTE), 64)
    decoder = decoder_for(kind.removeprefix("raw "))
    assert decoder is not None
    size = 0
    tracemalloc.start()
    try:
        with pytest.raises(InflatedBodyError):
            for part in decoder.parts(bomb):
                size += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size <= 16 * MEBIBYTE
    assert peak < 4 * MEBIBYTE


def test_a_long_stream_of_short_messages_is_decoded_to_its_end() -> None:
    decoder = decoder_for("gzip")
    assert decoder is not None
    packer = zlib.compressobj(9, wbits=31)
    size = decoded = 0
    for number in range(180_000):
        line = json.dumps({"created_at": number, "message": {"content": "the"}, "done": False})
        size += len(line)
        decoded += sum(map(len, decoder.parts(packer.compress(line.encode()))))
    assert decoded + sum(map(len, decoder.parts(packer.flush()))) == size


def test_what_follows_the_end_of_a_body_is_not_kept() -> None:
    decode = undone("gzip")
    assert decode(gzip.compress(b"body")) == b"body"
    tracemalloc.start()
    try:
        assert not any(decode(b"x" * 65_536) for _ in range(200))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < MEBIBYTE
