"""Responses of the native API: completions, embeddings, token usage and progress.

Durations are converted here from Ollama's nanoseconds to seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from ollama_otel._bounds import LONGEST_NAME, bounded_name, bounded_names
from ollama_otel._wire.dialect import ProgressTally, Speech, VectorSpan
from ollama_otel._wire.lenient_json import parse_message, parse_object
from ollama_otel._wire.native.request import tool_calls, tool_name
from ollama_otel.records import Endpoint, Message, Part, Progress, ResponseFacts, Text, Thinking

__all__ = [
    "Tally",
    "answer_of",
    "document_messages",
    "find_vectors",
    "has_no_answer",
    "has_tool_calls",
    "joined",
    "read_completion",
    "read_document",
    "read_progress",
    "speech",
    "text_of",
    "tool_calls_of",
]

_TOO_LARGE: Final = 2**63
_MOST_LAYERS: Final = 10_000
"""Layers of one model; real ones have about ten."""

# These bytes can only be a field: inside a JSON string quotes are escaped.
_EMPTY_CONTENT: Final = b'"content":""'
_EMPTY_RESPONSE: Final = b'"response":""'
_TOOL_CALLS: Final = b'"tool_calls"'

# An array of vectors holds only numbers, so it ends at any other character.
_VECTORS: Final = re.compile(rb'"(?:embeddings?)"\s*:\s*(\[[][0-9eE+\-.,\s]*(?:\]|\Z))')
_OMITTED: Final = re.compile(rb'"(?:embeddings?)"\s*:\s*(\{[^{}]*"count":\s*([0-9]{1,9})[^{}]*\})')


_Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
_Count = Annotated[int, Meta(ge=0, le=_TOO_LARGE - 1)]


class _Final(Struct, gc=False):
    """The facts in the last part of a completion, with the server's names; nanoseconds."""

    model: _Name | None = None
    remote_model: _Name | None = None
    remote_host: _Name | None = None
    done_reason: _Name | None = None
    prompt_eval_count: _Count | None = None
    eval_count: _Count | None = None
    total_duration: _Count | None = None
    load_duration: _Count | None = None
    prompt_eval_duration: _Count | None = None
    eval_duration: _Count | None = None


def _count(value: object) -> int | None:
    """Return a count; None if it is not a number of Go's 64 bits. JSON's true is not a number."""
    return value if type(value) is int and 0 <= value < _TOO_LARGE else None


def _text(value: object) -> str | None:
    return bounded_name(value) if isinstance(value, str) and value else None


# --- completions --------------------------------------------------------------------------


def has_no_answer(payload: bytes) -> bool:
    """Whether a line of a completion certainly holds no answer text, without parsing it."""
    return (_EMPTY_CONTENT in payload or _EMPTY_RESPONSE in payload) and _TOOL_CALLS not in payload


def has_tool_calls(data: bytes) -> bool:
    """Whether lines may hold tool calls, without parsing them."""
    return _TOOL_CALLS in data


