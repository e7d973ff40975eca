"""Watches a body go by, piece by piece, and says at its end what it held.

While it goes by, a piece and the time are put aside and nothing else: Python's cost is
in its steps, so some pieces are looked at together, a few times as fast as each alone.
A part is parsed only where a fact is needed: the first ones, those with tool calls, the last.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import sub
from typing import Any

from ollama_otel._guard import guard
from ollama_otel._wire import native
from ollama_otel._wire.encoding import UnreadableEncodingError, decoder_for
from ollama_otel._wire.endpoints import Endpoint
from ollama_otel._wire.lines import LineCutter

__all__ = ["Answer", "AnswerText", "CompletionStream", "Document", "ProgressStream", "answer_for"]

PIECES_AT_ONCE = 64
"""Pieces that are put aside before they are looked at."""

_MAX_DOCUMENT = 8 * 1024 * 1024
"""Bytes of a body in one piece that are kept to be read at its end."""
_MAX_TAIL = 4096
"""Bytes kept of the end of vectors that are longer than that: the counts stand behind them."""
_MAX_CAPTURED = 1024 * 1024
"""Bytes of a stream that are kept while its content is captured."""
_MAX_TOOL_PARTS = 256


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

    A shell calls `pulled` before it asks for a piece, `took` with each one that comes,
    and `settle` once `is_full`; or does the same by hand in its loop.
    """

    __slots__ = (
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
        for listener in self._listeners:
            for piece, at in zip(self.pieces, self.arrivals, strict=True):
                if piece:
                    self._hand_on(listener, piece, at)
        if self.is_unreadable:
            return
        if self._wants_times:
            for piece, at in zip(self.pieces, self.arrivals, strict=True):
                self._take_encoded(piece, at)
        else:
            self._take_encoded(b"".join(self.pieces), self.arrivals[-1])

    def _hand_on(
        self, listener: Callable[[bytes, float], None], piece: bytes, at: float
    ) -> None:
        try:
            listener(piece, at)
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
        return _put_together([self._whole], is_cut=False)


class CompletionStream(Answer):
    """The NDJSON of a chat or a generation. The one hot path of this library."""

    __slots__ = (
        "_awaits_answer",
        "_captured",
        "_captured_size",
        "_chunk_count",
        "_cutter",
        "_first_answer_at",
        "_has_thinking",
        "_last_lines",
        "_tool_lines",
        "_watches_tools",
    )

    def __init__(self, clock: Callable[[], float], *, watches_tools: bool, **options: Any) -> None:
        super().__init__(clock, **options)
        self._watches_tools = watches_tools
        self._chunk_count = 0
        self._cutter = LineCutter()
        self._first_answer_at: float | None = None
        self._awaits_answer = True
        self._has_thinking = False
        self._last_lines = b""
        self._tool_lines: list[bytes] = []
        self._captured: list[bytes] = []
        self._captured_size = 0

    @property
    def _wants_times(self) -> bool:
        return self._awaits_answer

    def _take(self, data: bytes, now: float) -> None:
        lines = self._cutter.cut(data)
        if lines:
            self._chunk_count += lines.count(b"\n")
            self._remember(lines, now)

    def _remember(self, lines: bytes, now: float) -> None:
        if not lines.isspace():
            self._last_lines = lines
        if self._keeps_text and self._captured_size < _MAX_CAPTURED:
            self._captured.append(lines)
            self._captured_size += len(lines)
        if self._watches_tools and native.has_tool_calls(lines):
            called = filter(native.has_tool_calls, lines.split(b"\n"))
            self._tool_lines += islice(called, _MAX_TOOL_PARTS - len(self._tool_lines))
        if self._awaits_answer:
            self._look_for_answer(lines, now)

    def _look_for_answer(self, lines: bytes, now: float) -> None:
        for line in lines.split(b"\n"):
            # While a model thinks, its answer is empty; no need to parse that to know it.
            if self._has_thinking and native.has_no_answer(line):
                continue
            part = native.parse_object(line)
            if part is None:
                continue
            answer = native.answer_of(part)
            self._has_thinking = self._has_thinking or bool(answer.get("thinking"))
            if native.text_of(part) or native.tool_calls_of(part):
                self._first_answer_at = now
                self._awaits_answer = False
                return

    def _end(self) -> bytes:
        """The last line that says something, whether or not its end has come."""
        if rest := self._cutter.flush():
            if not rest.isspace():
                self._chunk_count += 1
            self._remember(rest, self.clock())
        return self._last_lines.rstrip().rsplit(b"\n", 1)[-1]

    def _read(self) -> native.ResponseFacts:
        last = self._end()
        final = native.parse_object(last)
        tool_parts = [
            part
            for line in self._tool_lines
            if line.rstrip() != last and (part := native.parse_object(line)) is not None
        ]
        return native.read_completion(
            final, tool_parts=tool_parts, has_thinking=self._has_thinking
        )

    @property
    def is_malformed(self) -> bool:
        """Whether the last line is no JSON object: cut short, or not the protocol's at all."""
        last = self._last_lines.rstrip().rsplit(b"\n", 1)[-1]
        return bool(last) and native.parse_object(last) is None

    @property
    def chunk_count(self) -> int:
        return self._chunk_count

    @property
    def first_answer_at(self) -> float | None:
        return self._first_answer_at

    def text(self) -> AnswerText | None:
        if not self._keeps_text:
            return None
        parts = [
            part
            for line in b"".join(self._captured).split(b"\n")
            if (part := native.parse_object(line)) is not None
        ]
        return _put_together(parts, is_cut=self._captured_size >= _MAX_CAPTURED)


class ProgressStream(Answer):
    """The NDJSON of a pull, push or create: some lines a second, each one read."""

    __slots__ = ("_chunk_count", "_cutter", "_is_malformed", "_last", "progress")

    def __init__(self, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(clock, **options)
        self.progress = native.Progress()
        self._cutter = LineCutter()
        self._chunk_count = 0
        self._last: dict[str, Any] | None = None
        self._is_malformed = False

    @property
    def _wants_times(self) -> bool:
        return True

    def _take(self, data: bytes, now: float) -> None:
        for line in self._cutter.cut(data).split(b"\n"):
            self._note(line, now)

    def _note(self, line: bytes, now: float) -> None:
        if not line or line.isspace():
            return
        self._chunk_count += 1
        part = native.parse_object(line)
        self._is_malformed = part is None
        if part is not None:
            self._last = part
            self.progress.read(part, now)

    def _read(self) -> native.ResponseFacts:
        self._note(self._cutter.flush(), self.clock())
        return native.read_progress(self._last)

    @property
    def is_malformed(self) -> bool:
        return self._is_malformed

    @property
    def chunk_count(self) -> int:
        return self._chunk_count


def _put_together(parts: Sequence[dict[str, Any]], *, is_cut: bool) -> AnswerText:
    answers = [native.answer_of(part) for part in parts]
    thinking = [answer.get("thinking") for answer in answers]
    return AnswerText(
        role=next((a["role"] for a in answers if isinstance(a.get("role"), str)), "assistant"),
        text="".join(map(native.text_of, parts)),
        thinking="".join(text for text in thinking if isinstance(text, str)),
        tool_calls=[call for part in parts for call in native.tool_calls_of(part)],
        is_cut=is_cut,
    )


def answer_for(
    endpoint: Endpoint,
    *,
    clock: Callable[[], float],
    status: int,
    is_stream: bool,
    watches_tools: bool,
    **options: Any,
) -> Answer:
    """Choose what watches a body, by what was asked and how the answer begins."""
    is_success = status < 300  # noqa: PLR2004 - HTTP's successes are the 200s
    if is_success and is_stream and endpoint.answer == "completion":
        return CompletionStream(clock, watches_tools=watches_tools, **options)
    if is_success and is_stream and endpoint.answer == "progress":
        return ProgressStream(clock, **options)
    return Document(endpoint, clock, is_success=is_success, **options)
