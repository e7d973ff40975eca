"""Sends metrics by OTLP point by point, including samples in the past, which no SDK would send."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx

from ollama_otel._telemetry.instruments import Instrument

CUMULATIVE = 2


def send(
    url: str,
    instrument: Instrument,
    values: Sequence[float],
    *,
    job: str = "my-app",
    seconds_ago: float = 0.0,
    every: float = 1.0,
    trace_id: str | None = None,
    **attributes: str,
) -> None:
    """Send samples, the last one `seconds_ago`; for histograms, `values` are counts."""
    labels = [
        {"key": name.replace("__", "."), "value": {"stringValue": value}}
        for name, value in attributes.items()
    ]
    end = time.time() - seconds_ago
    for number, value in enumerate(values):
        at = end - every * (len(values) - 1 - number)
        point = {
            "attributes": labels,
            "startTimeUnixNano": _nanoseconds(end - 3600),
            "timeUnixNano": _nanoseconds(at),
        }
        content = _content(instrument, point, value, trace_id)
        _post(url, {"name": instrument.name, "unit": instrument.unit, **content}, job)


def _content(
    instrument: Instrument, point: dict[str, Any], value: float, trace_id: str | None
) -> dict[str, Any]:
    if instrument.kind == "histogram":
        exemplar = {
            "timeUnixNano": point["timeUnixNano"],
            "asDouble": 0.5,
            "traceId": trace_id,
            "spanId": "b7ad6b7169203331",
        }
        point |= {
            "count": str(int(value)),
            "sum": 0.5 * value,
            "explicitBounds": [0.1, 1.0],
            "bucketCounts": ["0", str(int(value)), "0"],
            "exemplars": [exemplar] if trace_id else [],
        }
        return {"histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": [point]}}
    point["asDouble"] = value
    if instrument.kind == "gauge":
        return {"gauge": {"dataPoints": [point]}}
    return {
        "sum": {
            "aggregationTemporality": CUMULATIVE,
            "isMonotonic": instrument.kind == "counter",
            "dataPoints": [point],
        }
    }


def _post(url: str, metric: dict[str, Any], job: str) -> None:
    resource = [
        {"key": "service.name", "value": {"stringValue": job}},
        {"key": "service.instance.id", "value": {"stringValue": "1"}},
    ]
    scope = {"scope": {"name": "ollama_otel"}, "metrics": [metric]}
    body = {"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": [scope]}]}
    with httpx.Client(trust_env=False) as client:
        client.post(url, json=body).raise_for_status()


def _nanoseconds(seconds: float) -> str:
    return str(int(seconds * 1e9))
