"""Images and sounds in requests and responses: their hash, size and MIME type."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ollama_otel.records import Media

__all__ = [
    "MARK",
    "OMITTED",
    "data_urls",
    "encoded_bytes",
    "is_data_url",
    "is_mark",
    "is_media",
    "media_of",
    "omitted",
]

OMITTED: Final = "omitted"
MARK: Final = f'"ollama_otel":"{OMITTED}"'.encode()
"""The bytes that mark omitted media in a logged body."""

_DATA_URL: Final = r"data:(?:image|audio|video)/"
_ENCODED: Final = (
    rf"{_DATA_URL}[\w.+-]+(?:;[ ]?[\w.-]{{1,32}}=[\w.-]{{1,64}}){{0,4}};[ ]?base64,[ ]?"
)
_begins_as_data_url = re.compile(rf"\s*{_DATA_URL}", re.IGNORECASE).match
_header = re.compile(rf"\s*{_ENCODED}", re.IGNORECASE).match
_is_base64 = re.compile(r"[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*").fullmatch
_data_urls = re.compile(
    # Base64 of one line, or of lines as mail and command-line tools wrap it.
    rf"{_ENCODED}(?P<content>(?:\r?\n)?[A-Za-z0-9+/_-]{{16,}}(?:\r?\n[A-Za-z0-9+/_-]{{60,76}})*+"
    r"(?:(?<=[^=\s]{60})\r?\n[A-Za-z0-9+/_-]{4,}(?=[=\s\"')>]|\Z))?={0,2})",
    re.IGNORECASE,
).finditer
_HEAD: Final = 64
"""Characters of base64 that show the type of media."""

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
    """Return the mark that replaces bytes in a log; it has a `type` if the bytes show it."""
    mark = {
        "ollama_otel": OMITTED,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    mime_type = _mime_type(content)
    return mark if mime_type is None else {**mark, "type": mime_type}


def is_mark(value: Any) -> bool:
    """Whether a JSON value is the mark of omitted bytes."""
    return isinstance(value, Mapping) and value.get("ollama_otel") == OMITTED


def is_data_url(text: str) -> bool:
    """Whether a text begins as the `data:` URL of media; other text may follow."""
    return _begins_as_data_url(text) is not None


def is_media(text: str) -> bool:
    """Whether a text consists only of media of a known type: base64, alone or in a `data:` URL."""
    content = _content(text)
    head = _decoded(content[:_HEAD]) or b""
    return _mime_type(head) is not None and _is_base64(content) is not None


def data_urls(text: str) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and bytes of the media in `data:` URLs within a text."""
    # Nearly no text has one, and this test is fast.
    for found in _data_urls(text) if "base64," in text or "BASE64," in text else ():
        yield (*found.span(), _decoded_or_text(found["content"]))


def encoded_bytes(text: str) -> bytes | None:
    """Decode base64, alone or in a `data:` URL; None if the text is neither."""
    return _decoded(_content(text))


def _content(text: str) -> str:
    """Return a text without the header of a `data:` URL."""
    header = _header(text)
    return text if header is None else text[header.end() :]


def _decoded(text: str) -> bytes | None:
    try:
        # Go's decoder skips line ends only.
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return None


def _decoded_or_text(text: str) -> bytes:
    content = _decoded(text)
    return text.encode("utf-8", "replace") if content is None else content


def media_of(value: Any) -> Media | None:
    """Read base64, bytes, or the mark of omitted media; None for anything else."""
    if isinstance(value, Mapping):
        sha256, size = value.get("sha256"), value.get("size")
        if isinstance(sha256, str) and isinstance(size, int):
            return _media(sha256, size, value.get("type"), is_omitted=True)
        return None
    if not isinstance(value, (str, bytes)):
        return None
    content = value if isinstance(value, bytes) else _decoded_or_text(value)
    return _media(hashlib.sha256(content).hexdigest(), len(content), _mime_type(content))


def _media(sha256: str, size: int, mime_type: Any, *, is_omitted: bool = False) -> Media:
    is_known = isinstance(mime_type, str)
    return Media(
        sha256=sha256,
        size=size,
        modality=mime_type.partition("/")[0] if is_known else "image",
        mime_type=mime_type if is_known else None,
        is_omitted=is_omitted,
    )


def _mime_type(content: bytes) -> str | None:
    for offset, magic, mime_type in _MAGIC:
        if content.startswith(magic, offset):
            return mime_type
    return None
