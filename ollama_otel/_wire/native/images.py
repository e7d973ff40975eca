"""Parses a request without its images: they are most of its bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ollama_otel._wire.lenient_json import is_costly, parse_object
from ollama_otel._wire.native.request import read_fields

__all__ = ["parse_without_images", "without_images"]

_IMAGES: Final = b'"images"'
_OPENING: Final = re.compile(rb"\s*:\s*\[")
_QUOTE: Final = re.compile(rb'\s*"')
_NEXT: Final = re.compile(rb"\s*([,\]])")
_LOOKED_AT: Final = 256
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=]*")


def parse_without_images(body: bytes) -> dict[str, Any] | None:
    """Return a request's JSON object with an empty text for each image.

    The request is parsed whole if there is any doubt that only images are left out. One that is
    costly to parse without images is read by field.
    """
    smaller, count = without_images(body)
    if is_costly(smaller):
        return read_fields(smaller)
    if count:
        request = parse_object(smaller)
        # The caller's own data may have arrays of that name, such as a tool call's arguments.
        if request is not None and sum(map(_empty_count, _with_images(request))) == count:
            return request
    return parse_object(body)


def _with_images(request: dict[str, Any]) -> Iterator[Any]:
    """Yield the objects whose `images` are images: the request and its messages."""
    yield request
    messages = request.get("messages")
    yield from messages if isinstance(messages, list) else ()


def _empty_count(holder: Any) -> int:
    images = holder.get("images") if isinstance(holder, dict) else None
    return len(images) if isinstance(images, list) and not any(images) else 0


def without_images(body: bytes) -> tuple[bytes, int]:
    """Return a body with an empty text for each image, and their number.

    Only arrays that hold nothing but base64 are emptied. Nothing is parsed.
    """
    pieces: list[bytes] = []
    position = search = count = 0
    while (start := body.find(_IMAGES, search)) >= 0:
        search = start + len(_IMAGES)
        opening = _OPENING.match(body, search)
        found = None if opening is None else _images(body, opening.end())
        if opening is not None and found is not None:
            closing, images = found
            pieces += [body[position : opening.end()], b",".join([b'""'] * images)]
            position = search = closing
            count += images
    return b"".join((*pieces, body[position:])), count


def _images(body: bytes, position: int) -> tuple[int, int] | None:
    """Return where an array ends and how many images it has; None if it has anything else."""
    count = 0
    while (quote := _QUOTE.match(body, position)) is not None:
        end = body.find(b'"', quote.end())
        if end < 0 or not _is_base64(body, quote.end(), end):
            return None
        count += 1
        if (following := _NEXT.match(body, end + 1)) is None:
            return None
        if following[1] == b"]":
            return following.start(1), count
        position = following.end()
    return None


def _is_base64(body: bytes, start: int, end: int) -> bool:
    """Judge a long text by its start; base64 has no escapes, so that it ends at the next quote."""
    looked_at = min(end, start + _LOOKED_AT)
    is_base64 = _BASE64.fullmatch(body, start, looked_at) is not None
    return is_base64 and body.find(b"\\", looked_at, end) < 0
