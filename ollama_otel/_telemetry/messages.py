"""Captured content in the conventions' message format, for spans and events alike."""

from __future__ import annotations

from typing import Any

from ollama_otel import _content
from ollama_otel._content import ContentPolicy
from ollama_otel import _names as names
from ollama_otel.records import CallRecord
from ollama_otel.settings import Settings

__all__ = ["MessageWriter"]


class MessageWriter:
    """Writes what was asked and answered, redacted and cut, never images or vectors."""

    def __init__(self, settings: Settings) -> None:
        self._policy = ContentPolicy(
            redactors=settings.redactors, max_length=settings.content_max_length
        )

    def as_values(self, record: CallRecord) -> dict[str, Any]:
        """Return the messages as structured values, by attribute; empty ones are left out."""
        start, answer = record.start, record.answer
        operation, request = start.endpoint.genai_operation, start.request.body
        if operation is None or request is None or start.request.purpose != "call":
            return {}
        policy = self._policy
        values: dict[str, Any] = {
            names.SYSTEM_INSTRUCTIONS: _content.system_instructions(operation, request, policy),
            names.INPUT_MESSAGES: _content.input_messages(operation, request, policy),
            names.TOOL_DEFINITIONS: _content.tool_definitions(request, policy),
        }
        if answer is not None and operation != "embeddings":
            values[names.OUTPUT_MESSAGES] = _content.output_messages(
                role=answer.role,
                text=answer.text,
                thinking=answer.thinking,
                tool_calls=answer.tool_calls,
                finish_reason=record.finish_reason,
                policy=policy,
            )
            if answer.is_cut:
                values[names.CONTENT_IS_CUT] = True
        return {name: value for name, value in values.items() if value}

    def as_attributes(self, record: CallRecord) -> dict[str, str | bool]:
        """Return the messages as span attributes, which in Python are JSON texts."""
        return {
            name: value if isinstance(value, bool) else _content.as_json(value)
            for name, value in self.as_values(record).items()
        }
