"""The run of an agent as a state machine without I/O: history, rounds, and the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import ollama
from msgspec import Struct
from msgspec.structs import replace

from ollama_otel._agent.chat import Answer, assistant_message, tool_message
from ollama_otel._agent.leaks import find_leak
from ollama_otel._agent.values import Round, ToolCallResult
from ollama_otel._exchange.agent_runs import RunEnding, ToolOutcome
from ollama_otel.records import ToolCall

__all__ = ["Ask", "AtLimit", "Call", "End", "Limits", "Machine", "OnError", "OnLeak", "Step"]

AtLimit = Literal["raise", "answer"]
"""What an agent does at a limit.

`raise`: it raises `AgentRunError`. `answer`: it asks the model for a last answer, without tools.
"""
OnError = Literal["tell", "raise"]
"""What an agent does about a tool call that fails.

`tell`: the model gets the error as the result. `raise`: the agent raises `AgentRunError`.
"""
OnLeak = Literal["raise", "recover"]
"""What an agent does if the text of an answer is a tool call that the server did not recognize.

`raise`: it raises `AgentRunError`. `recover`: it makes the tool call and goes on.
"""

_BAD: dict[ToolOutcome, RunEnding] = {
    "unknown_tool": "unknown_tool",
    "invalid_arguments": "invalid_arguments",
}
_FAILED: dict[ToolOutcome, RunEnding] = {"failed": "tool_failed", "timed_out": "tool_timed_out"}


class Limits(Struct, frozen=True, kw_only=True):
    """The settings that a run's decisions depend on."""

    tools: tuple[str, ...] = ()
    has_format: bool = False
    max_rounds: int = 10
    max_tool_calls: int = 100
    at_limit: AtLimit = "raise"
    on_bad_call: OnError = "tell"
    on_tool_error: OnError = "tell"
    on_leaked_call: OnLeak = "raise"
    keeps_thinking: bool = False


class Ask(Struct, frozen=True, kw_only=True):
    """Call the model, with tools or with the format, never with both."""

    with_tools: bool
    with_format: bool


class Call(Struct, frozen=True, kw_only=True):
    """Make these tool calls; those after the first `allowed` are over the limit."""

    calls: tuple[ToolCall, ...]
    allowed: int


class End(Struct, frozen=True, kw_only=True):
    """The run has ended."""

    ending: RunEnding
    is_answer: bool = False
    """Whether the last text answers the caller; otherwise the end is an error, except
    `deferred`.
    """


Step: TypeAlias = Ask | Call | End


class Machine:
    """Each method takes an event and returns the next step.

    A run makes at most `max_rounds` calls of the model. If there are tools and a format, or a last
    answer at the limit, the last of them is without tools.
    """

    def __init__(self, limits: Limits, history: Sequence[ollama.Message]) -> None:
        self.history = list(history)
        self.rounds: list[Round] = []
        self.thinking_length = 0
        self._limits = limits
        self._calls_made = 0
        self._closed_by: RunEnding | None = None
        """The reached limit, after which the model gets no tools."""
        self._is_formatting = limits.has_format and not limits.tools

    def begin(self) -> Step:
        return self._ask()

    def heard(self, answer: Answer) -> Step:
        """Take an answer of the model."""
        had_tools = self._offers_tools
        calls, is_recovered, is_leaked = self._calls_of(answer)
        self.rounds.append(
            Round(
                text=answer.text,
                thinking=answer.thinking,
                tool_calls=calls,
                is_recovered=is_recovered,
                done=answer.done,
                done_reason=answer.done_reason,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
            )
        )
        if not self._limits.keeps_thinking:
            self.thinking_length += len(answer.thinking)
        if not answer.done:
            return End(ending="incomplete_answer")
        if answer.done_reason == "length":
            return End(ending="cut_answer")
        if is_leaked:
            return End(ending=self._closed_by or "leaked_tool_call")
        if calls:
            return self._asked_for(answer, calls, is_recovered=is_recovered)
        if had_tools and self._limits.has_format:
            self._is_formatting = True
            return self._ask()
        if not answer.text.strip():
            return End(ending="empty_answer")
        self._keep(answer, ())
        return End(ending=self._closed_by or "answered", is_answer=True)

    def called(self, results: Sequence[ToolCallResult]) -> Step:
        """Take the results of the last `Call`, in its order."""
        self.rounds[-1] = replace(self.rounds[-1], results=tuple(results))
        outcomes = [each.outcome for each in results]
        self._calls_made += len(results)
        self.history += [
            tool_message(each.call, each.text) for each in results if each.outcome != "deferred"
        ]
        limits = self._limits
        raised = (_BAD if limits.on_bad_call == "raise" else {}) | (
            _FAILED if limits.on_tool_error == "raise" else {}
        )
        for outcome in outcomes:
            if outcome in raised:
                return End(ending=raised[outcome])
        if "deferred" in outcomes:
            return End(ending="deferred")
        if "over_limit" in outcomes:
            if limits.at_limit == "raise":
                return End(ending="max_tool_calls")
            self._closed_by = "max_tool_calls"
        return self._ask()

    # --- decisions ------------------------------------------------------------------------

    @property
    def _offers_tools(self) -> bool:
        return bool(self._limits.tools) and not self._is_formatting and self._closed_by is None

    def _ask(self) -> Step:
        is_last = not self._offers_tools
        return Ask(with_tools=not is_last, with_format=is_last and self._limits.has_format)

    def _calls_of(self, answer: Answer) -> tuple[tuple[ToolCall, ...], bool, bool]:
        """Return the tool calls, and whether they were recovered from the text, or leaked."""
        if answer.tool_calls or self._is_formatting:
            return answer.tool_calls, False, False
        leak = find_leak(answer.text, self._limits.tools)
        if leak is None:
            return (), False, False
        if leak.calls and self._offers_tools and self._limits.on_leaked_call == "recover":
            return leak.calls, True, False
        return (), False, True

    def _asked_for(
        self, answer: Answer, calls: tuple[ToolCall, ...], *, is_recovered: bool
    ) -> Step:
        limits = self._limits
        if limits.tools and not self._offers_tools:
            # The model had no tools in this round, but called some.
            return End(ending=self._closed_by or "max_rounds")
        left = limits.max_rounds - len(self.rounds)
        if limits.at_limit == "answer" and left == 1:
            self._closed_by = "max_rounds"
        elif left - limits.has_format < 1:
            return End(ending="max_rounds")
        self._keep(answer, calls, text="" if is_recovered else answer.text)
        return Call(calls=calls, allowed=max(0, limits.max_tool_calls - self._calls_made))

    def _keep(self, answer: Answer, calls: Sequence[ToolCall], text: str | None = None) -> None:
        """Add an answer to the history."""
        self.history.append(
            assistant_message(
                answer,
                calls,
                text=answer.text if text is None else text,
                keeps_thinking=self._limits.keeps_thinking,
            )
        )
