"""Streamed bodies; only messages with facts are parsed: the first, tool calls, the last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import sub
from typing import Any

from msgspec.structs import replace

from ollama_otel._exchange.body import BodyReader
from ollama_otel._wire.dialect import Dialect, ProgressTally
from ollama_otel._wire.lenient_json import LARGE, is_costly, parse_message
from ollama_otel.records import Message, Progress, ResponseFacts

__all__ = ["CompletionStream", "ProgressStream"]

_MAX_MESSAGE = 8 * 1024 * 1024
"""Most bytes held of an unfinished message; servers do not send longer ones."""
_MAX_CAPTURED = 1024 * 1024
"""Bytes of a stream that are kept while content is captured."""
_MAX_TOOL_SIZE = 1024 * 1024
"""Bytes of the messages with tool calls that are kept until the end."""
_PER_PAYLOAD = 64
"""Bytes that a kept message costs besides its own."""


class Stream(BodyReader):
    """The common part of streams: the times of their pieces."""

    __slots__ = ("_chunk_count", "_first_at", "_longest_gap", "_started_at", "_waited")

    def __init__(self, dialect: Dialect, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(dialect, clock, **options)
        self._chunk_count = 0
        self._started_at = clock()
        self._first_at: float | None = None
        self._longest_gap = -1.0
        """Longest wait for a further piece, in seconds; negative if there was none."""
        self._waited = 0.0
        """Total seconds of waiting for pieces."""

    def _look(self) -> None:
        self._time()
        if self.is_unreadable:
            return
        pieces, arrivals = self._pieces, self._arrivals
        alone = 0
        if not self._is_silent():
            while self._wants_times and alone < len(pieces):
                for part in self._parts(pieces[alone]):
                    self._take(part, arrivals[alone])
                alone += 1
        if alone < len(pieces):
            for data in self._joined(pieces[alone:]):
                for part in self._parts(data):
                    self._take(part, arrivals[-1])

    def _time(self) -> None:
        waits = list(map(sub, self._arrivals, self._pulls))
        self._waited += sum(waits)
        if self._first_at is None:
            first = next((i for i, piece in enumerate(self._pieces) if piece), None)
            if first is None:
                return
            self._first_at = self._arrivals[first]
            del waits[: first + 1]
        self._longest_gap = max(self._longest_gap, *waits, -1.0)

    @property
    def _wants_times(self) -> bool:
        """Whether each piece has to be processed separately, with its own time."""
        raise NotImplementedError

    def _is_silent(self) -> bool:
        """Whether the collected pieces contain no event whose time is recorded."""
        return False

    def _take(self, data: bytes, now: float) -> None:
        """Take decoded bytes, possibly none, that arrived at clock reading `now`."""
        raise NotImplementedError

    def _is_costly(self, messages: bytes) -> bool:
        """Whether one of these messages takes long to parse."""
        return is_costly(messages) and any(map(is_costly, self.dialect.framing.payloads(messages)))

    def timings(self, began: float, now: float) -> dict[str, Any]:
        """Return count and times of the messages; empty if there were none."""
        if not self._chunk_count:
            return {}
        # A pull without a piece is a wait for the server that was interrupted by the end.
        until = self._pulls[-1] if self._pulls else now
        return {
            # Messages after reading has failed are not counted.
            "chunk_count": 0 if self.is_unreadable else self._chunk_count,
            "time_to_first_chunk": None if self._first_at is None else self._first_at - began,
            "longest_gap": self._longest_gap if self._longest_gap >= 0 else None,
            "held_by_caller": max(0.0, until - self._started_at - self._waited),
        }


class CompletionStream(Stream):
    """The stream of a completion: the hot path of this library."""

    __slots__ = (
        "_awaits_answer",
        "_captured",
        "_captured_size",
        "_cutter",
        "_first",
        "_first_answer_at",
        "_framing",
        "_has_thinking",
        "_is_cut",
        "_last",
        "_latest",
        "_tool_payloads",
        "_tool_room",
        "_watches_tools",
    )

    def __init__(
        self, dialect: Dialect, clock: Callable[[], float], *, watches_tools: bool, **options: Any
    ) -> None:
        super().__init__(dialect, clock, **options)
        self._watches_tools = watches_tools
        self._framing = dialect.framing
        self._cutter = dialect.framing.cutter()
        self._first_answer_at: float | None = None
        self._awaits_answer = True
        self._has_thinking = False
        self._first = b""
        self._latest = b""
        """The complete messages that came last, blank lines included."""
        self._last: deque[bytes] = deque(maxlen=dialect.closing_count)
        """The last data with messages: enough for the facts at the end of the stream."""
        self._tool_payloads: list[bytes] = []
        self._tool_room = _MAX_TOOL_SIZE
        """Remaining bytes for messages with tool calls; negative if one was dropped."""
        self._captured: list[bytes] = []
        self._captured_size = 0
        self._is_cut = False

    @property
    def _wants_times(self) -> bool:
        return self._awaits_answer

    def _is_silent(self) -> bool:
        # A model may think for thousands of messages; looked at one by one they cost eight times
        # as much. The whole messages count: an unfinished one comes with later pieces.
        if not self._has_thinking or self._cutter.held or self._decoder is not None:
            return False
        payloads = self._framing.payloads(b"".join(self._pieces))
        return all(not payload or self.dialect.is_silent(payload) for payload in payloads)

    def _take(self, data: bytes, now: float) -> None:
        messages = self._cutter.cut(data)
        if self._cutter.held > _MAX_MESSAGE or (
            len(messages) > LARGE and self._is_costly(messages)
        ):
            self.is_unreadable = True
            self._cutter.flush()
        elif messages:
            self._latest = messages
            self._note(messages, now, self._framing.count(messages))

    def _note(self, data: bytes, now: float, count: int) -> None:
        self._chunk_count += count
        if count:
            self._remember(data, now)
        elif not self._last:
            # Comments, or no messages at all.
            self._last.append(data)

    def _remember(self, data: bytes, now: float) -> None:
        if not data.isspace():
            self._last.append(data)
            self._first = self._first or data
        if self._keeps_content and not self._is_cut:
            self._capture(data)
        if self._watches_tools and self.dialect.has_tool_calls(data):
            self._keep_tool_calls(data)
        if self._awaits_answer:
            self._look_for_answer(data, now)

    def _keep_tool_calls(self, data: bytes) -> None:
        for payload in filter(self.dialect.has_tool_calls, self._framing.payloads(data)):
            self._tool_room -= len(payload) + _PER_PAYLOAD
            if self._tool_room < 0:
                return
            self._tool_payloads.append(payload)

    def _capture(self, data: bytes) -> None:
        room = _MAX_CAPTURED - self._captured_size
        if len(data) > room:
            self._is_cut = True
            data = self._framing.cutter().cut(data[:room])
        self._captured.append(data)
        self._captured_size += len(data)

    def _look_for_answer(self, data: bytes, now: float) -> None:
        for payload in self._framing.payloads(data):
            # While a model thinks, its answer is empty; that needs no parsing.
            if self._has_thinking and self.dialect.is_silent(payload):
                continue
            message = parse_message(payload)
            for kind in () if message is None else self.dialect.speech(message):
                if kind == "thinking":
                    self._has_thinking = True
                else:
                    self._first_answer_at = now
                    self._awaits_answer = False
            if not self._awaits_answer:
                return

    def _look_at_rest(self, rest: bytes) -> None:
        if is_costly(rest):
            self.is_unreadable = True
            return
        payloads = self._framing.payloads(rest)
        self._note(rest, self.clock(), sum(map(bool, map(bytes.strip, payloads))))

    def _closing_payloads(self) -> list[bytes]:
        payloads = [
            bare
            for payload in self._framing.payloads(b"".join(self._last))
            if (bare := payload.strip())
        ]
        return payloads[-self.dialect.closing_count :]

    def _read(self) -> ResponseFacts:
        if rest := self._cutter.flush():
            self._look_at_rest(rest)
        if self.is_unreadable:
            # The last messages are not known.
            return ResponseFacts()
        closing = self._closing_payloads()
        first = self._framing.payloads(self._first)[:1] if self.dialect.needs_first else []
        has_end_mark = bool(closing) and self.dialect.is_end_mark(closing[-1])
        parsed = [parse_message(payload) for payload in (*first, *closing)]
        tool_messages = [
            message
            for payload in self._tool_payloads
            if payload.rstrip() not in closing and (message := parse_message(payload)) is not None
        ]
        is_readable = bool(parsed) and (has_end_mark or parsed[-1] is not None)
        facts = self.dialect.read_stream(
            [each for each in parsed if each is not None] if is_readable else [],
            tool_messages=tool_messages,
            has_thinking=self._has_thinking,
            has_end_mark=has_end_mark,
        )
        if self._tool_room >= 0 or ResponseFacts.MORE_NAMES in facts.tool_calls:
            return facts
        return replace(facts, tool_calls=(*facts.tool_calls, ResponseFacts.MORE_NAMES))

    @property
    def is_malformed(self) -> bool:
        """Whether the last message is not JSON: truncated, or not of the dialect."""
        closing = self._closing_payloads()
        if not closing:
            # Bytes without a message violate the dialect.
            return any(not each.isspace() for each in self._last)
        return not self.dialect.is_end_mark(closing[-1]) and parse_message(closing[-1]) is None

    @property
    def is_refused(self) -> bool:
        first = self._first[: self._first.find(b"\n") + 1]
        is_foreign = self.dialect.is_foreign
        return super().is_refused or is_foreign(self._latest) or is_foreign(first)

    def timings(self, began: float, now: float) -> dict[str, Any]:
        timings = super().timings(began, now)
        if timings and self._first_answer_at is not None:
            timings["time_to_first_answer"] = self._first_answer_at - began
        return timings

    def answer(self) -> Message | None:
        if not self._keeps_content:
            return None
        messages = [
            message
            for payload in self._framing.payloads(b"".join(self._captured))
            if (message := parse_message(payload)) is not None
        ]
        return self.dialect.joined(messages, is_cut=self._is_cut or self.is_unreadable)


class ProgressStream(Stream):
    """The stream of a pull, push or create: a few messages per second, each one parsed."""

    __slots__ = ("_cutter", "_is_malformed", "_last", "_latest", "_tally")

    def __init__(
        self, dialect: Dialect, clock: Callable[[], float], tally: ProgressTally, **options: Any
    ) -> None:
        super().__init__(dialect, clock, **options)
        self._tally = tally
        self._cutter = dialect.framing.cutter()
        self._last: dict[str, Any] | None = None
        self._latest = b""
        self._is_malformed = False

    @property
    def _wants_times(self) -> bool:
        return True

    def _take(self, data: bytes, now: float) -> None:
        messages = self._cutter.cut(data)
        if self._cutter.held > _MAX_MESSAGE or (
            len(messages) > LARGE and self._is_costly(messages)
        ):
            self.is_unreadable = True
            self._cutter.flush()
        elif messages:
            self._latest = messages
            self._note(messages, now)

    def _note(self, data: bytes, now: float) -> None:
        for payload in self.dialect.framing.payloads(data):
            if not payload or payload.isspace():
                continue
            self._chunk_count += 1
            message = parse_message(payload)
            self._is_malformed = message is None
            if message is not None:
                self._last = message
                self._tally.add(message, now)

    def _read(self) -> ResponseFacts:
        rest = self._cutter.flush()
        self.is_unreadable = self.is_unreadable or is_costly(rest)
        if self.is_unreadable:
            return ResponseFacts()
        self._note(rest, self.clock())
        return self.dialect.read_progress(self._last)

    @property
    def is_malformed(self) -> bool:
        return self._is_malformed

    @property
    def is_refused(self) -> bool:
        return super().is_refused or self.dialect.is_foreign(self._latest)

    def progress(self) -> Progress:
        if self.is_unreadable:
            return Progress()
        return self._tally.total()
