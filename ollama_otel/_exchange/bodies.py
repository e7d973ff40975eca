"""What watches a body go by, and says at its end what it held: one class for each kind of body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ollama_otel._exchange.body import Answer, AnswerText
from ollama_otel._exchange.document import Document
from ollama_otel._exchange.streams import CompletionStream, ProgressStream
from ollama_otel._wire.endpoints import Endpoint

__all__ = ["Answer", "AnswerText", "CompletionStream", "Document", "ProgressStream", "answer_for"]


def answer_for(
    endpoint: Endpoint,
    *,
    clock: Callable[[], float],
    status: int,
    is_stream: bool,
    watches_tools: bool,
    **options: Any,
) -> Answer:
    """Choose what watches a body, by what was asked and how the answer begins."""
    is_success = status < 300  # noqa: PLR2004 - HTTP's successes are the 200s
    if is_success and is_stream and endpoint.answer == "completion":
        return CompletionStream(clock, watches_tools=watches_tools, **options)
    if is_success and is_stream and endpoint.answer == "progress":
        return ProgressStream(clock, **options)
    return Document(endpoint, clock, is_success=is_success, **options)
