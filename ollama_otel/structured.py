"""Structured output: results and errors of calls with a type as `format`."""

from __future__ import annotations

from ollama_otel._attempt import Attempt, StructuredOutcome
from ollama_otel._structured.calls import ChatOptions, GenerateOptions
from ollama_otel._structured.output_type import Format
from ollama_otel._structured.responses import (
    ChatPart,
    GeneratePart,
    ParsedChatResponse,
    ParsedGenerateResponse,
)
from ollama_otel.errors import FormatError, OutputMismatchError, StructuredOutputError

__all__ = [
    "Attempt",
    "ChatOptions",
    "ChatPart",
    "Format",
    "FormatError",
    "GenerateOptions",
    "GeneratePart",
    "OutputMismatchError",
    "ParsedChatResponse",
    "ParsedGenerateResponse",
    "StructuredOutcome",
    "StructuredOutputError",
]
