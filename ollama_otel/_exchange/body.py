"""Reads the body of a response as it goes by: framing, decoding and timing.

While a body goes by, a piece and the time are noted and nothing else: Python's cost is in its
steps, so pieces looked at together cost a fraction of pieces looked at alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from ollama_otel._guard import guard
from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.encoding import UnreadableEncodingError, decoder_for
from ollama_otel.records import Message, Progress, ResponseFacts

__all__ = ["PIECES_AT_ONCE", "BodyReader", "Inlets", "PiecesListener"]

PIECES_AT_ONCE = 64
"""Pieces that are put aside before they are looked at."""

Inlets = tuple[
    Callable[[], float], Callable[[float], None], Callable[[float], None], Callable[[bytes], None]
]
"""`clock`, `pulled`, `arrived` and `feed`.

Before asking for a piece, call `pulled(clock())`; when it has come, `arrived(clock())` and
`feed(piece)`. Apart, as each call that can be spared is a hundredth of what a chunk costs.
"""

PiecesListener = Callable[[Sequence[bytes], Sequence[float]], None]


class BodyReader:
    """What all bodies have in common; a shell hands the pieces to `inlets`."""

    __slots__ = (
        "_arrivals",
        "_decode",
        "_keeps_content",
        "_listeners",
        "_pieces",
        "_pulls",
        "clock",
        "dialect",
        "is_unreadable",
        "size",
    )

    def __init__(
        self,
        dialect: Dialect,
        clock: Callable[[], float],
        *,
        content_encoding: str = "",
        keeps_content: bool = False,
        listeners: Sequence[PiecesListener] = (),
    ) -> None:
        self.dialect = dialect
        self.clock = clock
        self._pieces: list[bytes] = []
        self._arrivals: list[float] = []
        self._pulls: list[float] = []
        self.size = 0
        """Bytes as they came over the wire."""
        self._keeps_content = keeps_content
        self._listeners = listeners
        self.is_unreadable = False
        """Whether an encoding, a size or a fault of ours keeps the body from being judged."""
        self._decode: Callable[[bytes], bytes] | None = None
        try:
            self._decode = decoder_for(content_encoding) if content_encoding else None
        except UnreadableEncodingError:
            self.is_unreadable = True

    def inlets(self) -> Inlets:
        """Return what a shell calls for every piece, with everything bound that it touches."""
        pieces, settle = self._pieces, self.settle
        took = pieces.append

        def feed(data: bytes) -> None:
            took(data)
            if len(pieces) >= PIECES_AT_ONCE:
                settle()

        return self.clock, self._pulls.append, self._arrivals.append, feed

    def take_whole(self, data: bytes) -> None:
        """Take in a body that is in memory already."""
        clock, pulled, arrived, feed = self.inlets()
        pulled(clock())
        arrived(clock())
        feed(data)

    def settle(self) -> None:
        """Look at the pieces put aside."""
        count = len(self._pieces)
        if not count:
            return
        try:
            self.size += sum(map(len, self._pieces))
            for listener in self._listeners:
                self._hand_on(listener)
            self._look()
        except Exception as fault:  # noqa: BLE001 - whatever we got wrong, the bytes go on
            self.is_unreadable = True
            guard.caught("reading a response", fault)
        finally:
            self._pieces.clear()
            self._arrivals.clear()
            del self._pulls[:count]

    def _hand_on(self, listener: PiecesListener) -> None:
        try:
            listener(self._pieces, self._arrivals)
        except Exception as fault:  # noqa: BLE001 - an observer may be anybody's
            guard.caught("handing on pieces of a response", fault)

    def _look(self) -> None:
        raise NotImplementedError

    def _decoded(self, data: bytes) -> bytes:
        """Undo the content encoding; nothing once that has failed."""
        if self.is_unreadable:
            return b""
        if self._decode is None:
            return data
        try:
            return self._decode(data)
        except zlib.error:
            self.is_unreadable = True
            return b""

    def facts(self) -> ResponseFacts:
        """Return what the body said; called once, after its last piece."""
        self.settle()
        # A caller that reads on after the end is not listened to.
        self._listeners = ()
        return self._read()

    def _read(self) -> ResponseFacts:
        raise NotImplementedError

    @property
    def is_malformed(self) -> bool:
        """Whether the body holds something that is not the dialect's."""
        return False

    def timings(self, began: float, now: float) -> dict[str, Any]:  # noqa: ARG002 - for streams
        """Return what the record says of a stream's messages and of their times.

        `began` and `now` are the clock's readings in seconds when the request was sent, and now.
        """
        return {}

    @property
    def start(self) -> bytes:
        """What is kept of the body: enough for an error text."""
        return b""

    def progress(self) -> Progress | None:
        """Return how far a long job has come; None for anything else."""
        return None

    def answer(self) -> Message | None:
        """Return what was said, where content is kept."""
        return None
