"""A scrape endpoint in the process: Prometheus comes and fetches the metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ollama_otel import _process
from ollama_otel.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from opentelemetry.sdk.metrics.export import MetricReader
    from prometheus_client import Metric

__all__ = ["ScrapeEndpoint", "place_from_environ", "read_place"]

_DEFAULT_PLACE = ("localhost", 9464)
"""Of OpenTelemetry's specification."""
_LAST_PORT = 65_535


def read_place(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPv6]:PORT` or `:PORT`; port 0 is any free one.

    Raises `SettingsError` for anything else. Without a host it is this machine only.
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
        f"prometheus must be HOST:PORT such as 127.0.0.1:9464, where metrics are to be "
        f"fetched, not {text!r}"
    )


def place_from_environ() -> tuple[str, int]:
    """Return what `OTEL_EXPORTER_PROMETHEUS_HOST` and `..._PORT` say, or localhost:9464."""
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or _DEFAULT_PLACE[0]
    text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip() or str(_DEFAULT_PLACE[1])
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise SettingsError(
            f"OTEL_EXPORTER_PROMETHEUS_PORT must be a port from 0 to {_LAST_PORT}, not {text!r}"
        )
    return host, int(text)


class ScrapeEndpoint:
    """Serves `/metrics` from a thread of its own until `close`.

    Only what goes through the reader is served, nothing else that the process may have
    registered with `prometheus_client`, and without labels of OpenTelemetry's scope, so
    that series are the same as those that come by OTLP.

    Raises `MissingExtraError` without the packages, `SettingsError` where nothing can listen.
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
            """Waits for scrapes: what a flush collected, the next one would serve once more."""

            def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
                return True

        class Registry(CollectorRegistry):
            """Serves one scrape at a time: two at once would take each other's metrics."""

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
                f"nothing can listen for Prometheus at {host}:{port} "
                f"({error.strerror or error}); choose another port, 0 for any free one, "
                "and one for each process"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        self.reader: MetricReader = Reader(
            scope_info_enabled=False, registry=registry, **reader_options
        )
        self._is_served = True
        _process.at_fork(after_in_child=self._leave_to_the_parent_after_fork)

    def close(self) -> None:
        """Stop serving; the port is free again."""
        if self._is_served:
            self._is_served = False
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _leave_to_the_parent_after_fork(self) -> None:
        """The thread stays in the parent; a socket held open here would keep its port taken."""
        if self._is_served:
            self._is_served = False
            self._server.socket.close()
