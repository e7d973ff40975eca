"""Records become spans."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from ollama_otel._exchange.exchange import CallFollower
from ollama_otel import _names as names
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel.records import CallRecord, CallStart
from ollama_otel.settings import Settings

__all__ = ["SpanObserver", "final_attributes", "operation_of", "start_attributes"]

_TOO_LARGE = 2**63


def operation_of(start: CallStart) -> tuple[str, str]:
    """Return attribute and value that name what was asked; a load or unload is no inference."""
    if start.request.purpose != "call":
        return names.OLLAMA_OPERATION_NAME, f"{start.request.purpose}_model"
    if start.endpoint.genai_operation is not None:
        return names.OPERATION_NAME, start.endpoint.genai_operation
    return names.OLLAMA_OPERATION_NAME, start.endpoint.name


def start_attributes(start: CallStart) -> dict[str, AttributeValue]:
    """Return what a sampler is to see."""
    attribute, operation = operation_of(start)
    attributes: dict[str, AttributeValue] = {
        attribute: operation,
        names.PROVIDER_NAME: names.PROVIDER,
    }
    if start.request.model is not None:
        attributes[names.REQUEST_MODEL] = start.request.model
    if start.server_address is not None:
        attributes[names.SERVER_ADDRESS] = start.server_address
        if start.server_port is not None:
            attributes[names.SERVER_PORT] = start.server_port
    return attributes


def _is_number(value: object) -> bool:
    """Whether it is a number that an exporter can encode: finite, and of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < _TOO_LARGE


def _options(options: Mapping[str, Any], into: dict[str, AttributeValue]) -> None:
    """Add the options that were sent and are of their type; the server refuses the others."""
    for option, value in options.items():
        if option == "stop":
            stops = [value] if isinstance(value, str) else value
            if isinstance(stops, (list, tuple)) and all(isinstance(stop, str) for stop in stops):
                into[names.REQUEST_STOP_SEQUENCES] = list(stops)
        elif not _is_number(value):
            continue
        elif option in names.FLOAT_OPTIONS:
            into[names.FLOAT_OPTIONS[option]] = float(value)
        elif option == "num_predict" and value <= 0:
            into[names.UNLIMITED_NUM_PREDICT] = int(value)
        elif option in names.INTEGER_OPTIONS and int(value) == value:
            into[names.INTEGER_OPTIONS[option]] = int(value)


def _request(start: CallStart, into: dict[str, AttributeValue]) -> None:
    request, context = start.request, start.context
    if request.stream:
        into[names.REQUEST_STREAM] = True
    if request.asks_for_json:
        into[names.OUTPUT_TYPE] = "json"
    if isinstance(request.think, bool):
        into[names.REQUEST_THINK] = request.think
    elif request.think is not None:
        into[names.REQUEST_REASONING_LEVEL] = request.think
    if request.options:
        _options(request.options, into)
    if request.tools:
        into[names.REQUEST_TOOL_NAMES] = request.tools
        into[names.REQUEST_TOOL_COUNT] = len(request.tools)
    count = (
        names.REQUEST_MESSAGE_COUNT
        if start.endpoint.answer == "completion"
        else names.EMBEDDINGS_INPUT_COUNT
    )
    facts = (
        (names.REQUEST_KEEP_ALIVE, request.keep_alive),
        (names.REQUEST_RAW, request.raw),
        (names.REQUEST_TRUNCATE, request.truncate),
        (names.EMBEDDINGS_DIMENSION_COUNT, request.dimensions),
        (count, request.input_count),
        (names.REQUEST_IMAGE_COUNT, request.image_count or None),
        (names.REQUEST_SIZE, request.size),
        (names.CONVERSATION_ID, context.conversation_id),
        (names.USER_ID, context.user_id),
    )
    into.update({name: value for name, value in facts if value is not None})
    for tag, text in context.tags.items():
        into[names.TAG_PREFIX + tag] = text


def _finish_reasons(record: CallRecord, settings: Settings) -> list[str] | None:
    if record.start.endpoint.answer != "completion" or record.start.request.purpose != "call":
        return None
    if (reason := record.finish_reason) is not None:
        return [reason]
    # The newer text has a word for a reason that was expected and never came.
    return ["error"] if settings.profile == "gen-ai-dev" else None


