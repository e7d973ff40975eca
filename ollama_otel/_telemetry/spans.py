"""Turns calls into spans; `SpanTracing` owns the current context and the outgoing headers."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from threading import get_ident
from typing import Any

from opentelemetry import baggage, propagate
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from ollama_otel import _names as names
from ollama_otel._exchange.observers import CallTrace, Tracing
from ollama_otel._facts import FACTS
from ollama_otel._telemetry.attribute_limits import span_limit
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel.context import CallContext
from ollama_otel.records import CallRecord, CallStart, SpanIds
from ollama_otel.settings import Profile, Settings

_MAX_CACHED_STARTS = 1024

__all__ = [
    "SpanTracing",
    "context_attributes",
    "final_attributes",
    "operation_of",
    "start_attributes",
]


def operation_of(start: CallStart) -> tuple[str, str]:
    """Return attribute and value of the operation; loading a model is not an inference."""
    if start.request.purpose != "call":
        return names.OLLAMA_OPERATION_NAME, f"{start.request.purpose}_model"
    if start.endpoint.genai_operation is not None:
        return names.OPERATION_NAME, start.endpoint.genai_operation
    return names.OLLAMA_OPERATION_NAME, start.endpoint.name


def start_attributes(start: CallStart) -> dict[str, AttributeValue]:
    """Return the span attributes that are set before sampling."""
    attribute, operation = operation_of(start)
    return {
        attribute: operation,
        names.PROVIDER_NAME: names.PROVIDER,
        **FACTS.start_attributes(start),
    }


def context_attributes(context: CallContext) -> dict[str, str]:
    """Return conversation, user and tags, for the spans that stand above calls."""
    own = {names.CONVERSATION_ID: context.conversation_id, names.USER_ID: context.user_id}
    tags = {names.TAG_PREFIX + key: value for key, value in context.tags.items()}
    return {key: value for key, value in own.items() if value is not None} | tags


def final_attributes(
    record: CallRecord, profile: Profile, messages: MessageWriter | None = None
) -> dict[str, AttributeValue]:
    """Return the span attributes that are set at the end, without unknown ones.

    Without `messages`, which writes content, they hold no text of the caller.
    """
    attributes: dict[str, Any] = FACTS.end_attributes(record)
    if (stops := attributes.pop(names.REQUEST_STOP_SEQUENCES, None)) and messages is not None:
        attributes[names.REQUEST_STOP_SEQUENCES] = messages.texts(stops)
    if profile == "gen-ai-dev" and names.RESPONSE_FINISH_REASONS not in attributes:
        start = record.start
        if start.endpoint.response == "completion" and start.request.purpose == "call":
            # The newer conventions define a value for a missing reason.
            attributes[names.RESPONSE_FINISH_REASONS] = ["error"]
    return attributes


def _name_and_attributes(start: CallStart) -> tuple[str, dict[str, AttributeValue]]:
    _, operation = operation_of(start)
    model = start.request.model
    name = operation if model is None else f"{operation} {model}"
    return name, start_attributes(start)


class SpanTracing(Tracing):
    """Creates a span of kind CLIENT for each call."""

    def __init__(self, tracer: Tracer, settings: Settings, messages: MessageWriter | None) -> None:
        self.tracer = tracer
        self._profile = settings.telemetry.profile
        self._messages = messages if settings.content.on_spans else None
        self.propagates_baggage = settings.telemetry.propagate_baggage
        self._starts: dict[tuple[Any, ...], tuple[str, dict[str, AttributeValue]]] = {}
        """Name and start attributes of spans, cached by the values that determine them."""

    def begin(self, start: CallStart) -> CallTrace:
        request = start.request
        server = start.server_address, start.server_port
        key = (start.endpoint.name, request.purpose, request.model, *server)
        cached = self._starts.get(key)
        if cached is None:
            cached = _name_and_attributes(start)
            if len(self._starts) < _MAX_CACHED_STARTS:
                self._starts[key] = cached
        name, attributes = cached
        span = self.tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, start_time=start.started_at
        )
        return _SpanTrace(self, span, start.started_at)

    def attributes(self, record: CallRecord, span: Span) -> dict[str, AttributeValue]:
        """Return the attributes that the span gets at its end."""
        attributes = final_attributes(record, self._profile, self._messages)
        if self._messages is not None:
            attributes |= self._messages.as_attributes(record, span_limit(span))
        return attributes

    def error(self, record: CallRecord) -> str | None:
        """Return the description for the span's status of a failed call."""
        return record.error_message if self._messages is None else self._messages.error(record)


class _SpanTrace(CallTrace):
    __slots__ = ("_context", "_span", "_started_at", "_tokens", "_tracing", "ids")

    def __init__(self, tracing: SpanTracing, span: Span, started_at: int) -> None:
        self._tracing = tracing
        self._span = span
        self._started_at = started_at
        self._context = set_span_in_context(span)
        self._tokens: list[tuple[int, Token[Context]]] = []
        """By thread, as each thread leaves its own context."""
        ids = span.get_span_context()
        self.ids = (
            SpanIds(trace=ids.trace_id, span=ids.span_id, is_sampled=ids.trace_flags.sampled)
            if ids.is_valid
            else None
        )

    def headers(self) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        context = self._context
        # An app's baggage is meant for its own services, and may name its users. Propagators of
        # every format (W3C, Jaeger, OT) read it from the context. With the span alone it has none.
        if len(context) > 1 and not self._tracing.propagates_baggage and baggage.get_all(context):
            context = baggage.clear(context)
        propagate.inject(headers, context=context)
        return headers

    def enter(self) -> None:
        self._tokens.append((get_ident(), otel_context.attach(self._context)))

    def exit(self) -> None:
        if len(self._tokens) == 1:
            # The last entry of this thread; other threads may have added theirs after it.
            otel_context.detach(self._tokens.pop(0)[1])
            return
        own = get_ident()
        for entry in reversed(self._tokens):
            if entry[0] == own:
                self._tokens.remove(entry)
                otel_context.detach(entry[1])
                return

    def event(self, name: str, attributes: Mapping[str, str | int | float]) -> None:
        self._span.add_event(name, attributes)

    def end(self, record: CallRecord) -> None:
        span = self._span
        if span.is_recording():
            span.set_attributes(self._tracing.attributes(record, span))
            if record.outcome == "failed":
                span.set_status(Status(StatusCode.ERROR, self._tracing.error(record)))
        # By the monotonic clock, so that a change of the wall clock does not affect the duration.
        span.end(self._started_at + int(record.duration * 1e9))
