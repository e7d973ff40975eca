"""The values of a run: rounds, results of tool calls, events, decisions of `before_tool`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import ollama
from msgspec import Struct

from ollama_otel._exchange.agent_runs import RunEnding, ToolOutcome
from ollama_otel.errors import AgentError
from ollama_otel.records import ToolCall

__all__ = [
    "AgentRun",
    "AgentRunError",
    "Allow",
    "Decision",
    "Defer",
    "Deny",
    "EndEvent",
    "Event",
    "Round",
    "TextEvent",
    "ThinkingEvent",
    "ToolCallEvent",
    "ToolCallResult",
    "ToolResultEvent",
    "added",
]


class ToolCallResult(Struct, frozen=True, kw_only=True):
    """The result of one tool call."""

    call: ToolCall
    """The call, with the arguments that the tool got, or would have got."""
    outcome: ToolOutcome
    text: str
    """The text for the model: the result, or an error message."""
    value: Any = None
    """The return value of the tool."""
    error: BaseException | None = None
    """The exception that the tool raised."""
    is_cut: bool = False
    """Whether the text is cut; it then ends with a mark."""
    duration: float = 0.0
    """Seconds, including the wait for `before_tool` and for a free worker."""


class Round(Struct, frozen=True, kw_only=True):
    """One call of the model, and the tool calls that it asked for."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    is_recovered: bool = False
    """Whether the tool calls were found in the text, as the server did not recognize them."""
    results: tuple[ToolCallResult, ...] = ()
    """In the order of `tool_calls`; empty if the run ended earlier."""
    done: bool = False
    """Whether the server sent the final message."""
    done_reason: str | None = None
    """Why generation ended, as the server says."""
    input_tokens: int | None = None
    """Tokens of the prompt; None if the server did not report them."""
    output_tokens: int | None = None
    """Tokens generated; None if the server did not report them."""


class AgentRun(Struct, frozen=True, kw_only=True):
    """A run that has ended, or its state so far."""

    ending: RunEnding | None = None
    """None while the run goes on."""
    text: str = ""
    """The answer; the text of the last round if the run ended without an answer."""
    rounds: tuple[Round, ...] = ()
    history: tuple[ollama.Message, ...] = ()
    """The conversation without the system message; pass it as `history` to continue."""
    thinking_length: int = 0
    """Characters of thinking that were left out of the history."""
    duration: float = 0.0
    """Seconds."""

    @property
    def tool_results(self) -> tuple[ToolCallResult, ...]:
        """The results of all rounds."""
        return tuple(result for each in self.rounds for result in each.results)

    @property
    def deferred(self) -> tuple[ToolCall, ...]:
        """The tool calls that wait for a result; see `tool_message`."""
        return tuple(each.call for each in self.tool_results if each.outcome == "deferred")

    @property
    def input_tokens(self) -> int | None:
        """Sum over all rounds; None if the server did not report it for each of them."""
        return added(each.input_tokens for each in self.rounds)

    @property
    def output_tokens(self) -> int | None:
        """Sum over all rounds; None if the server did not report it for each of them."""
        return added(each.output_tokens for each in self.rounds)


def added(counts: Any) -> int | None:
    """Return the sum of counts; None if there are none, or one is unknown."""
    known = list(counts)
    return None if not known or None in known else sum(known)


class AgentRunError(AgentError):
    """A run ended without an answer; the message contains no text of the model or of a tool."""

    def __init__(self, message: str, run: AgentRun) -> None:
        super().__init__(message)
        self.run = run
        """The whole run; `run.ending` says why it ended."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.run)


# --- events -------------------------------------------------------------------------------


class TextEvent(Struct, frozen=True):
    """A piece of the answer."""

    text: str


class ThinkingEvent(Struct, frozen=True):
    """A piece of the model's thinking."""

    text: str


class ToolCallEvent(Struct, frozen=True):
    """The model requests a tool call."""

    call: ToolCall


class ToolResultEvent(Struct, frozen=True):
    """A tool call has ended."""

    result: ToolCallResult


class EndEvent(Struct, frozen=True):
    """The run has ended without an error; the last event."""

    run: AgentRun


Event: TypeAlias = TextEvent | ThinkingEvent | ToolCallEvent | ToolResultEvent | EndEvent
"""What the stream of a run yields."""

# --- decisions of `before_tool` -----------------------------------------------------------


class Allow(Struct, frozen=True):
    """Make the tool call, with these arguments if given."""

    arguments: Mapping[str, Any] | None = None


class Deny(Struct, frozen=True):
    """Do not make the tool call; the model gets the reason."""

    reason: str = "The user does not allow this call."


class Defer(Struct, frozen=True):
    """Do not make the tool call now: the run ends as `deferred`."""


Decision: TypeAlias = Allow | Deny | Defer
"""What `before_tool` returns for a tool call."""
