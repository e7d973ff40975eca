"""The tracing interface for agent runs, and its frozen values."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from msgspec import Struct

from ollama_otel.context import CallContext
from ollama_otel.records import ToolCall

__all__ = [
    "AgentTracing",
    "RunEnding",
    "RunRecord",
    "RunStart",
    "RunTrace",
    "ToolCallRecord",
    "ToolCallStart",
    "ToolOutcome",
    "ToolTrace",
]

RunEnding = Literal[
    "answered",
    "deferred",
    "max_rounds",
    "max_tool_calls",
    "unknown_tool",
    "invalid_arguments",
    "tool_failed",
    "tool_timed_out",
    "leaked_tool_call",
    "empty_answer",
    "cut_answer",
    "incomplete_answer",
    "call_failed",
    "hook_failed",
    "cancelled",
    "abandoned",
]
"""Why the run of an agent ended.

`answered`: the model answered. `deferred`: a tool call waits for its result from elsewhere.
`max_rounds`, `max_tool_calls`: a limit was reached.
`unknown_tool`, `invalid_arguments`, `tool_failed`, `tool_timed_out`: a tool call ended like that,
and the agent is configured to raise. `leaked_tool_call`: the text of the answer is a tool call that
the server did not recognize. `empty_answer`: neither text nor tool calls. `cut_answer`:
`num_predict` or the context was used up. `incomplete_answer`: the response ended without its final
message. `call_failed`: a call of the model failed. `hook_failed`: `before_tool` raised.
`cancelled`: the caller's task or program was stopped, or the telemetry was shut down. `abandoned`:
the caller closed the stream early.
"""

ToolOutcome = Literal[
    "succeeded",
    "failed",
    "timed_out",
    "unknown_tool",
    "invalid_arguments",
    "over_limit",
    "denied",
    "deferred",
    "cancelled",
]
"""How a tool call ended.

`succeeded`: the tool returned. `failed`: it raised, or returned what JSON cannot hold.
`over_limit`: it was not made, as the run had used up `max_tool_calls`.
`denied`, `deferred`: `before_tool` decided so; no error. `cancelled`: the run was stopped.
"""


class RunStart(Struct, frozen=True, kw_only=True):
    """A run that begins."""

    agent: str | None = None
    """The name that the application gave its agent."""
    model: str
    context: CallContext = CallContext()
    asks_for_json: bool = False
    """Whether the answer is requested as JSON."""
    started_at: int = 0
    """Nanoseconds since the epoch."""


class RunRecord(Struct, frozen=True, kw_only=True):
    """A run that has ended."""

    start: RunStart
    ending: RunEnding
    is_failure: bool
    """Whether the caller gets an exception that is an error."""
    rounds: int = 0
    """Number of calls of the model, including failed ones."""
    tool_calls: int = 0
    """Number of requested tool calls, including those that were not made."""
    input_tokens: int | None = None
    """Sum over the calls of the model; None if the server did not report it for each of them."""
    output_tokens: int | None = None
    """Sum over the calls of the model; None as for the input."""
    thinking_length: int = 0
    """Characters of thinking that were left out of the history."""
    duration: float
    """Seconds."""


class ToolCallStart(Struct, frozen=True, kw_only=True):
    """A tool call that begins; its arguments are content."""

    call: ToolCall
    is_known: bool
    """Whether the agent has a tool of that name; otherwise the model invented the name."""
    description: str | None = None
    """Description of the tool, as the model gets it."""
    started_at: int = 0
    """Nanoseconds since the epoch."""


class ToolCallRecord(Struct, frozen=True, kw_only=True):
    """A tool call that has ended; its text is content."""

    start: ToolCallStart
    outcome: ToolOutcome
    text: str = ""
    """The text that the model gets: the result, or an error message."""
    error: BaseException | None = None
    """The exception that the tool raised."""
    duration: float
    """Seconds, including the wait for `before_tool` and for a free worker."""


class ToolTrace:
    """Traces one tool call; this base class does nothing."""

    def current(self) -> AbstractContextManager[object]:
        """Return a block in which the span of the tool call is current."""
        return nullcontext()

    def end(self, record: ToolCallRecord) -> None:
        """End the span; called once, on any thread."""


class RunTrace:
    """Traces one run; this base class does nothing."""

    def current(self) -> AbstractContextManager[object]:
        """Return a block in which the span of the run is current."""
        return nullcontext()

    def tool(self, start: ToolCallStart) -> ToolTrace:  # noqa: ARG002 - for subclasses
        """Start to trace a tool call of the run."""
        return ToolTrace()

    def end(self, record: RunRecord) -> None:
        """End the span; called once, on any thread."""


class AgentTracing:
    """Creates spans and metrics of runs; this base class creates none."""

    def begin(self, start: RunStart) -> RunTrace:  # noqa: ARG002 - for subclasses
        """Start to trace a run that begins."""
        return RunTrace()
