"""Turns the runs of agents and their tool calls into spans and metrics.

A run has one span, with its calls of the model and its tool calls as children. Tokens of a run are
under `ollama.agent.*`: back-ends add up `gen_ai.usage.*` of all spans of a trace, and would count
them twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from ollama_otel import _names as names
from ollama_otel._bounds import bounded_name
from ollama_otel._exchange.agent_runs import (
    AgentTracing,
    RunRecord,
    RunStart,
    RunTrace,
    ToolCallRecord,
    ToolCallStart,
    ToolTrace,
)
from ollama_otel._telemetry.attribute_limits import span_limit
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel._telemetry.metrics import Instruments
from ollama_otel._telemetry.spans import context_attributes
from ollama_otel.settings import Settings

__all__ = ["AgentTelemetry"]

_INVOKE: Final = "invoke_agent"
_EXECUTE: Final = "execute_tool"
_FUNCTION: Final = "function"
"""The type of all tools of an agent: the client runs them."""
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MAX_AGENTS: Final = 100
_MAX_TOOLS: Final = 200
_MAX_ERRORS: Final = 50
"""Names that get their own label values."""
_NO_FAILURES: Final = frozenset({"succeeded", "denied", "deferred", "cancelled"})


class AgentTelemetry(AgentTracing):
    """Makes the spans and the metrics of runs."""

    def __init__(
        self,
        tracer: Tracer,
        instruments: Instruments,
        settings: Settings,
        messages: MessageWriter | None,
    ) -> None:
        self.tracer = tracer
        self.instruments = instruments
        self.settings = settings.telemetry
        self.messages = messages if settings.content.on_spans else None

    def begin(self, start: RunStart) -> RunTrace:
        """Begin the span of a run."""
        agent = _bounded(start.agent)
        name = _INVOKE if agent is None else f"{_INVOKE} {agent}"
        attributes: dict[str, Any] = {
            names.OPERATION_NAME: _INVOKE,
            # The later conventions define it for calls of a remote agent only.
            names.PROVIDER_NAME: names.PROVIDER if self.settings.profile == "v1.41" else None,
            names.AGENT_NAME: agent,
            names.REQUEST_MODEL: bounded_name(start.model),
            names.OUTPUT_TYPE: "json" if start.asks_for_json else None,
            **context_attributes(start.context),
        }
        span = self.tracer.start_span(
            name, kind=SpanKind.INTERNAL, attributes=_known(attributes), start_time=start.started_at
        )
        return _Run(self, span, start)

    def label(self, kind: str, name: str, most: int) -> str:
        """Return the label value of a name that the application has given."""
        instruments = self.instruments
        places = getattr(instruments, kind)
        with instruments.lock:
            places.answered(name, most)
            label: str = places.label(name, most)
            return label

    def agent_label(self, start: RunStart) -> dict[str, str]:
        if start.agent is None:
            return {}
        return {names.AGENT_NAME: self.label("agents", start.agent, _MAX_AGENTS)}

    def model_label(self, model: str) -> str:
        """Return the label value that the calls of the model have."""
        with self.instruments.lock:
            return self.instruments.models.label(model, self.settings.max_models)


class _Current:
    """A span that can be made current."""

    def __init__(self, telemetry: AgentTelemetry, span: Span) -> None:
        self._telemetry = telemetry
        self._span = span

    @contextmanager
    def current(self) -> Iterator[None]:
        # In the current context, which may have other baggage.
        token = otel_context.attach(set_span_in_context(self._span))
        try:
            yield
        finally:
            otel_context.detach(token)

    def _end(self, started_at: int, duration: float) -> None:
        # By the monotonic clock, so that a change of the wall clock does not affect the duration.
        self._span.end(started_at + int(duration * 1e9))


class _Run(_Current, RunTrace):
    def __init__(self, telemetry: AgentTelemetry, span: Span, start: RunStart) -> None:
        super().__init__(telemetry, span)
        self._start = start

    def tool(self, start: ToolCallStart) -> ToolTrace:
        messages, settings = self._telemetry.messages, self._telemetry.settings
        name = bounded_name(start.call.name) if start.is_known else names.OTHER
        attributes: dict[str, Any] = {
            names.OPERATION_NAME: _EXECUTE,
            names.TOOL_NAME: name,
            names.TOOL_TYPE: _FUNCTION,
            names.TOOL_CALL_ID: _id(start.call.id),
            **context_attributes(self._start.context),
        }
        if settings.profile == "v1.41":
            # These conventions do not have it on tool calls.
            attributes.pop(names.CONVERSATION_ID, None)
        else:
            attributes[names.AGENT_NAME] = _bounded(self._start.agent)
        if messages is not None and not start.is_known:
            attributes[names.TOOL_NAME] = bounded_name(messages.name(start.call.name))
        span = self._telemetry.tracer.start_span(
            f"{_EXECUTE} {name}",
            context=set_span_in_context(self._span),
            kind=SpanKind.INTERNAL,
            attributes=_known(attributes),
            start_time=start.started_at,
        )
        return _Tool(self._telemetry, span, self._start)

    def end(self, record: RunRecord) -> None:
        error_type = record.ending if record.is_failure else None
        span = self._span
        if span.is_recording():
            attributes = {
                names.AGENT_ENDING: record.ending,
                names.AGENT_ROUNDS: record.rounds,
                names.AGENT_TOOL_CALLS: record.tool_calls,
                names.AGENT_INPUT_TOKENS: record.input_tokens,
                names.AGENT_OUTPUT_TOKENS: record.output_tokens,
                names.AGENT_THINKING_LENGTH: record.thinking_length,
                names.ERROR_TYPE: error_type,
            }
            span.set_attributes(_known(attributes))
            if error_type is not None:
                span.set_status(Status(StatusCode.ERROR))
        self._measure(record, error_type)
        self._end(record.start.started_at, record.duration)

    def _measure(self, record: RunRecord, error_type: str | None) -> None:
        telemetry, instruments = self._telemetry, self._telemetry.instruments
        context = set_span_in_context(self._span)
        agent = telemetry.agent_label(record.start)
        model = {**agent, names.REQUEST_MODEL: telemetry.model_label(record.start.model)}
        ended = {**model, names.AGENT_ENDING: record.ending}
        if error_type is not None:
            ended[names.ERROR_TYPE] = error_type
        instruments.agent_duration.record(record.duration, ended, context)
        instruments.agent_rounds.record(record.rounds, agent, context)
        instruments.agent_tool_calls.record(record.tool_calls, agent, context)
        for histogram, tokens in (
            (instruments.agent_input_tokens, record.input_tokens),
            (instruments.agent_output_tokens, record.output_tokens),
        ):
            if tokens is not None:
                histogram.record(tokens, model, context)


class _Tool(_Current, ToolTrace):
    def __init__(self, telemetry: AgentTelemetry, span: Span, run: RunStart) -> None:
        super().__init__(telemetry, span)
        self._run = run

    def end(self, record: ToolCallRecord) -> None:
        error_type = _error_type(record)
        span = self._span
        if span.is_recording():
            attributes: dict[str, Any] = {
                names.TOOL_OUTCOME: record.outcome,
                names.ERROR_TYPE: error_type,
                **self._content(record, span_limit(span)),
            }
            span.set_attributes(_known(attributes))
            if error_type is not None:
                messages = self._telemetry.messages
                # Texts of tools and models are content.
                said = None if messages is None else messages.failure(record.text)
                span.set_status(Status(StatusCode.ERROR, said))
        self._measure(record, error_type)
        self._end(record.start.started_at, record.duration)

    def _content(self, record: ToolCallRecord, limit: int | None) -> Mapping[str, Any]:
        messages, start = self._telemetry.messages, record.start
        if messages is None:
            return {}
        description = start.description
        has_result = record.outcome == "succeeded"
        return {
            names.TOOL_DESCRIPTION: messages.description(description, limit)
            if description
            else None,
            names.TOOL_CALL_ARGUMENTS: messages.arguments(start.call.arguments, limit),
            names.TOOL_CALL_RESULT: messages.result(record.text, limit) if has_result else None,
        }

    def _measure(self, record: ToolCallRecord, error_type: str | None) -> None:
        telemetry, start = self._telemetry, record.start
        labels = {
            # A name that the model invented does not get its own series.
            names.TOOL_NAME: telemetry.label("tools", start.call.name, _MAX_TOOLS)
            if start.is_known
            else names.OTHER,
            names.TOOL_TYPE: _FUNCTION,
            **telemetry.agent_label(self._run),
            names.TOOL_OUTCOME: record.outcome,
        }
        if error_type is not None:
            labels[names.ERROR_TYPE] = telemetry.label("tool_errors", error_type, _MAX_ERRORS)
        context = set_span_in_context(self._span)
        telemetry.instruments.tool_duration.record(record.duration, labels, context)


def _error_type(record: ToolCallRecord) -> str | None:
    """Return the class of the tool's exception, or the outcome; None if it is not a failure."""
    if record.outcome in _NO_FAILURES:
        return None
    if record.outcome != "failed" or record.error is None:
        return record.outcome
    kind = type(record.error)
    is_builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def _id(given: str | None) -> str | None:
    """Return the id of a tool call; None if the server sent another text as the id."""
    return given if given is not None and _ID.fullmatch(given) else None


def _bounded(name: str | None) -> str | None:
    return None if name is None else bounded_name(name)


def _known(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}
