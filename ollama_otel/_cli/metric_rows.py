"""Numbers out of records and collected metrics, put so that they can be shown."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData, NumberDataPoint

from ollama_otel import records
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel.records import CallRecord

__all__ = ["Figure", "Phase", "figures_of", "phases_of"]

PhaseName = Literal[
    "load",
    "queue, estimated",
    "prompt",
    "decode",
    "rest in server",
    "client",
    "to first chunk",
    "stream",
]

_PHASE_NAMES: Mapping[records.Phase, PhaseName] = {
    "load": "load",
    "queue_estimate": "queue, estimated",
    "prompt_eval": "prompt",
    "eval": "decode",
    "unaccounted": "rest in server",
    "client": "client",
}

_LABELS = (
    names.OPERATION_NAME,
    names.OLLAMA_OPERATION_NAME,
    names.OUTCOME,
    names.ERROR_TYPE,
    names.TOKEN_TYPE,
)
_LABELS_OF: Mapping[str, tuple[str, ...]] = {
    rows.PHASE_TIME.name: (names.PHASE,),
    rows.ACTIVE_REQUESTS.name: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a call's duration."""

    name: PhaseName
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of a metric: the series that share the labels shown, added up."""

    metric: str
    unit: str
    labels: tuple[str, ...]
    """Values of the labels that tell the rows of the metric apart."""
    value: float
    """A counter's value, a histogram's sum."""
    count: int | None = None
    """How many values a histogram has taken; None of a counter."""
    mean: float | None = None
    median: float | None = None
    """Estimated from the buckets."""


def phases_of(record: CallRecord) -> tuple[Phase, ...]:
    """Tell where the time of a call went; nothing, where only its duration is known."""
    if record.response.total_duration is None:
        return _phases_by_client(record)
    return tuple(
        Phase(name=_PHASE_NAMES[name], seconds=seconds)
        for name, seconds in record.phases.items()
        if seconds or name == "client"
    )


def _phases_by_client(record: CallRecord) -> tuple[Phase, ...]:
    """What the client's clock alone can tell of a stream without its final message."""
    first = record.time_to_first_chunk
    if first is None:
        return ()
    return (
        Phase(name="to first chunk", seconds=first),
        Phase(name="stream", seconds=record.duration - first),
    )


def figures_of(collected: MetricsData | None) -> tuple[Figure, ...]:
    """Return the rows of all metrics, by name and labels."""
    return tuple(
        figure
        for resource in (collected.resource_metrics if collected else ())
        for scope in resource.scope_metrics
        for metric in sorted(scope.metrics, key=lambda metric: metric.name)
        for figure in _figures(metric)
    )


def _figures(metric: Any) -> Iterator[Figure]:
    shown = _LABELS_OF.get(metric.name, _LABELS)
    groups: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
    for point in metric.data.data_points:
        values = tuple(str(point.attributes[name]) for name in shown if name in point.attributes)
        groups[values].append(point)
    for labels in sorted(groups, key=_in_order):
        yield _figure(metric.name, metric.unit, labels, groups[labels])


def _in_order(labels: tuple[str, ...]) -> tuple[Any, ...]:
    """Phases as they follow one another, all else by the alphabet."""
    return tuple(
        (rows.PHASES.index(label) if label in rows.PHASES else -1, label) for label in labels
    )


def _figure(
    metric: str,
    unit: str,
    labels: tuple[str, ...],
    points: Sequence[NumberDataPoint | HistogramDataPoint],
) -> Figure:
    histograms = [point for point in points if isinstance(point, HistogramDataPoint)]
    if not histograms:
        numbers = [point.value for point in points if isinstance(point, NumberDataPoint)]
        return Figure(metric=metric, unit=unit, labels=labels, value=sum(numbers))
    count, total = sum(point.count for point in histograms), sum(point.sum for point in histograms)
    return Figure(
        metric=metric,
        unit=unit,
        labels=labels,
        value=total,
        count=count,
        mean=total / count,
        median=_median(histograms),
    )


def _median(points: Sequence[HistogramDataPoint]) -> float:
    """Estimate it: values are taken to lie evenly within their bucket, and within min and max."""
    low, high = min(point.min for point in points), max(point.max for point in points)
    edges: tuple[float, ...] = (
        low,
        *(min(max(edge, low), high) for edge in points[0].explicit_bounds),
        high,
    )
    columns = zip(*(point.bucket_counts for point in points), strict=True)
    counts: list[int] = [sum(column) for column in columns]
    up_to = list(accumulate(counts))
    half = up_to[-1] / 2
    bucket = bisect_left(up_to, half)
    share: float = 1 - (up_to[bucket] - half) / counts[bucket]
    return edges[bucket] + (edges[bucket + 1] - edges[bucket]) * share
