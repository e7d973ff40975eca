"""Reads the body of a response as it goes by: framing, decoding and timing.

While a body goes by, a piece and the time are noted and nothing else: Python's cost is in its
steps, so pieces looked at together cost a fraction of pieces looked at alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from operator import sub

from ollama_otel._guard import guard
from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.encoding import UnreadableEncodingError, decoder_for
from ollama_otel.records import Message, Progress, ResponseFacts

__all__ = ["PIECES_AT_ONCE", "BodyReader", "PiecesListener"]

PIECES_AT_ONCE = 64
"""Pieces that are put aside before they are looked at."""

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
        "first_chunk_at",
        "is_unreadable",
        "longest_gap",
        "size",
        "started_at",
        "waited",
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
        self.started_at = clock()
        """Clock reading in seconds when the body began."""
        self._pieces: list[bytes] = []
        self._arrivals: list[float] = []
        self._pulls: list[float] = []
        self.first_chunk_at: float | None = None
        self.longest_gap = -1.0
        """Longest wait for a further piece; negative before there was one."""
        self.waited = 0.0
        """Seconds spent waiting for pieces, all together."""
        self.size = 0
        """Bytes as they came over the wire."""
        self._keeps_content = keeps_content
        self._listeners = listeners
        self.is_unreadable = False
        """Whether an encoding or a size keeps this reader from looking into the body."""
        self._decode: Callable[[bytes], bytes] | None = None
        try:
            self._decode = decoder_for(content_encoding)
        except UnreadableEncodingError:
            self.is_unreadable = True

    def inlets(self) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """Return what takes in one piece as it came, and what to call before asking for one.

        They run for every piece, so everything that they touch is bound beforehand.
        """
        clock, pieces, settle = self.clock, self._pieces, self.settle
        arrived, took, pull = self._arrivals.append, self._pieces.append, self._pulls.append

        def feed(data: bytes) -> None:
            arrived(clock())
            took(data)
            if len(pieces) >= PIECES_AT_ONCE:
                settle()

        def pulled() -> None:
            pull(clock())

        return feed, pulled

    def settle(self) -> None:
        """Look at the pieces put aside."""
        count = len(self._pieces)
        if not count:
            return
        try:
            self._time()
            self._look()
        except Exception as fault:  # noqa: BLE001 - whatever we got wrong, the bytes go on
            guard.caught("reading a response", fault)
        finally:
            self._pieces.clear()
            self._arrivals.clear()
            del self._pulls[:count]

    def _time(self) -> None:
        waits = list(map(sub, self._arrivals, self._pulls))
        self.waited += sum(waits)
        if self.first_chunk_at is None:
            first = next((i for i, piece in enumerate(self._pieces) if piece), None)
            if first is None:
                return
            self.first_chunk_at = self._arrivals[first]
            del waits[: first + 1]
        self.longest_gap = max(self.longest_gap, *waits, -1.0)

    def _look(self) -> None:
        self.size += sum(map(len, self._pieces))
        for listener in self._listeners:
            try:
                listener(self._pieces, self._arrivals)
            except Exception as fault:  # noqa: BLE001 - an observer may be anybody's
                guard.caught("handing on pieces of a response", fault)
        if self.is_unreadable:
            return
        alone = 0
        while self._wants_times and alone < len(self._pieces):
            self._take_encoded(self._pieces[alone], self._arrivals[alone])
            alone += 1
        if alone < len(self._pieces):
            self._take_encoded(b"".join(self._pieces[alone:]), self._arrivals[-1])

    def _take_encoded(self, data: bytes, now: float) -> None:
        if self._decode is not None and not self.is_unreadable:
            try:
                data = self._decode(data)
            except zlib.error:
                self.is_unreadable = True
        if data and not self.is_unreadable:
            self._take(data, now)

    def held_by_caller(self, now: float) -> float:
        """Return the seconds up to `now` (clock reading) in which the caller asked for no more."""
        # A pull without a piece is a wait that the end cut short, and so no hold.
        until = self._pulls[-1] if self._pulls else now
        return max(0.0, until - self.started_at - self.waited)

    @property
    def _wants_times(self) -> bool:
        """Whether it matters which piece came when."""
        return False

    def _take(self, data: bytes, now: float) -> None:
        raise NotImplementedError

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

    @property
    def chunk_count(self) -> int:
        """Messages that came; 0 for what is not a stream."""
        return 0

    @property
    def first_answer_at(self) -> float | None:
        """Clock reading at the first text or tool call of a stream; thinking does not count."""
        return None

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
