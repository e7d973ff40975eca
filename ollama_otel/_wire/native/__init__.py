"""Ollama's own API: NDJSON streams, and JSON documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from ollama_otel._wire.dialect import Dialect, Fields, MadeUp, Speech, VectorSpan, as_json
from ollama_otel._wire.lenient_json import parse_object
from ollama_otel._wire.native import request, response, serving
from ollama_otel._wire.native.images import without_images
from ollama_otel._wire.ndjson import NDJSON
from ollama_otel.records import Conversation, Endpoint, Message, RequestFacts, ResponseFacts

__all__ = ["NATIVE", "NativeDialect"]

_LARGE_REQUEST: Final = 64 * 1024
"""Bytes of a request from which images are left out before it is parsed."""

_SAID: Final = Fields(
    kinds={
        "content": "text",
        "response": "text",
        "thinking": "text",
        "logprobs": "repeat",
        "context": "repeat",
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
    response_fields: ClassVar[Fields] = Fields(kinds=_SAID.kinds, inner={"message": _SAID})
    request_media = frozenset({"images"})
    response_media = frozenset({"image", "images", "b64_json"})

    def parse_request(self, content: bytes) -> dict[str, Any] | None:
        """Return a request's JSON object; of a large one the images are left out."""
        return parse_object(without_images(content) if len(content) > _LARGE_REQUEST else content)

    def read_request(
        self, endpoint: Endpoint, body: Mapping[str, Any] | None, *, size: int | None
    ) -> RequestFacts:
        """Read the facts of a request."""
        return request.read_request(endpoint, body, size=size)

    def conversation(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Conversation:
        """Read what a request asks."""
        return request.read_conversation(endpoint, body)

    def canonical(self, endpoint: Endpoint | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request without what makes no difference to the server."""
        return request.canonical(endpoint, body)

    def is_silent(self, payload: bytes) -> bool:
        """Whether a line surely holds no answer, without parsing it."""
        return response.has_no_answer(payload)

    def has_tool_calls(self, data: bytes) -> bool:
        """Whether lines may hold tool calls, without parsing them."""
        return response.has_tool_calls(data)

    def speech(self, message: Mapping[str, Any]) -> Speech | None:
        """Say whether a line begins an answer or thinking."""
        if response.text_of(message) or response.tool_calls_of(message):
            return "answer"
        return "thinking" if response.answer_of(message).get("thinking") else None

    def read_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tool_messages: Sequence[Mapping[str, Any]],
        has_thinking: bool,
        has_end_mark: bool,  # noqa: ARG002 - the last line ends a stream
    ) -> ResponseFacts:
        """Read the last line, and those before it that may carry tool calls."""
        final = messages[-1] if messages else None
        return response.read_completion(final, tool_parts=tool_messages, has_thinking=has_thinking)

    def joined(self, messages: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Message | None:
        """Put together what the lines of a completion said."""
        return response.joined(messages, is_cut=is_cut)

    def read_document(self, endpoint: Endpoint, body: bytes) -> ResponseFacts:
        """Read the facts of a response in one piece."""
        return response.read_document(endpoint, body)

    def document_messages(self, body: bytes) -> list[dict[str, Any]]:
        """Return the one message of a completion in one piece."""
        return response.document_messages(body)

    def tally(self) -> response.Tally:
        """Return what adds up the bytes of a pull, push or create."""
        return response.Tally()

    def read_progress(self, last: Mapping[str, Any] | None) -> ResponseFacts:
        """Read the last status line of a pull, push or create."""
        return response.read_progress(last)

    def vectors(self, body: bytes) -> VectorSpan | None:
        """Return where vectors stand in the body of an embedding response."""
        return response.find_vectors(body)

    def error_body(self, text: str) -> bytes:
        """Return the body of a refusal."""
        return as_json({"error": text})

    def refusal(self, status: int, model: str | None) -> str | None:
        """Return the server's own words for an HTTP status."""
        return serving.refusal(status, model)

    def made_up(self, method: str, path: str, models: Sequence[str]) -> MadeUp | None:
        """Return the server's version, its list of models, or that it runs."""
        return serving.made_up(method, path, models)


NATIVE: Final = NativeDialect()
