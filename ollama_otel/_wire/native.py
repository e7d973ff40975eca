"""Turns the native API's requests and answers into facts; knows their fields, not who asks.

Units leave here as SI: Ollama's nanoseconds are divided once, in `_seconds`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic_core import from_json

from ollama_otel._wire.endpoints import Endpoint
from ollama_otel._wire.frozen import frozen

__all__ = [
    "Progress",
    "RequestFacts",
    "ResponseFacts",
    "answer_of",
    "cut_out_vectors",
    "has_no_answer",
    "has_tool_calls",
    "parse_object",
    "read_completion",
    "read_embedding",
    "read_progress",
    "read_request",
    "read_usage",
    "text_of",
    "tool_calls_of",
]

Purpose = Literal["call", "load", "unload"]

_NO_OPTIONS: Mapping[str, Any] = {}

_TOO_LARGE = 2**63

# These bytes can only be a field of the answer: inside a JSON string quotes are escaped.
_EMPTY_CONTENT = b'"content":""'
_EMPTY_RESPONSE = b'"response":""'
_TOOL_CALLS = b'"tool_calls"'


@frozen
class RequestFacts:
    """What was asked, as sent: None and empty mean not sent."""

    model: str | None = None
    stream: bool = False
    purpose: Purpose = "call"
    """`load` and `unload` are requests with an empty input, which only move the model."""
    options: Mapping[str, Any] = field(default_factory=dict)
    think: bool | str | None = None
    keep_alive: str | None = None
    asks_for_json: bool = False
    raw: bool | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    input_count: int | None = None
    """Messages of a chat, texts of an embedding request."""
    image_count: int = 0
    tools: tuple[str, ...] = ()
    """Names of the tools offered."""
    size: int | None = None
    """Bytes of the request's body."""
    body: Mapping[str, Any] | None = None
    """The whole request, kept only while content is captured."""


@frozen
class ResponseFacts:
    """What the server said of the call; None means that it did not say."""

    model: str | None = None
    remote_model: str | None = None
    remote_host: str | None = None
    done: bool = False
    """Whether the final message of the dialect was seen."""
    done_reason: str | None = None
    input_tokens: int | None = None
    """`prompt_eval_count`: since 0.30.1 with the cached ones, after any truncation."""
    output_tokens: int | None = None
    """`eval_count`: thinking and tool calls included."""
    total_duration: float | None = None
    """Seconds in the server, from the handler's entry to the last token."""
    load_duration: float | None = None
    """Seconds until a runner was ready: reading the body, scheduler queue, eviction and load."""
    prompt_eval_duration: float | None = None
    """Seconds spent on the part of the prompt that was not cached."""
    eval_duration: float | None = None
    """Seconds of generation."""
    tool_calls: tuple[str, ...] = ()
    """Names of the tools that the model called, in order."""
    has_thinking: bool = False
    error: str | None = None
    """The text of an `error` field in an answer whose HTTP status was good."""


def _count(value: object) -> int | None:
    """A number of things, or None; JSON's true is no number, and Go's have 64 bits."""
    return value if type(value) is int and 0 <= value < _TOO_LARGE else None


