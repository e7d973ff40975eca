"""Writes captured content in the message format of the GenAI conventions, for spans and events.

The format is that of `gen_ai.input.messages` and its siblings, valid in both profiles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, assert_never

from ollama_otel import _names as names
from ollama_otel._bounds import cut
from ollama_otel._telemetry.attribute_limits import (
    Fitted,
    json_within,
    value_within,
    values_within,
)
from ollama_otel._telemetry.content import ContentPolicy
from ollama_otel._wire.dialect import ROLES
from ollama_otel._wire.failures import shortened
from ollama_otel.records import (
    CallRecord,
    Media,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolDefinition,
    ToolResult,
)
from ollama_otel.settings import Settings

__all__ = ["MessageWriter"]


class MessageWriter:
    """Writes the conversation and the answer: redacted, cut, and with hashes instead of media."""

    def __init__(self, settings: Settings) -> None:
        self._policy = ContentPolicy(
            finds_secrets=settings.content.redaction,
            redactors=settings.content.redactors,
            max_length=settings.content.max_length,
        )

    def as_values(self, record: CallRecord, limit: int | None = None) -> dict[str, Any]:
        """Return the messages as structured values, by attribute; empty ones are left out.

        No string in them is longer than `limit`.
        """
        return _fitted(self._written(record), lambda messages: values_within(messages, limit))

    def as_attributes(self, record: CallRecord, limit: int | None = None) -> dict[str, str | bool]:
        """Return the messages as span attributes: JSON of at most `limit` characters."""
        return _fitted(self._written(record), lambda messages: json_within(messages, limit))

    def error(self, record: CallRecord) -> str | None:
        """Return the text of the error: redacted, then cut to 1024 characters."""
        text = record.error_text
        return record.error_message if text is None else shortened(text, self._policy.apply)

    def texts(self, texts: Iterable[str]) -> list[str]:
        """Return texts of the caller, redacted and cut."""
        return [self._policy.apply(text) for text in texts]

    # --- tool calls that an agent makes -------------------------------------------------------

    def name(self, text: str) -> str:
        """Return the redacted name of a tool that does not exist, which is a text of the model."""
        return self._policy.apply(text)

    def description(self, text: str, limit: int | None) -> str:
        """Return a text, redacted and cut."""
        text = self._policy.apply(text)
        return text if limit is None else cut(text, limit)

    def arguments(self, arguments: Any, limit: int | None) -> str | None:
        """Return the arguments of a tool call as JSON; None if they do not fit."""
        return value_within(self._policy.values(arguments), limit)

    def result(self, text: str, limit: int | None) -> str | None:
        """Return the result of a tool call: JSON if it is an object, otherwise the text."""
        parsed = _json_object(text)
        if parsed is None:
            return self.description(text, limit)
        return value_within(self._policy.values(parsed), limit)

    def failure(self, text: str) -> str:
        """Return the error of a tool call: redacted, then cut to 1024 characters."""
        return shortened(text, self._policy.apply)

    # --- the parts of a record ----------------------------------------------------------------

    def _written(self, record: CallRecord) -> dict[str, Any]:
        start, answer = record.start, record.answer
        conversation = start.conversation
        if conversation is None or not start.is_inference:
            return {}
        offered = frozenset(tool.name for tool in conversation.tools)
        values: dict[str, Any] = {
            names.SYSTEM_INSTRUCTIONS: self._parts(conversation.system),
            names.INPUT_MESSAGES: [
                self._message(message, offered) for message in conversation.messages if message.role
            ],
            names.TOOL_DEFINITIONS: [self._definition(tool) for tool in conversation.tools],
        }
        if answer is not None:
            values[names.OUTPUT_MESSAGES] = self._output(answer, record.finish_reason, offered)
            if answer.is_cut:
                values[names.CONTENT_IS_CUT] = True
        return {name: value for name, value in values.items() if value}

    def _message(self, message: Message, offered: Container[str]) -> dict[str, Any]:
        # A role may be any text, like the names of tools.
        role = self._policy.cut if message.role in ROLES else self._policy.apply
        return {
            "role": role(message.role),
            "parts": self._parts(message.parts, offered),
        }

    def _output(
        self, answer: Message, finish_reason: str | None, offered: Container[str]
    ) -> list[dict[str, Any]]:
        """Return the answer as a list of one message; empty if there is no answer yet.

        Without a finish reason it is `error`, as the conventions say: profile v1.41 requires one.
        """
        if not answer.parts and finish_reason is None:
            return []
        return [{**self._message(answer, offered), "finish_reason": finish_reason or "error"}]

    def _parts(self, parts: Iterable[Part], offered: Container[str] = ()) -> list[dict[str, Any]]:
        """Return parts; the name of a tool that is not among those `offered` is a model's text."""
        return [self._part(part, offered) for part in parts]

    def _part(self, part: Part, offered: Container[str]) -> dict[str, Any]:
        policy = self._policy
        match part:
            case Text():
                return {"type": "text", "content": policy.apply(part.text)}
            case Thinking():
                return {"type": "reasoning", "content": policy.apply(part.text)}
            case ToolCall():
                return {
                    "type": "tool_call",
                    "id": self._id(part.id),
                    "name": (policy.cut if part.name in offered else policy.apply)(part.name),
                    "arguments": policy.values(part.arguments),
                }
            case ToolResult():
                return self._tool_response(part)
            case Media():
                return dict(_file(part))
        assert_never(part)

    def _tool_response(self, result: ToolResult) -> dict[str, Any]:
        # Parsed before redaction, so that JSON escapes do not hide characters from a redactor.
        parsed, policy = _json_object(result.text), self._policy
        return {
            "type": "tool_call_response",
            "id": self._id(result.id),
            "response": policy.apply(result.text) if parsed is None else policy.values(parsed),
        }

    def _definition(self, tool: ToolDefinition) -> dict[str, Any]:
        policy = self._policy
        definition: dict[str, Any] = {"type": "function", "name": policy.cut(tool.name)}
        if tool.description:
            definition["description"] = policy.apply(tool.description)
        if tool.parameters is not None:
            definition["parameters"] = policy.values(tool.parameters)
        return definition

    def _id(self, value: str | None) -> str | None:
        return None if value is None else self._policy.cut(value)


def _fitted(
    values: Mapping[str, Any], fit: Callable[[Sequence[Mapping[str, Any]]], Fitted]
) -> dict[str, Any]:
    """Fit each value into a limit, and mark whether messages are left out."""
    fitted: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, bool):
            fitted[name] = value
            continue
        fitting = fit(value)
        if fitting.value is not None:
            fitted[name] = fitting.value
        if not fitting.is_whole:
            fitted[names.CONTENT_IS_CUT] = True
    return fitted


def _file(media: Media) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a part for media, identified by hash.

    In the conventions `blob` requires the bytes and `uri` an address; `file` requires an id only,
    and allows further keys such as `size`.
    """
    yield "type", "file"
    yield "modality", media.modality
    yield "file_id", f"sha256:{media.sha256}"
    if media.mime_type is not None:
        yield "mime_type", media.mime_type
    yield "size", media.size


def _json_object(text: str) -> Mapping[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
