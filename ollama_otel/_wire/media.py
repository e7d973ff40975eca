"""Images and sounds in requests and responses: their hash, size and MIME type."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from ollama_otel.records import Media

__all__ = ["MARK", "OMITTED", "decoded_media", "media_of", "omitted"]

OMITTED: Final = "omitted"
MARK: Final = f'"ollama_otel":"{OMITTED}"'.encode()
"""The bytes that mark omitted media in a logged body."""

_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"BM", "image/bmp"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
)


def omitted(content: bytes) -> dict[str, Any]:
    """Return the mark that replaces bytes in a log."""
    return {
        "ollama_otel": OMITTED,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }


def decoded_media(text: str) -> bytes:
    """Decode base64; return the text's own bytes if it is not base64."""
    try:
        # Go's decoder skips line ends only.
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return text.encode("utf-8", "replace")


def media_of(value: Any) -> Media | None:
    """Read base64, bytes, or the mark of omitted media; None for anything else."""
    if isinstance(value, Mapping):
        sha256, size = value.get("sha256"), value.get("size")
        if isinstance(sha256, str) and isinstance(size, int):
            return Media(sha256=sha256, size=size, is_omitted=True)
        return None
    if not isinstance(value, (str, bytes)):
        return None
    content = value if isinstance(value, bytes) else decoded_media(value)
    mime_type = _mime_type(content)
    return Media(
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        modality="image" if mime_type is None else mime_type.partition("/")[0],
        mime_type=mime_type,
    )


def _mime_type(content: bytes) -> str | None:
    for offset, magic, mime_type in _MAGIC:
        if content.startswith(magic, offset):
            return mime_type
    return None
