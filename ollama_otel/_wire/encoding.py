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
            return zlib.decompressobj().decompress
    raise UnreadableEncodingError(encoding)
