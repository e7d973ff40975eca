"""A scrape endpoint in the process, from which Prometheus fetches the metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ollama_otel import _process
from ollama_otel._display import masked_url
from ollama_otel.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from opentelemetry.sdk.metrics.export import MetricReader
    from prometheus_client import Metric

__all__ = ["ScrapeEndpoint", "place_from_environ", "read_place"]

_DEFAULT_PLACE = ("localhost", 9464)
"""Default of OpenTelemetry's specification."""
_LAST_PORT = 65_535


def read_place(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPv6]:PORT` or `:PORT`; port 0 stands for any free port.

    The default host is localhost. Raises `SettingsError` for any other text.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or _DEFAULT_PLACE[0], parts.port
    except ValueError:
        port = None
    else:
        if port is not None and parts.netloc == text and parts.username is None:
            return host, port
    raise SettingsError(
        f"prometheus must be HOST:PORT such as 127.0.0.1:9464, not {masked_url(text)!r}"
    )


def place_from_environ() -> tuple[str, int]:
    """Return `OTEL_EXPORTER_PROMETHEUS_HOST` and `..._PORT`, by default localhost:9464."""
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or _DEFAULT_PLACE[0]
    text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip() or str(_DEFAULT_PLACE[1])
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise SettingsError(
            f"OTEL_EXPORTER_PROMETHEUS_PORT must be a port from 0 to {_LAST_PORT}, not {text!r}"
        )
    return host, int(text)


class ScrapeEndpoint:
    """Serves `/metrics` from a thread of its own until `close`.

    It serves only the metrics of its reader, not those that the process has registered with
    `prometheus_client`. It omits the labels of OpenTelemetry's scope, so that the series equal
    those that arrive by OTLP.

    Raises `MissingExtraError` without the packages, and `SettingsError` if it cannot listen.
    """

    def __init__(self, host: str, port: int, **reader_options: Any) -> None:
        try:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
            from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError(
                "the scrape endpoint needs packages that are not installed: "
                "pip install 'ollama_otel[prometheus]'"
            ) from error

        class Reader(PrometheusMetricReader):
            """Ignores flushes: the next scrape would serve the flushed metrics a second time."""

            def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
                return True

        class Registry(CollectorRegistry):
            """Serves one scrape at a time: concurrent ones would take each other's metrics."""

            def collect(self) -> Iterator[Metric]:
                with lock:
                    yield from list(super().collect())

        lock = Lock()
        registry = Registry()
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(port, host, registry=registry)
        except OSError as error:
            raise SettingsError(
                f"the scrape endpoint cannot listen on {host}:{port} "
                f"({error.strerror or error}); choose another port (0 for any free one); "
                "each process needs its own"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url: str = f"http://{shown}:{self._server.server_port}/metrics"
        self.reader: MetricReader = Reader(
            scope_info_enabled=False, registry=registry, **reader_options
        )
        self._is_served = True
        _process.at_fork(after_in_child=self._close_after_fork)

    def close(self) -> None:
        """Stop serving and free the port."""
        if self._is_served:
            self._is_served = False
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _close_after_fork(self) -> None:
        """Close the child's copy of the socket, which would keep the port bound."""
        if self._is_served:
            self._is_served = False
            self._server.socket.close()
