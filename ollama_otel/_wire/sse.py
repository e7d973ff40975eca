r"""The framing of server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from typing import Final

from ollama_otel._wire.framing import Framing

__all__ = ["SSE", "EventCutter", "SseFraming"]

_LINE_END: Final = rb"(?:\r\n|\n|\r(?!\n))"
_EVENT_END: Final = re.compile(_LINE_END + _LINE_END)
# A stream may begin with a byte order mark.
_DATA: Final = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|(?<=[\r\n]))data:[ ]?([^\r\n]*)")
_EVENT: Final = re.compile(rb"(?:[^\r\n]+(?:\r\n|\n|\r|\Z))+")


class EventCutter:
    """Holds back an unfinished event until the blank line that ends it."""

    __slots__ = ("_seam", "_unfinished", "held")

    def __init__(self) -> None:
        self._unfinished = bytearray()
        self._seam = b""
        """The last byte held back: the end of an event may be split over two pieces."""
        self.held = 0
        """Bytes held back."""

    def cut(self, data: bytes) -> bytes:
        searched = self._seam + data
        end = max((found.end() for found in _EVENT_END.finditer(searched)), default=0)
        if not end:
            self._hold(data, searched)
            return b""
        end -= len(self._seam)
        whole = bytes(self._unfinished + data[:end])
        self._unfinished = bytearray()
        self._hold(data[end:], data[end:])
        return whole

    def _hold(self, data: bytes, searched: bytes) -> None:
        self._unfinished += data
        self.held = len(self._unfinished)
        self._seam = searched[-1:]

    def flush(self) -> bytes:
        rest = bytes(self._unfinished)
        self._unfinished, self._seam, self.held = bytearray(), b"", 0
        return rest


class SseFraming(Framing):
    """One message per event: its `data` lines, joined."""

    name = "sse"
    content_type = "text/event-stream"
    has_other_lines = True

    def cutter(self) -> EventCutter:
        return EventCutter()

    def count(self, data: bytes) -> int:
        return len(self.payloads(data))

    def payloads(self, data: bytes) -> list[bytes]:
        """Return the data of each event; several `data` lines are joined by a newline."""
        return [
            b"\n".join(lines) for event in _EVENT.findall(data) if (lines := _DATA.findall(event))
        ]

    def spans(self, body: bytes) -> list[tuple[int, int]]:
        """Return start and end of the data of each event, and of each line that is not data."""
        return [
            span
            for line in re.finditer(rb"[^\r\n]+", body)
            if (span := self._span(body, line.start(), line.end()))[0] < span[1]
        ]

    def _span(self, body: bytes, start: int, end: int) -> tuple[int, int]:
        data = _DATA.match(body, start, end)
        return (start, end) if data is None else data.span(1)

    def has_broken_payloads(self, body: bytes) -> bool:
        """Whether an event has several `data` lines."""
        return any(len(_DATA.findall(event)) > 1 for event in _EVENT.findall(body))

    def frame(self, payload: bytes) -> bytes:
        lines = b"".join(b"data: " + line + b"\n" for line in payload.split(b"\n"))
        return lines + b"\n"


SSE: Final = SseFraming()
