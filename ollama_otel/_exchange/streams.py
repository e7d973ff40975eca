"""Bodies in lines. Parsed are only the parts with facts: first ones, tool calls, the last."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from ollama_otel._exchange.body import Answer, AnswerText, put_together
from ollama_otel._wire import native
from ollama_otel._wire.lines import LineCutter

__all__ = ["CompletionStream", "ProgressStream"]

_MAX_LINE = 8 * 1024 * 1024
"""Bytes of a line without an end that are held; a longer one is no server's."""
_MAX_CAPTURED = 1024 * 1024
"""Bytes that are kept while content is captured."""
_MAX_TOOL_PARTS = 256


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
        "_is_cut",
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
        self._is_cut = False

    @property
    def _wants_times(self) -> bool:
        return self._awaits_answer

    def _take(self, data: bytes, now: float) -> None:
        lines = self._cutter.cut(data)
        if lines:
            self._chunk_count += lines.count(b"\n")
            self._remember(lines, now)
        if self._cutter.held > _MAX_LINE:
            self.is_unreadable = True
            self._cutter.flush()

    def _remember(self, lines: bytes, now: float) -> None:
        if not lines.isspace():
            self._last_lines = lines
        if self._keeps_text and not self._is_cut:
            self._capture(lines)
        if self._watches_tools and native.has_tool_calls(lines):
            called = filter(native.has_tool_calls, lines.split(b"\n"))
            self._tool_lines += islice(called, _MAX_TOOL_PARTS - len(self._tool_lines))
        if self._awaits_answer:
            self._look_for_answer(lines, now)

    def _capture(self, lines: bytes) -> None:
        """Keep whole lines, up to the limit."""
        room = _MAX_CAPTURED - self._captured_size
        if len(lines) > room:
            self._is_cut = True
            lines = lines[: lines.rfind(b"\n", 0, room) + 1]
        self._captured.append(lines)
        self._captured_size += len(lines)

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
        return native.read_completion(final, tool_parts=tool_parts, has_thinking=self._has_thinking)

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
        return put_together(parts, is_cut=self._is_cut)


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
        if self._cutter.held > _MAX_LINE:
            self.is_unreadable = True
            self._cutter.flush()

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