def _seconds(value: object) -> float | None:
    """Ollama's nanoseconds as seconds."""
    return value / 1e9 if type(value) is int and 0 <= value < _TOO_LARGE else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def parse_object(document: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `document`, or None if it holds anything else."""
    try:
        value = from_json(document)
    except ValueError:
        # Python's own reader is laxer (lone surrogates, other Unicode encodings), and slower.
        try:
            value = json.loads(document)
            # No exporter can encode half a surrogate pair.
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


# --- requests -----------------------------------------------------------------------------


def _is_zero(keep_alive: object) -> bool:
    """Whether the server reads this as a duration of zero (a number, or Go's "0", "0s", "0m")."""
    if isinstance(keep_alive, str):
        digits = keep_alive.strip("+-hmsuµn. ")
        return digits != "" and set(digits) <= set("0hmsuµn.")
    return type(keep_alive) in {int, float} and keep_alive == 0


def _keep_alive(value: object) -> str | None:
    """As it was sent, where the server reads it: a text or a number of seconds."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return str(value) if abs(value) < _TOO_LARGE else None


def _purpose(endpoint: Endpoint, body: Mapping[str, Any]) -> Purpose:
    if endpoint.input_field is None or body.get(endpoint.input_field):
        return "call"
    if endpoint.can_unload and _is_zero(body.get("keep_alive")):
        return "unload"
    return "load"


def _tool_name(tool: object) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def _length(value: object) -> int:
    return len(value) if isinstance(value, (list, tuple)) else 0


def read_request(
    endpoint: Endpoint,
    body: Mapping[str, Any] | None,
    *,
    size: int | None = None,
    keep_body: bool = False,
) -> RequestFacts:
    """Read the facts of a request; a body of None is one that could not be read."""
    if body is None:
        return RequestFacts(stream=bool(endpoint.streams_by_default), size=size)
    get = body.get
    stream = get("stream")
    if not isinstance(stream, bool):
        stream = bool(endpoint.streams_by_default)
    think = get("think")
    options = get("options")
    tools = get("tools")
    messages = get("messages")
    image_count = _length(get("images"))
    if isinstance(messages, (list, tuple)):
        input_count: int | None = len(messages)
        for message in messages:
            if isinstance(message, dict) and "images" in message:
                image_count += _length(message["images"])
    elif endpoint.answer == "embedding":
        inputs = get(endpoint.input_field or "")
        input_count = len(inputs) if isinstance(inputs, (list, tuple)) else int(bool(inputs))
    else:
        input_count = None
    raw, truncate = get("raw"), get("truncate")
    return RequestFacts(
        model=_text(get("model")) or _text(get("name")) or _text(get("source")),
        stream=stream and endpoint.streams_by_default is not None,
        purpose=_purpose(endpoint, body),
        options=options if isinstance(options, dict) else _NO_OPTIONS,
        think=think if isinstance(think, (bool, str)) else None,
        keep_alive=_keep_alive(get("keep_alive")),
        asks_for_json=bool(get("format")),
        raw=raw if isinstance(raw, bool) else None,
        truncate=truncate if isinstance(truncate, bool) else None,
        dimensions=_count(get("dimensions")) or None,
        input_count=input_count,
        image_count=image_count,
        tools=tuple(map(_tool_name, tools)) if isinstance(tools, (list, tuple)) else (),
        size=size,
        body=body if keep_body else None,
    )


# --- answers ------------------------------------------------------------------------------


def has_no_answer(part: bytes) -> bool:
    """Whether a part of a completion surely holds no answer text, told without parsing it."""
    return (_EMPTY_CONTENT in part or _EMPTY_RESPONSE in part) and _TOOL_CALLS not in part


def has_tool_calls(part: bytes) -> bool:
    """Whether a part may carry tool calls, told without parsing it."""
    return _TOOL_CALLS in part


def answer_of(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a part carries its text, thinking and tool calls: `message` in a chat."""
    message = part.get("message")
    return message if isinstance(message, dict) else part


def text_of(part: Mapping[str, Any]) -> str:
    """The answer text in one part, thinking apart."""
    answer = answer_of(part)
    text = answer.get("response" if answer is part else "content")
    return text if isinstance(text, str) else ""


def tool_calls_of(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tool calls in one part."""
    calls = answer_of(part).get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _error_of(part: Mapping[str, Any]) -> str | None:
    error = part.get("error")
    if not error:
        return None
    return error if isinstance(error, str) else json.dumps(error)


def read_completion(
    final: Mapping[str, Any] | None,
    *,
    tool_parts: Iterable[Mapping[str, Any]] = (),
    has_thinking: bool = False,
) -> ResponseFacts:
    """Read the last part of a completion, and those before it that carried tool calls.

    The server sends counts, timings and `done_reason` only with `done: true`.
    """
    if final is None:
        return ResponseFacts(has_thinking=has_thinking)
    get = final.get
    answer = answer_of(final)
    calls = [call for part in tool_parts for call in tool_calls_of(part)]
    if "tool_calls" in answer:
        calls += tool_calls_of(final)
    return ResponseFacts(
        model=_text(get("model")),
        remote_model=_text(get("remote_model")),
        remote_host=_text(get("remote_host")),
        done=get("done") is True,
        done_reason=_text(get("done_reason")),
        input_tokens=_count(get("prompt_eval_count")),
        output_tokens=_count(get("eval_count")),
        total_duration=_seconds(get("total_duration")),
        load_duration=_seconds(get("load_duration")),
        prompt_eval_duration=_seconds(get("prompt_eval_duration")),
        eval_duration=_seconds(get("eval_duration")),
        tool_calls=tuple(map(_tool_name, calls)) if calls else (),
        has_thinking=has_thinking or bool(answer.get("thinking")),
        error=_error_of(final),
    )


def cut_out_vectors(document: bytes) -> bytes:
    """Replace the vectors of an embedding answer by `[]`: they are long, and not for us."""
    start = document.find(b"[")
    end = document.rfind(b"]")
    return document if start < 0 or end < start else document[: start + 1] + document[end:]


def read_embedding(document: bytes) -> ResponseFacts:
    """Read the counts around the vectors; `/api/embeddings` has none."""
    answer = parse_object(cut_out_vectors(document))
    if answer is None:
        return ResponseFacts()
    return replace(
        read_completion(answer),
        done="embeddings" in answer or "embedding" in answer,
    )


def read_usage(document: bytes) -> ResponseFacts:
    """Read an answer that carries a `usage` object."""
    answer = parse_object(document)
    if answer is None:
        return ResponseFacts()
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ResponseFacts(
        model=_text(answer.get("model")),
        done="usage" in answer,
        input_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        error=_error_of(answer),
    )


def read_progress(last: Mapping[str, Any] | None) -> ResponseFacts:
    """Read the last status line of a pull, push or create; the final one says `success`."""
    if last is None:
        return ResponseFacts()
    return ResponseFacts(done=last.get("status") == "success", error=_error_of(last))


@dataclass(slots=True)
class Progress:
    """How far a pull, push or create has come, summed over its layers."""

    first: dict[str, int] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    started_at: float | None = None
    """Clock reading at the first line that counts bytes."""
    updated_at: float | None = None
    """Clock reading at the latest line whose count had grown."""

    def read(self, part: Mapping[str, Any], now: float) -> None:
        """Take in one status line that came at clock reading `now`."""
        digest, total = part.get("digest"), _count(part.get("total"))
        if not isinstance(digest, str) or total is None:
            return
        # The server leaves a zero out.
        completed = _count(part.get("completed")) or 0
        if self.started_at is None:
            self.started_at = now
        self.total[digest] = total
        if digest not in self.first:
            self.first[digest] = completed
        if completed > self.completed.get(digest, -1):
            self.completed[digest] = completed
            self.updated_at = now

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all layers, those already there included; None before the first layer."""
        return sum(self.total.values()) if self.total else None

    @property
    def moved_bytes(self) -> int | None:
        """Bytes moved during this call, those there at its start left out."""
        if not self.total:
            return None
        return sum(self.completed.values()) - sum(self.first.values())

    @property
    def rate(self) -> float | None:
        """Bytes per second while bytes were moving, None where none were."""
        if self.started_at is None or self.updated_at is None or not self.moved_bytes:
            return None
        seconds = self.updated_at - self.started_at
        return self.moved_bytes / seconds if seconds > 0 else None
