"""Collected metrics as rows of a table."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData, NumberDataPoint

from ollama_otel import _names as names
from ollama_otel._telemetry import instruments

__all__ = ["MetricRow", "metric_rows_of"]

_LABELS = (
    names.OPERATION_NAME,
    names.OLLAMA_OPERATION_NAME,
    names.OUTCOME,
    names.ERROR_TYPE,
    names.TOKEN_TYPE,
)
_LABELS_OF: Mapping[str, tuple[str, ...]] = {
    instruments.PHASE_TIME.name: (names.PHASE,),
    instruments.ACTIVE_REQUESTS.name: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """The sum of a metric's series with the same values of the shown labels."""

    metric: str
    unit: str
    labels: tuple[str, ...]
    """Values of the shown labels."""
    value: float
    """The value of a counter, the sum of a histogram."""
    count: int | None = None
    """Number of values in a histogram; None for a counter."""
    mean: float | None = None
    median: float | None = None
    """Estimated from the buckets."""


def metric_rows_of(collected: MetricsData | None) -> tuple[MetricRow, ...]:
    """Return the rows of all metrics, by name and labels."""
    return tuple(
        row
        for resource in (collected.resource_metrics if collected else ())
        for scope in resource.scope_metrics
        for metric in sorted(scope.metrics, key=lambda metric: metric.name)
        for row in _rows(metric)
    )


def _rows(metric: Any) -> Iterator[MetricRow]:
    shown = _LABELS_OF.get(metric.name, _LABELS)
    groups: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
    for point in metric.data.data_points:
        values = tuple(str(point.attributes[name]) for name in shown if name in point.attributes)
        groups[values].append(point)
    for labels in sorted(groups, key=_in_order):
        yield _row(metric.name, metric.unit, labels, groups[labels])


def _in_order(labels: tuple[str, ...]) -> tuple[Any, ...]:
    """Return a sort key: phases in the order of time, all other labels by name."""
    return tuple(
        (instruments.PHASES.index(label) if label in instruments.PHASES else -1, label)
        for label in labels
    )


def _row(
    metric: str,
    unit: str,
    labels: tuple[str, ...],
    points: Sequence[NumberDataPoint | HistogramDataPoint],
) -> MetricRow:
    histograms = [point for point in points if isinstance(point, HistogramDataPoint)]
    if not histograms:
        numbers = [point.value for point in points if isinstance(point, NumberDataPoint)]
        return MetricRow(metric=metric, unit=unit, labels=labels, value=sum(numbers))
    count, total = sum(point.count for point in histograms), sum(point.sum for point in histograms)
    return MetricRow(
        metric=metric,
        unit=unit,
        labels=labels,
        value=total,
        count=count,
        mean=total / count,
        median=_median(histograms),
    )


def _median(points: Sequence[HistogramDataPoint]) -> float:
    """Estimate the median: values are assumed to be evenly distributed in their bucket."""
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
