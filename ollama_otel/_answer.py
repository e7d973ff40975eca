"""Watches a body go by, piece by piece, and says at its end what it held.

Per piece of a stream: a clock reading, a length, a look at its last byte. A part is
parsed only where a fact is needed: the first ones, those with tool calls, the last.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_otel._guard import guard
from ollama_otel._wire import native
from ollama_otel._wire.encoding import UnreadableEncodingError, decoder_for
from ollama_otel._wire.endpoints import Endpoint
from ollama_otel._wire.lines import LineCutter

__all__ = ["Answer", "AnswerText", "CompletionStream", "Document", "ProgressStream", "answer_for"]

_BRACE = ord("{")

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
    """What all bodies have in common; a shell calls `feed`, and sets `pulled_at` before each pull."""

    __slots__ = (
        "_decode",
        "is_unreadable",
        "_keeps_text",
        "_listeners",
        "_looks_closer",
        "clock",
        "first_chunk_at",
        "longest_gap",
        "pulled_at",
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
        self.started_at = self.pulled_at = clock()
        """Clock readings in seconds: when the body began to be read, and the latest pull."""
        self.first_chunk_at: float | None = None
        self.longest_gap = -1.0
        """Longest wait for a further piece; negative before there was one."""
        self.waited = 0.0
        """Seconds spent waiting for pieces, all together."""
        self.size = 0
        """Bytes as they came over the wire."""
        self._keeps_text = keeps_text
        self._listeners = listeners
        self._looks_closer = True
        self.is_unreadable = False
        self._decode: Callable[[bytes], bytes] | None = None
        try:
            self._decode = decoder_for(content_encoding)
        except UnreadableEncodingError:
            self.is_unreadable = True

    def feed(self, data: bytes) -> None:
        """Take in one piece of the body, as it came."""
        now = self.clock()
        self.waited += now - self.pulled_at
        try:
            self._arrived(data, now)
        except Exception as fault:  # noqa: BLE001 - whatever we got wrong, the bytes go on
            guard.caught("reading an answer", fault)

    def _arrived(self, data: bytes, now: float) -> None:
        if not data:
            return
        wait = now - self.pulled_at
        if self.first_chunk_at is None:
            self.first_chunk_at = now
        elif wait > self.longest_gap:
            self.longest_gap = wait
        self.size += len(data)
        for listener in self._listeners:
            try:
                listener(data, now)
            except Exception as fault:  # noqa: BLE001 - an observer may be anybody's
                guard.caught("handing on a piece of an answer", fault)
        if self.is_unreadable:
            return
        if self._decode is not None:
            try:
                data = self._decode(data)
            except zlib.error:
                self.is_unreadable = True
                return
        if data:
            self._take(data, now)

    def _take(self, data: bytes, now: float) -> None:
        raise NotImplementedError

    def facts(self) -> native.ResponseFacts:
        """Return what the body said; called once, after its last piece."""
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

    __slots__ = ("_first", "_kept", "_kept_size", "_last", "_tail", "_whole", "endpoint", "is_success")

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

    def _take(self, data: bytes, now: float) -> None:
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

    def facts(self) -> native.ResponseFacts:
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

    def feed(self, data: bytes) -> None:
        """Take in one piece; the usual one, a whole line of no further interest, is done with here."""
        now = self.clock()
        wait = now - self.pulled_at
        self.waited += wait
        try:
            if (
                self._looks_closer
                or wait > self.longest_gap
                or not data
                or data[0] != _BRACE
                or data.find(b"\n") != len(data) - 1
                or (self._awaits_answer and not native.has_no_answer(data))
                or (self._watches_tools and native.has_tool_calls(data))
            ):
                self._arrived(data, now)
            else:
                self.size += len(data)
                self._chunk_count += 1
                self._last_lines = data
        except Exception as fault:  # noqa: BLE001 - whatever we got wrong, the bytes go on
            guard.caught("reading a stream", fault)

    def _take(self, data: bytes, now: float) -> None:
        lines = self._cutter.cut(data)
        if lines:
            self._chunk_count += lines.count(b"\n")
            self._remember(lines, now)
        # An unfinished line wants its end, whatever comes next.
        self._looks_closer = (
            not self._cutter.is_empty
            or (self._awaits_answer and not self._has_thinking)
            or self._keeps_text
            or bool(self._listeners)
            or self._decode is not None
        )

    def _remember(self, lines: bytes, now: float) -> None:
        if not lines.isspace():
            self._last_lines = lines
        if self._keeps_text and self._captured_size < _MAX_CAPTURED:
            self._captured.append(lines)
            self._captured_size += len(lines)
        if (
            self._watches_tools
            and native.has_tool_calls(lines)
            and len(self._tool_lines) < _MAX_TOOL_PARTS
        ):
            self._tool_lines.append(lines)
        if self._awaits_answer:
            self._look_for_answer(lines, now)

    def _look_for_answer(self, lines: bytes, now: float) -> None:
        for line in lines.split(b"\n"):
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
        """The last line that says something; lines that are whole count, and so does an open one."""
        if rest := self._cutter.flush():
            if not rest.isspace():
                self._chunk_count += 1
            self._remember(rest, self.clock())
        return self._last_lines.rstrip().rsplit(b"\n", 1)[-1]

    def facts(self) -> native.ResponseFacts:
        last = self._end()
        final = native.parse_object(last)
        tool_lines = [line for lines in self._tool_lines for line in lines.splitlines()]
        tool_parts = [
            part
            for line in tool_lines
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

    def _take(self, data: bytes, now: float) -> None:
        for line in self._cutter.cut(data).split(b"\n"):
            self._read(line, now)

    def _read(self, line: bytes, now: float) -> None:
        if not line or line.isspace():
            return
        self._chunk_count += 1
        part = native.parse_object(line)
        self._is_malformed = part is None
        if part is not None:
            self._last = part
            self.progress.read(part, now)

    def facts(self) -> native.ResponseFacts:
        self._read(self._cutter.flush(), self.clock())
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
