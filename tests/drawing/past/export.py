"""Collects the metrics of a process at virtual times and sends them to a Prometheus by OTLP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from http.client import HTTPConnection
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from ollama_otel._telemetry.setup import _reader_options
from tests.drawing.past.clock import VirtualClock


class Export:
    """The meter provider of one process, and its exporter."""

    def __init__(self, clock: VirtualClock, otlp_metrics: str, app: str) -> None:
        self._clock = clock
        self._url = otlp_metrics
        self._reader = InMemoryMetricReader(**_reader_options())
        attributes = {"service.name": app, "service.instance.id": f"{app}-1"}
        self.meter_provider = MeterProvider(
            [self._reader], Resource(attributes), shutdown_on_exit=False
        )

    def send(self) -> None:
        """Send what the instruments say now."""
        data = self._reader.get_metrics_data()
        if data is None:
            return
        request = encode_metrics(data)
        now = int(self._clock.now * 1e9)
        for point in _points(request):
            point.time_unix_nano = now
            if point.start_time_unix_nano:
                point.start_time_unix_nano = self._clock.virtual(point.start_time_unix_nano)
            for exemplar in getattr(point, "exemplars", ()):
                exemplar.time_unix_nano = self._clock.virtual(exemplar.time_unix_nano)
        send(request, self._url)


def _points(request: ExportMetricsServiceRequest) -> Iterable:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from getattr(metric, metric.WhichOneof("data")).data_points


def send(request: ExportMetricsServiceRequest, otlp_metrics: str) -> None:
    """Send metrics to a Prometheus. Raises RuntimeError if it does not take all of them."""
    place = urlsplit(otlp_metrics)
    with contextlib.closing(HTTPConnection(place.netloc, timeout=120)) as connection:
        headers = {"content-type": "application/x-protobuf"}
        connection.request("POST", place.path, request.SerializeToString(), headers)
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
    if answer.status != 200:
        raise RuntimeError(f"Prometheus answered {answer.status} to metrics: {said}")