def final_attributes(record: CallRecord, settings: Settings) -> dict[str, AttributeValue]:
    """Return everything known at the end; what is not known is not there."""
    response = record.response
    is_completion = record.start.endpoint.answer == "completion"
    load = response.load_duration
    progress = record.progress
    facts = (
        (names.OUTCOME, record.outcome),
        (names.ERROR_TYPE, record.error_type),
        (names.HTTP_STATUS, record.http_status),
        (names.RESPONSE_MODEL, response.model),
        (names.RESPONSE_DONE_REASON, response.done_reason),
        (names.RESPONSE_FINISH_REASONS, _finish_reasons(record, settings)),
        (names.USAGE_INPUT_TOKENS, response.input_tokens),
        (names.USAGE_OUTPUT_TOKENS, response.output_tokens),
        (names.RESPONSE_TOTAL_DURATION, response.total_duration),
        (names.RESPONSE_LOAD_DURATION, load),
        (names.RESPONSE_PROMPT_EVAL_DURATION, response.prompt_eval_duration),
        (names.RESPONSE_EVAL_DURATION, response.eval_duration),
        (names.QUEUE_ESTIMATE, record.queue_estimate),
        (names.DECODE_RATE, record.decode_rate),
        (names.PREFILL_RATE_ESTIMATE, record.prefill_rate_estimate),
        (names.COLD_START, (load is not None and load >= settings.cold_start_threshold) or None),
        (names.RESPONSE_REMOTE_MODEL, response.remote_model),
        (names.RESPONSE_REMOTE_HOST, response.remote_host),
        (names.RESPONSE_SIZE, record.response_size),
        (names.RESPONSE_TIME_TO_FIRST_CHUNK, record.time_to_first_chunk if is_completion else None),
        (names.RESPONSE_TIME_TO_FIRST_ANSWER, record.time_to_first_answer),
        (names.RESPONSE_CHUNK_COUNT, record.chunk_count or None),
        (names.RESPONSE_LONGEST_GAP, record.longest_gap),
        (names.RESPONSE_HELD_BY_CALLER, record.held_by_caller),
    )
    attributes: dict[str, Any] = {name: value for name, value in facts if value is not None}
    _request(record.start, attributes)
    if response.tool_calls:
        attributes[names.RESPONSE_TOOL_CALL_NAMES] = response.tool_calls
        attributes[names.RESPONSE_TOOL_CALL_COUNT] = len(response.tool_calls)
    if progress is not None:
        sizes = (
            (names.PROGRESS_TOTAL, progress.total_bytes),
            (names.PROGRESS_MOVED, progress.moved_bytes),
            (names.PROGRESS_RATE, progress.rate),
        )
        attributes |= {name: size for name, size in sizes if size is not None}
    return attributes


class _SpanObservation(CallFollower):
    __slots__ = ("_context", "_observer", "_span", "_started_at", "_token")

    is_current = True

    def __init__(self, observer: SpanObserver, span: Span, started_at: int) -> None:
        self._observer = observer
        self._span = span
        self._started_at = started_at
        self._context = set_span_in_context(span)
        self._token: Token[Context] | None = None

    def add_headers(self, headers: dict[str, str]) -> None:
        propagate.inject(headers, context=self._context)

    def enter(self) -> None:
        self._token = otel_context.attach(self._context)

    def exit(self) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None

    def end(self, record: CallRecord) -> None:
        span = self._span
        if span.is_recording():
            span.set_attributes(self._observer.attributes(record))
            if record.outcome == "failed":
                span.set_status(Status(StatusCode.ERROR, record.error_message))
        # By the monotonic clock, so that a clock that is set meanwhile makes no odd span.
        span.end(self._started_at + int(record.duration * 1e9))


class SpanObserver:
    """Follows each call with a span of kind CLIENT."""

    def __init__(self, tracer: Tracer, settings: Settings, messages: MessageWriter | None) -> None:
        self._tracer = tracer
        self._settings = settings
        self._messages = messages

    def begin(self, start: CallStart) -> CallFollower:
        """Start the span; see `Observer`."""
        _, operation = operation_of(start)
        model = start.request.model
        span = self._tracer.start_span(
            operation if model is None else f"{operation} {model}",
            kind=SpanKind.CLIENT,
            attributes=start_attributes(start),
            start_time=start.started_at,
        )
        return _SpanObservation(self, span, start.started_at)

    def attributes(self, record: CallRecord) -> dict[str, AttributeValue]:
        """Return what the span is given at its end."""
        attributes = final_attributes(record, self._settings)
        if self._messages is not None and self._settings.content_on_spans:
            attributes |= self._messages.as_attributes(record)
        return attributes