def answer_of(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object with text, thinking and tool calls: `message` in a chat."""
    message = part.get("message")
    return message if isinstance(message, dict) else part


def text_of(part: Mapping[str, Any]) -> str:
    """Return the answer text in one part, without thinking."""
    answer = answer_of(part)
    text = answer.get("response" if answer is part else "content")
    return text if isinstance(text, str) else ""


def tool_calls_of(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tool calls in one part."""
    calls = answer_of(part).get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def speech(message: Mapping[str, Any]) -> tuple[Speech, ...]:
    """Return what a line holds; see `Dialect.speech`."""
    thinks = bool(answer_of(message).get("thinking"))
    if text_of(message) or tool_calls_of(message):
        return ("thinking", "answer") if thinks else ("answer",)
    return ("thinking",) if thinks else ()


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
    """Read the last part of a completion, and those before it that hold tool calls.

    The server sends counts, timings and `done_reason` only with `done: true`.
    """
    if final is None:
        return ResponseFacts(has_thinking=has_thinking)
    answer = answer_of(final)
    calls = [call for part in tool_parts for call in tool_calls_of(part)]
    if "tool_calls" in answer:
        calls += tool_calls_of(final)
    known = _known(final)
    total, load = known.total_duration, known.load_duration
    prompt, generation = known.prompt_eval_duration, known.eval_duration
    return ResponseFacts(
        model=known.model,
        remote_model=known.remote_model,
        remote_host=known.remote_host,
        done=final.get("done") is True,
        done_reason=known.done_reason,
        input_tokens=known.prompt_eval_count,
        output_tokens=known.eval_count,
        total_duration=None if total is None else total / 1e9,
        load_duration=None if load is None else load / 1e9,
        prompt_eval_duration=None if prompt is None else prompt / 1e9,
        eval_duration=None if generation is None else generation / 1e9,
        tool_calls=bounded_names([tool_name(call) for call in calls]) if calls else (),
        has_thinking=has_thinking or bool(answer.get("thinking")),
        error=_error_of(final) if "error" in final else None,
    )


def _known(final: Mapping[str, Any]) -> _Final:
    """Return the facts that have the right type."""
    try:
        return convert(final, _Final)
    except ValidationError:
        # One that has not is left out; a long name is cut.
        bounded = {
            name: bounded_name(value) if isinstance(value, str) else value
            for name, value in final.items()
            if name in _Final.__struct_fields__
        }
        return convert({k: v for k, v in bounded.items() if _is_valid(k, v)}, _Final)


def _is_valid(name: str, value: object) -> bool:
    try:
        convert({name: value}, _Final)
    except ValidationError:
        return False
    return True


def joined(messages: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Message:
    """Join the parts of a completion; their texts are fragments."""
    answers = [answer_of(part) for part in messages]
    thinking = "".join(each for a in answers if isinstance(each := a.get("thinking"), str))
    text = "".join(map(text_of, messages))
    parts: tuple[Part, ...] = (
        *([Thinking(thinking)] if thinking else []),
        *([Text(text)] if text else []),
        *(call for a in answers if "tool_calls" in a for call in tool_calls(a["tool_calls"])),
    )
    role = next((a["role"] for a in answers if isinstance(a.get("role"), str)), "assistant")
    return Message(role=role, parts=parts, is_cut=is_cut)


def document_messages(body: bytes) -> list[dict[str, Any]]:
    """Return the part of a completion that is one document."""
    whole = parse_object(body) or _last_line(body)
    return [] if whole is None else [whole]


def _last_line(body: bytes) -> dict[str, Any] | None:
    """Return the last line of a stream that is labelled `application/json`."""
    lines = body.rstrip().rsplit(b"\n", 1)
    return parse_message(lines[1]) if len(lines) > 1 else None


# --- documents ----------------------------------------------------------------------------


def read_document(endpoint: Endpoint, body: bytes) -> ResponseFacts:
    """Read a response that is one document."""
    match endpoint.response:
        case "completion":
            parts = document_messages(body)
            return read_completion(parts[0] if parts else None)
        case "embedding":
            return _read_embedding(body)
        case "usage":
            return _read_usage(body)
        case "progress":
            return read_progress(parse_object(body) or _last_line(body))
        case "opaque":
            # It has no facts.
            return ResponseFacts(done=True)


def _read_embedding(document: bytes) -> ResponseFacts:
    """Read the counts beside the vectors; `/api/embeddings` has none."""
    start, end = document.find(b"["), document.rfind(b"]")
    if 0 <= start < end:
        # The vectors are nearly all of the body, and are not parsed.
        document = document[: start + 1] + document[end:]
    answer = parse_object(document)
    if answer is None:
        return ResponseFacts()
    return replace(read_completion(answer), done="embeddings" in answer or "embedding" in answer)


def _read_usage(document: bytes) -> ResponseFacts:
    """Read a response with a `usage` object."""
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


def find_vectors(body: bytes) -> VectorSpan | None:
    """Return the position of the vectors in an embedding response, or that of a log's mark."""
    found = _VECTORS.search(body)
    if found is not None and any(map(found[1].__contains__, b"0123456789")):
        # A flat array is one vector.
        count = max(1, found[1].count(b"[") - 1)
        dimensions = (found[1].count(b",") + 1) // count
        return VectorSpan(
            start=found.start(1), end=found.end(1), count=count, dimensions=dimensions
        )
    if (mark := _OMITTED.search(body)) is not None:
        return VectorSpan(start=mark.start(1), end=mark.end(1), count=int(mark[2]), is_omitted=True)
    return None


# --- progress -----------------------------------------------------------------------------


def read_progress(last: Mapping[str, Any] | None) -> ResponseFacts:
    """Read the last status line of a pull, push or create; the final status is `success`."""
    if last is None:
        return ResponseFacts()
    return ResponseFacts(done=last.get("status") == "success", error=_error_of(last))


class Tally(ProgressTally):
    """Adds up the byte counts of a pull, push or create, layer by layer."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._completed: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._is_complete = True
        """Whether every layer is among those that are kept."""
        self._started_at: float | None = None
        self._updated_at: float | None = None

    def add(self, message: Mapping[str, Any], now: float) -> None:
        """Add one status line that arrived at clock reading `now`, in seconds."""
        digest, total = message.get("digest"), _count(message.get("total"))
        if not isinstance(digest, str) or total is None:
            return
        if len(digest) > LONGEST_NAME or (
            digest not in self._total and len(self._total) >= _MOST_LAYERS
        ):
            self._is_complete = False
            return
        # The server omits zeros.
        completed = _count(message.get("completed")) or 0
        if self._started_at is None:
            self._started_at = now
        self._total[digest] = total
        if digest not in self._first:
            self._first[digest] = completed
        if completed > self._completed.get(digest, -1):
            self._completed[digest] = completed
            self._updated_at = now

    def total(self) -> Progress:
        """Return the sum over all layers; nothing if not all are known."""
        if not self._is_complete or self._started_at is None or self._updated_at is None:
            return Progress()
        return Progress(
            total_bytes=sum(self._total.values()),
            moved_bytes=sum(self._completed.values()) - sum(self._first.values()),
            moving_time=self._updated_at - self._started_at,
        )
