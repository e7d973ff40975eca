"""Requests and answers of `/api/chat`, with the ids of tool calls.

The official types drop these ids. The classes here keep them, and go through the same client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import ollama
from msgspec import Struct
from pydantic import BaseModel

from ollama_otel._agent.results import clean, cleaned
from ollama_otel._agent.values import Event, TextEvent, ThinkingEvent
from ollama_otel.records import ToolCall

__all__ = [
    "Answer",
    "AnswerReader",
    "ChatBody",
    "ChatPart",
    "as_message",
    "assistant_message",
    "tool_message",
    "user_message",
]


class _CallWithId(ollama.Message.ToolCall):
    id: str | None = None


class _MessageWithIds(ollama.Message):
    tool_calls: Sequence[_CallWithId] | None = None
    tool_call_id: str | None = None


class ChatPart(ollama.ChatResponse):
    """A part of a streamed answer, or a whole answer."""

    message: _MessageWithIds


class ChatBody(BaseModel):
    """The body of a request."""

    model: str
    messages: list[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    stream: bool
    think: bool | str | None = None
    format: Mapping[str, Any] | str | None = None
    options: Mapping[str, Any] | None = None
    keep_alive: float | str | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer of the model."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    done: bool = True
    done_reason: str | None = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None


class AnswerReader:
    """Joins the parts of an answer."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []
        self._last: ChatPart | None = None

    def heard(self, part: ChatPart) -> Iterator[Event]:
        """Take a part, and return the events of its text."""
        self._last = part
        message = part.message
        if message.thinking:
            self._thinking.append(clean(message.thinking))
            yield ThinkingEvent(message.thinking)
        if message.content:
            self._text.append(clean(message.content))
            yield TextEvent(message.content)
        self._calls += [
            ToolCall(
                name=clean(each.function.name),
                arguments=cleaned(each.function.arguments),
                id=None if each.id is None else clean(each.id),
            )
            for each in message.tool_calls or ()
        ]

    def answer(self) -> Answer:
        """Return the answer so far."""
        last = self._last
        return Answer(
            text="".join(self._text),
            thinking="".join(self._thinking),
            tool_calls=tuple(self._calls),
            done=bool(last and last.done),
            done_reason=last.done_reason if last else None,
            input_tokens=last.prompt_eval_count if last else None,
            output_tokens=last.eval_count if last else None,
        )


def as_message(given: ollama.Message | Mapping[str, Any]) -> ollama.Message:
    """Return a message of a history, with its ids."""
    if isinstance(given, ollama.Message):
        return given
    return _MessageWithIds.model_validate(given)


def user_message(prompt: str) -> ollama.Message:
    return ollama.Message(role="user", content=clean(prompt))


def assistant_message(
    answer: Answer, calls: Sequence[ToolCall], *, text: str, keeps_thinking: bool
) -> ollama.Message:
    """Return the model's message for the history."""
    return _MessageWithIds(
        role="assistant",
        content=text,
        thinking=answer.thinking if keeps_thinking and answer.thinking else None,
        tool_calls=[
            _CallWithId(
                id=call.id,
                function=_CallWithId.Function(name=call.name, arguments=call.arguments),
            )
            for call in calls
        ]
        or None,
    )


def tool_message(call: ToolCall, text: str) -> ollama.Message:
    """Return the message with the result of a tool call for the model, such as a deferred one.

    It names the tool call by name and, if the server gave one, by id.
    """
    return _MessageWithIds(
        role="tool", content=clean(text), tool_name=call.name, tool_call_id=call.id
    )


Format = Mapping[str, Any] | Literal["", "json"]
