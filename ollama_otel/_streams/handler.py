"""The interface of stream handlers, and the end of a stream."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Literal

from ollama import ChatResponse, GenerateResponse, Message

__all__ = ["Part", "StreamEnd", "StreamEnding", "StreamHandler", "expect_part"]

Part = ChatResponse | GenerateResponse
"""A part of a stream, as the official client yields it."""


def expect_part(given: object) -> Part:
    """Return a part; raises TypeError for any other item, such as an event of an agent."""
    if isinstance(given, Part):
        return given
    raise TypeError(
        "stream_to delivers what `chat` or `generate` return with stream=True, and this stream "
        f"has a {type(given).__qualname__}: iterate it yourself"
    )


StreamEnding = Literal[
    "completed", "incomplete", "stopped", "consumer_failed", "stream_failed", "cancelled"
]
"""How a stream to a consumer ended.

`completed`: the last part came and was taken. `incomplete`: the stream ended without its last
part. `stopped`: `stop()` was called. `consumer_failed`: the consumer raised, was closed, or did not
take a part in time. `stream_failed`: the stream raised. `cancelled`: the task or the program was
stopped.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """How a stream ended: what `on_end` gets, and the last item of a queue."""

    ending: StreamEnding
    part_count: int
    """Number of parts that came."""
    last: Part | None = field(default=None, repr=False)
    """The last part that came; that of a completed stream has the counts and times."""
    error: BaseException | None = field(default=None, repr=False)
    """The exception of the consumer or the stream."""


class StreamHandler:
    """Handles a stream; a subclass overrides the methods that it needs, and keeps its own state.

    The methods are called one at a time, and the next part is read only when they have returned.
    For an async stream, awaitable results are awaited; for a sync stream, methods must not be
    async. If a method raises, the request is closed, and `on_end` is called.
    """

    def on_start(self) -> Awaitable[None] | None:
        """Called before the request is sent."""
        return None

    def on_thinking(self, text: str) -> Awaitable[None] | None:  # noqa: ARG002 - for subclasses
        """Called with a piece of thinking."""
        return None

    def on_text(self, text: str) -> Awaitable[None] | None:  # noqa: ARG002
        """Called with a piece of the answer."""
        return None

    def on_tool_call(self, call: Message.ToolCall) -> Awaitable[None] | None:  # noqa: ARG002
        """Called with a tool call."""
        return None

    def on_end(self, end: StreamEnd) -> Awaitable[None] | None:  # noqa: ARG002
        """Called exactly once, after the request is closed, however the stream ended."""
        return None
