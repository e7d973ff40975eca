"""A collector that only keeps what is sent to it by OTLP over HTTP."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Path, headers by lower-case name, and body of each."""
        self.statuses: list[int] = []
        """How the next requests are answered; all others: 200."""
        self.status_by_path: dict[str, int] = {}
        """How all requests for a path are answered."""
        self.content_type = "application/x-protobuf"
        self.delay = 0.0
        """Seconds before each answer."""
        self.is_hanging = False
        """Whether no request is answered before the end."""
        self.has_ended = threading.Event()

    def bodies(self, path: str) -> list[bytes]:
        return [body for found, _, body in self.requests if found == path]

    def _spans(self) -> list[tuple[str | None, Any]]:
        """Service and span, as sent."""
        found: list[tuple[str | None, Any]] = []
        for body in self.bodies("/v1/traces"):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
                service = attributes.get("service.name")
                found += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return found

    def spans(self) -> list[tuple[str | None, str]]:
        """Service and name of each span."""
        return [(service, span.name) for service, span in self._spans()]

    def tree(self) -> dict[str, list[str]]:
        """The names of the root spans, and of the spans below each."""
        spans = [span for _, span in self._spans()]
        return {
            root.name: [span.name for span in spans if span.parent_span_id == root.span_id]
            for root in spans
            if not root.parent_span_id
        }

    def calls(self) -> list[dict[str, Any]]:
        """The attributes of each call's span, in the order of their starts."""
        spans = sorted(
            (span for _, span in self._spans()), key=lambda span: span.start_time_unix_nano
        )
        found = [{a.key: _value(a.value) for a in span.attributes} for span in spans]
        # Runs of agents and of structured answers have an outcome too, and no server.
        return [each for each in found if {"ollama.outcome", "server.address"} <= each.keys()]

    def outcomes(self) -> list[str]:
        return [
            attribute.value.string_value
            for _, span in self._spans()
            for attribute in span.attributes
            if attribute.key == "ollama.outcome"
        ]

    def metrics(self) -> set[str]:
        return {
            metric.name
            for body in self.bodies("/v1/metrics")
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def durations(self) -> Counter[str]:
        """How many calls of each outcome the duration of operations counts, in all processes."""
        latest: dict[str, Counter[str]] = {}
        for body in self.bodies("/v1/metrics"):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
                counts: Counter[str] = Counter()
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == "gen_ai.client.operation.duration":
                            # One outcome has a point for each model, kind of stream and so on.
                            for point in metric.histogram.data_points:
                                counts[_outcome(point.attributes)] += int(point.count)
                latest[attributes["service.instance.id"]] = counts
        return sum(latest.values(), Counter())

    def event_outcomes(self) -> list[str]:
        return [
            attribute.value.string_value
            for body in self.bodies("/v1/logs")
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
            for attribute in record.attributes
            if attribute.key == "ollama.outcome"
        ]

    def events(self) -> list[str]:
        return [
            record.event_name
            for body in self.bodies("/v1/logs")
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _outcome(attributes: Iterable[Any]) -> str:
    return next(each.value.string_value for each in attributes if each.key == "ollama.outcome")


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if collector.is_hanging:
                collector.has_ended.wait()
                return
            collector.has_ended.wait(collector.delay)
            collector.requests.append((self.path, headers, body))
            status = collector.status_by_path.get(self.path, 200)
            self.send_response(collector.statuses.pop(0) if collector.statuses else status)
            self.send_header("content-type", collector.content_type)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield collector
        finally:
            collector.has_ended.set()
            server.shutdown()
            thread.join()
