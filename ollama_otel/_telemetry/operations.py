"""Operations: several calls for one purpose, with a parent span for the spans of the calls.

The parent span has no token usage, as back-ends add usage up and would count it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from ollama_otel import _names as names
from ollama_otel._attempt import StructuredOutcome
from ollama_otel._bounds import bounded_name
from ollama_otel._exchange import open_calls
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._guard import guard
from ollama_otel._telemetry.metrics import MetricObserver
from ollama_otel._telemetry.spans import SpanTracing, context_attributes
from ollama_otel.context import current_call_context
from ollama_otel.records import Outcome

__all__ = ["Operation"]


class Operation:
    """One operation: a span that `end` ends; it records nothing if its calls are not recorded."""

    def __init__(
        self,
        instrumentation: Instrumentation,
        name: str,
        model: str,
        attributes: Mapping[str, AttributeValue],
    ) -> None:
        """`instrumentation` is that of the calls."""
        self._model = model
        self._span: Span | None = None
        self._metrics: tuple[MetricObserver, ...] = ()
        try:
            if not instrumentation.is_suppressed():
                self._begin(instrumentation, name, attributes)
        except Exception as fault:  # noqa: BLE001 - the calls are made, traced or not
            guard.caught("starting the span of an operation", fault)

    def _begin(
        self, instrumentation: Instrumentation, name: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        observers, tracing = instrumentation.observers, instrumentation.tracing
        self._metrics = tuple(each for each in observers if isinstance(each, MetricObserver))
        if not isinstance(tracing, SpanTracing):
            return
        model = bounded_name(self._model)
        self._span = tracing.tracer.start_span(
            f"{name} {model}",
            kind=SpanKind.INTERNAL,
            attributes={
                names.OLLAMA_OPERATION_NAME: name,
                names.PROVIDER_NAME: names.PROVIDER,
                names.REQUEST_MODEL: model,
                **context_attributes(current_call_context()),
                **attributes,
            },
        )
        open_calls.add(self)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make its span the parent of spans started in this block, in sync and async code."""
        if self._span is None:
            yield
            return
        token = otel_context.attach(set_span_in_context(self._span))
        try:
            yield
        finally:
            otel_context.detach(token)

    def answered(self, call: str, outcome: StructuredOutcome, *, is_final: bool) -> None:
        """Count an answer; `call` is the operation of its call, such as `chat`."""
        try:
            with self.current():
                for metrics in self._metrics:
                    metrics.answered(call, self._model, outcome, is_final=is_final)
        except Exception as fault:  # noqa: BLE001 - the caller gets the answer, counted or not
            guard.caught("counting an answer", fault)

    def end(
        self,
        outcome: Outcome,
        attributes: Mapping[str, AttributeValue],
        *,
        error_type: str | None = None,
    ) -> None:
        """End the span, once. Only a failure has an `error_type`."""
        if self._span is None or not open_calls.take(self):
            return
        try:
            self._span.set_attributes({names.OUTCOME: outcome, **attributes})
            if error_type is not None:
                self._span.set_attribute(names.ERROR_TYPE, error_type)
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()
        except Exception as fault:  # noqa: BLE001 - the caller has its result
            guard.caught("ending the span of an operation", fault)
        finally:
            open_calls.has_ended(self)

    def shut_down(self) -> None:
        """End the span as cancelled, as the telemetry of the process ends; from any thread."""
        self.end("cancelled", {})
