"""A compressed body is undone while it streams by; what cannot be undone is said so."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._wire.encoding import UnreadableEncodingError, decoder_for


def undone(encoding: str) -> Callable[[bytes], bytes]:
    decoder = decoder_for(encoding)
    assert decoder is not None
    return lambda data: b"".join(decoder.parts(data))


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_plain_bytes_need_nothing_done(encoding: str) -> None:
    assert decoder_for(encoding) is None


@settings(max_examples=50, deadline=None)
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
