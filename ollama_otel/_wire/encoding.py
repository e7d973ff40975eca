"""Decodes content encodings part by part, gzip and deflate.

A decompressed body can be a thousand times longer than the compressed one, so only a part of it is
in memory, and decoding stops if the body is larger than any text of a model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["LONGEST_PART", "Decoder", "InflatedBodyError", "UnreadableEncodingError", "decoder_for"]

LONGEST_PART: Final = 256 * 1024
"""Bytes of the longest decoded part."""
_UNDOUBTED: Final = 16 * 1024 * 1024
"""Decoded bytes that any body may have."""
_HIGHEST_RATIO: Final = 100
"""Decoded bytes for each byte sent, above `_UNDOUBTED`; a stream of short messages has 10 to 20."""


class UnreadableEncodingError(Exception):
    """The body has an encoding that this library does not decode (br, zstd)."""


class InflatedBodyError(Exception):
    """The decoded body is too large compared to the compressed one; decoding stopped."""


class Decoder:
    """Decodes one body."""

    __slots__ = ("_decoded", "_decompressor", "_new", "_received")

    def __init__(self, new: Callable[[bytes], Any]) -> None:
        """`new` returns zlib's decompressor for a body that begins with the given bytes."""
        self._new = new
        self._decompressor: Any = None
        self._received = 0
        self._decoded = 0

    def parts(self, data: bytes) -> Iterator[bytes]:
        """Decode what has arrived, in parts of at most `LONGEST_PART` bytes.

        Raises `zlib.error` if the body does not match its header, and `InflatedBodyError`.
        """
        if not data:
            return
        if self._decompressor is None:
            self._decompressor = self._new(data)
        if self._decompressor.eof:
            # Clients ignore what follows, and zlib would keep it.
            return
        self._received += len(data)
        part = self._decompressor.decompress(data, LONGEST_PART)
        while part:
            self._decoded += len(part)
            if self._decoded > max(_UNDOUBTED, _HIGHEST_RATIO * self._received):
                raise InflatedBodyError
            yield part
            if len(part) < LONGEST_PART:
                return
            # The decompressor may hold back output even if it has taken all input.
            rest = self._decompressor.unconsumed_tail
            part = self._decompressor.decompress(rest, LONGEST_PART)


def decoder_for(encoding: str) -> Decoder | None:
    """Return a decoder for a body in gzip or deflate; None if it is not encoded.

    Raises `UnreadableEncodingError` for any other encoding.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Decoder(_gzip)
        case "deflate":
            return Decoder(_deflate)
    raise UnreadableEncodingError(encoding)


def _gzip(data: bytes) -> Any:  # noqa: ARG001 - any beginning
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _deflate(data: bytes) -> Any:
    """Recognize the two formats that servers call `deflate`: with the header of zlib, or not."""
    try:
        zlib.decompressobj().decompress(data, 1)
    except zlib.error:
        return zlib.decompressobj(-zlib.MAX_WBITS)
    return zlib.decompressobj()
