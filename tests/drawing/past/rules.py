"""Evaluates the shipped rules over the past and stores what Prometheus would have stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    DataPointFlags,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)

from tests.drawing.past.export import send
from tests.real.servers.prometheus import DASHBOARDS, RealPrometheus

Labels = Mapping[str, str]
Samples = list[tuple[float, float | None]]
"""Times and values; None is the marker of an end."""

_STEP = 15
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def evaluate(prometheus: RealPrometheus, began: float, ended: float) -> None:
    """Store the series of all recording rules and the alerts, from one time to another."""
    rules = list(_rules(DASHBOARDS / "rules"))
    recording = [rule for rule in rules if "record" in rule]
    stored: set[str] = set()
    names = {rule["record"] for rule in recording}
    while recording:
        ready = [rule for rule in recording if not _needs(rule) & names - stored - {rule["record"]}]
        if not ready:
            raise ValueError(f"rules need each other: {[rule['record'] for rule in recording]}")
        _store(
            prometheus,
            (each for rule in ready for each in _recorded(prometheus, rule, began, ended)),
        )
        stored |= {rule["record"] for rule in ready}
        recording = [rule for rule in recording if rule not in ready]
    alerts = [rule for rule in rules if "alert" in rule]
    _store(
        prometheus, (each for rule in alerts for each in _alerted(prometheus, rule, began, ended))
    )


def _rules(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def _needs(rule: Mapping[str, Any]) -> set[str]:
    return set(re.findall(r"\b\w+:[\w:]+", rule["expr"]))


def _asked(
    prometheus: RealPrometheus, expr: str, began: float, ended: float
) -> list[dict[str, Any]]:
    found = prometheus.ask("query_range", query=expr, start=began, end=ended, step=_STEP)["result"]
    if any("histograms" in series for series in found):
        raise ValueError(f"the rig stores no histograms of rules, as of {expr}")
    return found


def _recorded(
    prometheus: RealPrometheus, rule: Mapping[str, Any], began: float, ended: float
) -> Iterator[tuple[str, Labels, Samples]]:
    for series in _asked(prometheus, rule["expr"], began, ended):
        samples = [(time, float(value)) for time, value in series["values"]]
        labels = {**_without_name(series["metric"]), **rule.get("labels", {})}
        yield rule["record"], labels, list(_with_ends(samples, ended))


def _alerted(
    prometheus: RealPrometheus, rule: Mapping[str, Any], began: float, ended: float
) -> Iterator[tuple[str, Labels, Samples]]:
    patience = _seconds(rule.get("for", "0s"))
    for series in _asked(prometheus, rule["expr"], began, ended):
        labels = {
            **_without_name(series["metric"]),
            **rule.get("labels", {}),
            "alertname": rule["alert"],
        }
        by_state: dict[str, Samples] = {"pending": [], "firing": []}
        starts: Samples = []
        since = last = float("-inf")
        for time, _ in series["values"]:
            if time - last > _STEP:
                since = time
            last = time
            starts.append((time, since))
            by_state["firing" if time - since >= patience else "pending"].append((time, 1.0))
        yield "ALERTS_FOR_STATE", labels, list(_with_ends(starts, ended))
        for state, samples in by_state.items():
            if samples:
                yield "ALERTS", {**labels, "alertstate": state}, list(_with_ends(samples, ended))


def _without_name(labels: Labels) -> Labels:
    return {name: value for name, value in labels.items() if name != "__name__"}


def _seconds(text: str) -> float:
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([smhd])", text))


def _with_ends(samples: Samples, ended: float) -> Iterator[tuple[float, float | None]]:
    """Yield samples, and a marker where a series ends, as rules write it."""
    for (time, value), following in zip(
        samples, [*samples[1:], (ended + _STEP, None)], strict=True
    ):
        yield time, value
        if time + _STEP < following[0]:
            yield time + _STEP, None


def _store(prometheus: RealPrometheus, series: Iterable[tuple[str, Labels, Samples]]) -> None:
    metrics: dict[str, Metric] = {}
    for name, labels, samples in series:
        metric = metrics.setdefault(name, Metric(name=name, gauge=Gauge()))
        attributes = [
            KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in labels.items()
        ]
        for time, value in samples:
            is_end = value is None
            flags = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK if is_end else 0
            metric.gauge.data_points.append(
                NumberDataPoint(
                    attributes=attributes,
                    time_unix_nano=int(time * 1e9),
                    flags=flags,
                    **({} if is_end else {"as_double": value}),
                )
            )
    scope = ScopeMetrics(metrics=list(metrics.values()))
    request = ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(scope_metrics=[scope])])
    send(request, prometheus.otlp_metrics)
