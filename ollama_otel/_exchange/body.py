"""Reads the body of a response while it passes: framing, decoding and timing.

For each piece it only appends the piece and the time, and processes many pieces at once: that
costs a fraction of processing each alone.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ollama_otel._guard import guard
from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.encoding import (
    Decoder,
    InflatedBodyError,
    UnreadableEncodingError,
    decoder_for,
)
from ollama_otel.records import Message, Progress, ResponseFacts

__all__ = ["PIECES_AT_ONCE", "BodyReader", "Inlets", "PiecesListener"]

PIECES_AT_ONCE = 64
"""Pieces that are collected before they are processed."""
_LONGEST_PART: Final = 8 * 1024 * 1024
"""Bytes that are processed at once: a body in memory is one piece of any size."""


class Inlets(NamedTuple):
    """The functions that a shell calls for every piece of a body.

    Before it requests a piece: `pulled(clock())`. When the piece has come: `arrived(clock())`,
    `took(piece)`, and `settle()` if there are `PIECES_AT_ONCE` pieces or more. These are separate
    functions, as one more Python call per piece would cost a fiftieth of a chunk.
    """

    clock: Callable[[], float]
    pulled: Callable[[float], None]
    arrived: Callable[[float], None]
    took: Callable[[bytes], None]
    pieces: list[bytes]
    settle: Callable[[], None]


PiecesListener = Callable[[Sequence[bytes], Sequence[float]], None]


class BodyReader:
    """The common part of all bodies; a shell passes the pieces to `inlets`."""

    __slots__ = (
        "_arrivals",
        "_decoder",
        "_keeps_content",
        "_latest_size",
        "_listeners",
        "_lock",
        "_pieces",
        "_pulls",
        "_unread",
        "clock",
        "contradicts_encoding",
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
        self._lock = threading.Lock()
        self._unread: tuple[list[Any], ...] = ()
        """Lists that a shell still fills after `seize`."""
        self._latest_size = 0
        """Bytes of the pieces that are being processed."""
        self.size = 0
        """Bytes received, before decoding."""
        self._keeps_content = keeps_content
        self._listeners = listeners
        self.is_unreadable = False
        """Whether its encoding, its size or a fault of ours makes the body unreadable."""
        self.contradicts_encoding = False
        """Whether the body violates the encoding in its header."""
        self._decoder: Decoder | None = None
        try:
            self._decoder = decoder_for(content_encoding) if content_encoding else None
        except UnreadableEncodingError:
            self.is_unreadable = True

    def inlets(self) -> Inlets:
        """Return the functions that a shell calls for every piece."""
        return Inlets(
            self.clock,
            self._pulls.append,
            self._arrivals.append,
            self._pieces.append,
            self._pieces,
            self.settle,
        )

    def take_whole(self, data: bytes) -> None:
        """Take a body, or a piece of one, that is in memory already."""
        self._pulls.append(self.clock())
        self._arrivals.append(self.clock())
        self._pieces.append(data)
        if len(self._pieces) >= PIECES_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Process the collected pieces."""
        if self._lock.acquire(blocking=False):
            try:
                self._process()
            finally:
                self._lock.release()
        else:
            for values in self._unread:
                values.clear()

    def seize(self, timeout: float) -> bool:
        """Take over from the thread that receives the body: later pieces are ignored.

        False if that thread does not finish processing within `timeout` seconds: a signal handler
        may have interrupted it there.
        """
        if not self._lock.acquire(timeout=timeout):
            return False
        # It is never released, and the shell keeps the lists that it appends to.
        self._unread = self._pieces, self._arrivals, self._pulls
        count = len(self._pieces)
        self._pieces, self._arrivals = self._pieces[:count], self._arrivals[:count]
        self._pulls = self._pulls[: count + 1]
        return True

    def _process(self) -> None:
        count = len(self._pieces)
        if not count:
            return
        try:
            self._latest_size = sum(map(len, self._pieces))
            self.size += self._latest_size
            for listener in self._listeners:
                self._hand_on(listener)
            self._look()
        except Exception as fault:  # noqa: BLE001 - our fault; the bytes go on
            self.is_unreadable = True
            guard.caught("reading a response", fault)
        finally:
            self._pieces.clear()
            self._arrivals.clear()
            del self._pulls[:count]

    def _hand_on(self, listener: PiecesListener) -> None:
        try:
            listener(self._pieces, self._arrivals)
        except Exception as fault:  # noqa: BLE001 - an observer may be foreign code
            guard.caught("handing on pieces of a response", fault)

    def _look(self) -> None:
        raise NotImplementedError

    def _joined(self, pieces: list[bytes]) -> list[bytes]:
        """Join pieces that are processed together, unless they are so long that copies matter."""
        return [b"".join(pieces)] if self._latest_size <= _LONGEST_PART else pieces

    def _parts(self, data: bytes) -> Iterable[bytes]:
        """Undo the content encoding, part by part; yields nothing after reading has failed once."""
        if self.is_unreadable:
            return ()
        if self._decoder is not None:
            return self._decoded(data, self._decoder)
        return (data,) if len(data) <= _LONGEST_PART else self._divided(data)

    def _divided(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _LONGEST_PART):
            if self.is_unreadable:
                return
            yield data[start : start + _LONGEST_PART]

    def _decoded(self, data: bytes, decoder: Decoder) -> Iterator[bytes]:
        try:
            for part in decoder.parts(data):
                yield part
                if self.is_unreadable:
                    return
        except InflatedBodyError:
            self.is_unreadable = True
        except zlib.error:
            self.is_unreadable = self.contradicts_encoding = True

    def facts(self) -> ResponseFacts:
        """Return the facts of the body; called once, after its last piece."""
        self._process()
        # Listeners get no pieces after the end.
        self._listeners = ()
        return self._read()

    def _read(self) -> ResponseFacts:
        raise NotImplementedError

    @property
    def is_malformed(self) -> bool:
        """Whether the body violates the dialect."""
        return False

    @property
    def is_refused(self) -> bool:
        """Whether the caller had to close the body early, as the body violates the dialect."""
        return self.contradicts_encoding

    def timings(self, began: float, now: float) -> dict[str, Any]:  # noqa: ARG002 - for streams
        """Return the record's fields about the messages of a stream and their times.

        `began` is the clock's reading in seconds when the request was sent.
        """
        return {}

    @property
    def start(self) -> bytes:
        """The kept start of the body: enough for an error text."""
        return b""

    def progress(self) -> Progress | None:
        """Return the progress of a long job; None for any other response."""
        return None

    def answer(self) -> Message | None:
        """Return the answer; None unless content is kept."""
        return None
