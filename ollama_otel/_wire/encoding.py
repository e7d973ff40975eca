"""Decodes content encodings piece by piece, as far as the standard library supports them."""

from __future__ import annotations

import zlib
from collections.abc import Callable

__all__ = ["UnreadableEncodingError", "decoder_for"]


class UnreadableEncodingError(Exception):
    """The standard library cannot decode the body (br, zstd)."""


def decoder_for(encoding: str) -> Callable[[bytes], bytes] | None:
    """Return a function that decodes pieces of a body; None if it is not encoded.

    Raises `UnreadableEncodingError` for an encoding unknown to the standard library. The
    function raises `zlib.error` if the body does not match its header.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress
        case "deflate":
            return _Deflate().decode
    raise UnreadableEncodingError(encoding)


class _Deflate:
    """Decodes both formats that servers call `deflate`: with the header of zlib, and without."""

    def __init__(self) -> None:
        self._decompress: Callable[[bytes], bytes] = self._first

    def decode(self, data: bytes) -> bytes:
        return self._decompress(data)

    def _first(self, data: bytes) -> bytes:
        if not data:
            return b""
        decoder = zlib.decompressobj()
        try:
            decoded = decoder.decompress(data)
        except zlib.error:
            decoder = zlib.decompressobj(-zlib.MAX_WBITS)
            decoded = decoder.decompress(data)
        self._decompress = decoder.decompress
        return decoded
