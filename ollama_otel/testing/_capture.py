"""Captures spans, metrics, events and records of a test in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from ollama_otel._exchange.observers import CallFollower, Observer
from ollama_otel.records import CallRecord, CallStart

__all__ = ["Capture", "Point"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One series of one metric at the time of reading."""

    attributes: dict[str, Any]
    value: float
    """A counter's value, a histogram's sum."""
    count: int | None = None
    """The number of values of a histogram."""
    data: Any = None
    """The SDK's own data point."""


class _Recorder:
    def __init__(self, records: list[CallRecord]) -> None:
        self._records = records

    def begin(self, start: CallStart) -> CallFollower:  # noqa: ARG002 - an observer's signature
        return _Kept(self._records)


class _Kept(CallFollower):
    def __init__(self, records: list[CallRecord]) -> None:
        self._records = records

    def end(self, record: CallRecord) -> None:
        self._records.append(record)


class Capture:
    """Providers that keep all telemetry, and an observer that keeps records.

    Pass `capture.options` to a client, `instrument_client` or a transport:
    `Client(**capture.options)`.
    """

    def __init__(self, *, sampler: Sampler | None = None) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.tracer_provider: TracerProvider = TracerProvider(
            sampler=sampler, shutdown_on_exit=False
        )
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider: MeterProvider = MeterProvider(
            metric_readers=[self._reader], shutdown_on_exit=False
        )
        self.logger_provider: LoggerProvider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.records: list[CallRecord] = []
        """The records of ended calls, in the order of their ends."""
        self.observer: Observer = _Recorder(self.records)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for a client, `instrument_client` or a transport."""
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
            "observers": (self.observer,),
        }

    @property
    def spans(self) -> list[ReadableSpan]:
        """Ended spans, in the order of their ends."""
        return list(self._spans.get_finished_spans())

    @property
    def events(self) -> list[ReadableLogRecord]:
        """Log records, in the order of emission."""
        return list(self._logs.get_finished_logs())

    def metrics(self) -> dict[str, list[Point]]:
        """Collect the metrics, and return the points of each by its name."""
        collected = self._reader.get_metrics_data()
        points: dict[str, list[Point]] = {}
        for resource in collected.resource_metrics if collected is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points.setdefault(metric.name, []).extend(
                        Point(
                            attributes=dict(data.attributes or {}),
                            value=data.sum if hasattr(data, "sum") else data.value,
                            count=getattr(data, "count", None),
                            data=data,
                        )
                        for data in metric.data.data_points
                    )
        return points

    def total(self, metric: str, **attributes: Any) -> float:
        """Return the sum of a counter's values, or of a histogram's counts, of matching series.

        Write `_` for `.` in attribute names: `total(name, ollama_outcome="failed")`.
        """
        total = 0.0
        for point in self.metrics().get(metric, ()):
            found = {name.replace(".", "_"): value for name, value in point.attributes.items()}
            if attributes.items() <= found.items():
                total += point.value if point.count is None else point.count
        return total

    def clear(self) -> None:
        """Delete spans, events and records; metrics are not reset."""
        self._spans.clear()
        self._logs.clear()
        self.records.clear()
