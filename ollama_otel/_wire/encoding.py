"""Undoes a body's content encoding while it streams by, as far as the standard library can."""

from __future__ import annotations

import zlib
from collections.abc import Callable

__all__ = ["UnreadableEncodingError", "decoder_for"]


class UnreadableEncodingError(Exception):
    """The body is in an encoding that cannot be undone here (br, zstd)."""


def decoder_for(encoding: str) -> Callable[[bytes], bytes] | None:
    """Return what turns pieces of a body into plain bytes; None where nothing is to be done.

    Raises `UnreadableEncodingError` for an encoding unknown to the standard library.
    A decoder raises `zlib.error` for a body that is not what its header says.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress
        case "deflate":
            return zlib.decompressobj().decompress
    raise UnreadableEncodingError(encoding)
