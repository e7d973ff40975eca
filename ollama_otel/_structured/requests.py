"""The requests to the model: the caller's first, then repeated ones with the validation errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ollama import Message

from ollama_otel._attempt import Attempt
from ollama_otel.errors import FormatError

__all__ = ["ChatInput", "PromptInput", "RequestInput"]

_SCHEMA = "Answer with JSON that matches this JSON schema, and nothing else:"
_AGAIN = "Your answer does not match the JSON schema:"
_CORRECT = "Answer again: the whole corrected JSON, and nothing else."


class RequestInput(Protocol):
    """The input of a request, and how it changes."""

    call: str
    """The operation of its calls, by the GenAI conventions."""

    def first(self, schema: Mapping[str, Any] | None) -> Any:
        """Return the input of the first call; with a schema, that is in the text too."""
        ...

    def again(self, schema: Mapping[str, Any] | None, attempt: Attempt) -> Any:
        """Return the input of a further call: the first input, the last answer, and its errors."""
        ...


class ChatInput:
    """Messages."""

    call = "chat"

    def __init__(self, messages: Sequence[Mapping[str, Any] | Message] | None) -> None:
        """Raises `FormatError` if there is no message: that would only load the model."""
        self._messages = list(messages or ())
        if not self._messages:
            raise FormatError(
                "a typed answer needs messages: without any, a call only loads the model"
            )

    def first(self, schema: Mapping[str, Any] | None) -> list[Mapping[str, Any] | Message]:
        if schema is None:
            return self._messages
        return [*self._messages, _from_user(_schema_text(schema))]

    def again(
        self, schema: Mapping[str, Any] | None, attempt: Attempt
    ) -> list[Mapping[str, Any] | Message]:
        answer = [Message(role="assistant", content=attempt.text)] if attempt.text else []
        return [*self._messages, *answer, _from_user(_complaint(schema, attempt))]


class PromptInput:
    """A prompt."""

    call = "text_completion"

    def __init__(self, prompt: str | None) -> None:
        """Raises `FormatError` if there is no prompt: that would only load the model."""
        if not prompt:
            raise FormatError(
                "a typed answer needs a prompt: without one, a call only loads the model"
            )
        self._prompt = prompt

    def first(self, schema: Mapping[str, Any] | None) -> str:
        return self._prompt if schema is None else f"{self._prompt}\n\n{_schema_text(schema)}"

    def again(self, schema: Mapping[str, Any] | None, attempt: Attempt) -> str:
        return f"{self._prompt}\n\n{attempt.text}\n\n{_complaint(schema, attempt)}"


def _from_user(text: str) -> Message:
    return Message(role="user", content=text)


def _schema_text(schema: Mapping[str, Any]) -> str:
    return f"{_SCHEMA}\n{json.dumps(schema, ensure_ascii=False, separators=(',', ':'))}"


def _complaint(schema: Mapping[str, Any] | None, attempt: Attempt) -> str:
    lines = [_AGAIN, *(f"- {reason}" for reason in attempt.reasons), _CORRECT]
    if schema is not None:
        lines.append(_schema_text(schema))
    return "\n".join(lines)
