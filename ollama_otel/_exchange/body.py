"""What all bodies have in common: pieces are put aside, and looked at together.

While a body goes by, a piece and the time are noted and nothing else: Python's cost is in
its steps, so some pieces looked at together cost a fraction of each looked at alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Any

from ollama_otel._guard import guard
from ollama_otel._wire import native
from ollama_otel._wire.encoding import UnreadableEncodingError, decoder_for

__all__ = ["PIECES_AT_ONCE", "Answer", "AnswerText", "put_together"]

PIECES_AT_ONCE = 64
"""Pieces that are put aside before they are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText:
    """What a completion said, put together from its parts."""

    role: str = "assistant"
    text: str = ""
    thinking: str = ""
    tool_calls: Sequence[Any] = ()
    is_cut: bool = False
    """Whether more came than is kept."""


class Answer:
    """What all bodies have in common.

    A shell calls `pulled` before it asks for a piece and `feed` with each one that comes,
    or does by hand in its loop what these do.
    """

    __slots__ = (
        "_batch_listeners",
        "_decode",
        "_keeps_text",
        "_listeners",
        "arrivals",
        "batch",
        "clock",
        "first_chunk_at",
        "is_unreadable",
        "longest_gap",
        "pieces",
        "pulls",
        "size",
        "started_at",
        "waited",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        content_encoding: str = "",
        keeps_text: bool = False,
        listeners: Sequence[Callable[[bytes, float], None]] = (),
        batch_listeners: Sequence[Callable[[Sequence[bytes], Sequence[float]], None]] = (),
    ) -> None:
        self.clock = clock
        self.started_at = clock()
        """Clock reading in seconds when the body began."""
        self.pieces: list[bytes] = []
        self.arrivals: list[float] = []
        self.pulls: list[float] = []
        """Pieces put aside, when each came, and when each was asked for; one may be on its way."""
        self.batch = 1 if listeners else PIECES_AT_ONCE
        """Pieces to put aside; one, where somebody waits for each."""
        self.first_chunk_at: float | None = None
        self.longest_gap = -1.0
        """Longest wait for a further piece; negative before there was one."""
        self.waited = 0.0
        """Seconds spent waiting for pieces, all together."""
        self.size = 0
        """Bytes as they came over the wire."""
        self._keeps_text = keeps_text
        self._listeners = listeners
        self._batch_listeners = batch_listeners
        self.is_unreadable = False
        self._decode: Callable[[bytes], bytes] | None = None
        try:
            self._decode = decoder_for(content_encoding)
        except UnreadableEncodingError:
            self.is_unreadable = True

    def pulled(self) -> None:
        """Note that the caller asks for a piece."""
        self.pulls.append(self.clock())

    def feed(self, data: bytes) -> None:
        """Take in one piece of the body, as it came."""
        self.arrivals.append(self.clock())
        self.pieces.append(data)
        if len(self.pieces) >= self.batch:
            self.settle()

    def settle(self) -> None:
        """Look at the pieces put aside."""
        count = len(self.pieces)
        if not count:
            return
        try:
            self._time()
            self._look()
        except Exception as fault:  # noqa: BLE001 - whatever we got wrong, the bytes go on
            guard.caught("reading an answer", fault)
        finally:
            self.pieces.clear()
            self.arrivals.clear()
            del self.pulls[:count]

    def _time(self) -> None:
        waits = list(map(sub, self.arrivals, self.pulls))
        self.waited += sum(waits)
        if self.first_chunk_at is None:
            first = next((i for i, piece in enumerate(self.pieces) if piece), None)
            if first is None:
                return
            self.first_chunk_at = self.arrivals[first]
            del waits[: first + 1]
        self.longest_gap = max(self.longest_gap, *waits, -1.0)

    def _look(self) -> None:
        self.size += sum(map(len, self.pieces))
        for batch_listener in self._batch_listeners:
            self._hand_on(batch_listener, self.pieces, self.arrivals)
        for listener in self._listeners:
            for piece, at in zip(self.pieces, self.arrivals, strict=True):
                if piece:
                    self._hand_on(listener, piece, at)
        if self.is_unreadable:
            return
        alone = 0
        while self._wants_times and alone < len(self.pieces):
            self._take_encoded(self.pieces[alone], self.arrivals[alone])
            alone += 1
        if alone < len(self.pieces):
            self._take_encoded(b"".join(self.pieces[alone:]), self.arrivals[-1])

    def _hand_on(self, listener: Callable[[Any, Any], None], pieces: Any, at: Any) -> None:
        try:
            listener(pieces, at)
        except Exception as fault:  # noqa: BLE001 - an observer may be anybody's
            guard.caught("handing on a piece of an answer", fault)

    def _take_encoded(self, data: bytes, now: float) -> None:
        if self._decode is not None and not self.is_unreadable:
            try:
                data = self._decode(data)
            except zlib.error:
                self.is_unreadable = True
        if data and not self.is_unreadable:
            self._take(data, now)

    @property
    def _wants_times(self) -> bool:
        """Whether it matters which piece came when."""
        return False

    def _take(self, data: bytes, now: float) -> None:
        raise NotImplementedError

    def facts(self) -> native.ResponseFacts:
        """Return what the body said; called once, after its last piece."""
        self.settle()
        return self._read()

    def _read(self) -> native.ResponseFacts:
        raise NotImplementedError

    @property
    def is_malformed(self) -> bool:
        """Whether the body holds something that is not the protocol's."""
        return False

    @property
    def chunk_count(self) -> int:
        """Lines that came; 0 for what is no stream."""
        return 0

    @property
    def first_answer_at(self) -> float | None:
        """Clock reading at the first answer text of a stream, thinking apart."""
        return None

    def text(self) -> AnswerText | None:
        """Return what was said, where that is kept."""
        return None


def put_together(parts: Sequence[dict[str, Any]], *, is_cut: bool) -> AnswerText:
    """Join the parts of a completion; their texts are fragments."""
    answers = [native.answer_of(part) for part in parts]
    thinking = [answer.get("thinking") for answer in answers]
    return AnswerText(
        role=next((a["role"] for a in answers if isinstance(a.get("role"), str)), "assistant"),
        text="".join(map(native.text_of, parts)),
        thinking="".join(text for text in thinking if isinstance(text, str)),
        tool_calls=[call for part in parts for call in native.tool_calls_of(part)],
        is_cut=is_cut,
    )
