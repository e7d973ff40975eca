"""Bodies in one piece of JSON, read at their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ollama_otel._exchange.body import Answer, AnswerText, put_together
from ollama_otel._wire import native
from ollama_otel._wire.endpoints import Endpoint

__all__ = ["Document"]

_MAX_DOCUMENT = 8 * 1024 * 1024
"""Bytes of a body that are kept to be read at its end."""
_MAX_TAIL = 4096
"""Bytes kept of the end of vectors that are longer than that: the counts stand behind them."""


class Document(Answer):
    """A body in one piece of JSON, or none at all."""

    __slots__ = (
        "_first",
        "_kept",
        "_kept_size",
        "_last",
        "_tail",
        "_whole",
        "endpoint",
        "is_success",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Callable[[], float],
        *,
        is_success: bool,
        **options: Any,
    ) -> None:
        super().__init__(clock, **options)
        self.endpoint = endpoint
        self.is_success = is_success
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._first = b""
        self._last = b""
        self._tail = b""
        self._whole: dict[str, Any] | None = None

    def _time(self) -> None:
        # Of a body in one piece there are no waits to tell apart.
        pass

    def _take(self, data: bytes, now: float) -> None:  # noqa: ARG002 - streams want it
        self._first = self._first or data[:64].lstrip()
        self._last = data[-64:].rstrip() or self._last
        if self.endpoint.answer == "opaque" and self.is_success:
            return
        # References, no copies: whoever reads a body in one piece holds the same bytes.
        if self._kept_size < _MAX_DOCUMENT:
            self._kept.append(data)
            self._kept_size += len(data)
        elif self.endpoint.answer == "embedding":
            self._tail = (self._tail + data)[-_MAX_TAIL:]
        else:
            # Too long to be read here; whoever asked reads all of it.
            self.is_unreadable = True

    @property
    def body(self) -> bytes:
        """What is kept of the body."""
        return b"".join((*self._kept, self._tail))

    @property
    def is_malformed(self) -> bool:
        """Whether it is surely no JSON, or not all of it: told from its ends."""
        if self.is_unreadable or not self._first:
            return False
        return self._first[:1] not in b"{[" or self._last[-1:] not in b"}]"

    def _read(self) -> native.ResponseFacts:
        match self.endpoint.answer:
            case "completion":
                self._whole = native.parse_object(self.body) or self._last_line()
                return native.read_completion(self._whole)
            case "embedding":
                return native.read_embedding(self.body)
            case "usage":
                return native.read_usage(self.body)
            case "progress":
                return native.read_progress(native.parse_object(self.body) or self._last_line())
            case "opaque":
                # Whoever asked reads the whole of it; there is nothing in it for us.
                return native.ResponseFacts(done=not self.is_malformed)

    def _last_line(self) -> dict[str, Any] | None:
        """A stream that calls itself `application/json`."""
        lines = self.body.rstrip().rsplit(b"\n", 1)
        return native.parse_object(lines[1]) if len(lines) > 1 else None

    def text(self) -> AnswerText | None:
        if not self._keeps_text or self._whole is None:
            return None
        return put_together([self._whole], is_cut=False)
