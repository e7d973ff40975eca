"""Ollama's own API: NDJSON streams, and JSON documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from ollama_otel._wire.dialect import Dialect, Fields, as_json
from ollama_otel._wire.lenient_json import parse_object
from ollama_otel._wire.native import prompt, request, response, serving
from ollama_otel._wire.native.images import parse_without_images
from ollama_otel._wire.ndjson import NDJSON
from ollama_otel.records import ResponseFacts

__all__ = ["NATIVE", "NativeDialect"]

_LARGE_REQUEST: Final = 64 * 1024
"""Size in bytes above which images are removed before a request is parsed."""

_FIELDS: Final = Fields(
    kinds={
        "content": "text",
        "response": "text",
        "thinking": "text",
        "logprobs": "repeat",
        "context": "ids",
        "total_duration": "number",
        "load_duration": "number",
        "prompt_eval_duration": "number",
        "eval_duration": "number",
        "created_at": "time",
    }
)


class NativeDialect(Dialect):
    """Reads and writes the JSON of `/api/*`."""

    name = "native"
    framing = NDJSON
    setting_fields = re.compile(r"keep_alive$|options(?:\.[A-Za-z0-9_]+)?$")
    response_fields: ClassVar[Fields] = Fields(kinds=_FIELDS.kinds, inner={"message": _FIELDS})
    request_ids = frozenset({"context"})
    request_data = frozenset({"arguments", "tools", "format", "options"})
    request_media = frozenset({"images"})
    response_media = frozenset({"image", "images", "b64_json"})

    # Plain functions are used as methods: that saves a Python call each.
    read_request = staticmethod(request.read_request)
    conversation = staticmethod(request.read_conversation)
    prompt = staticmethod(prompt.read_prompt)
    canonical = staticmethod(request.canonical)
    is_silent = staticmethod(response.has_no_answer)
    has_tool_calls = staticmethod(response.has_tool_calls)
    speech = staticmethod(response.speech)
    joined = staticmethod(response.joined)
    read_document = staticmethod(response.read_document)
    document_messages = staticmethod(response.document_messages)
    tally = staticmethod(response.Tally)
    read_progress = staticmethod(response.read_progress)
    vectors = staticmethod(response.find_vectors)
    refusal = staticmethod(serving.refusal)
    made_up = staticmethod(serving.made_up)

    def parse_request(self, content: bytes) -> dict[str, Any] | None:
        """Return a request's JSON object; a large one without images or other long fields."""
        if len(content) <= _LARGE_REQUEST:
            return parse_object(content)
        return parse_without_images(content)

    def read_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tool_messages: Sequence[Mapping[str, Any]],
        has_thinking: bool,
        has_end_mark: bool,  # noqa: ARG002 - the last line ends a stream
    ) -> ResponseFacts:
        """Read the last line, and those before it that may hold tool calls."""
        final = messages[-1] if messages else None
        return response.read_completion(final, tool_parts=tool_messages, has_thinking=has_thinking)

    def error_body(self, text: str) -> bytes:
        return as_json({"error": text})


NATIVE: Final = NativeDialect()
