"""A scrape endpoint in the process, from which Prometheus fetches the metrics."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from socket import gaierror
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ollama_otel import _process
from ollama_otel._admission import Admission
from ollama_otel._display import logger, masked_url
from ollama_otel._telemetry import first_call
from ollama_otel._telemetry.scrape_server import ScrapeServer
from ollama_otel._wire.address import with_colon
from ollama_otel.errors import MissingExtraError, SettingsError
from ollama_otel.settings._messages import wrong_value

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from prometheus_client import Metric

__all__ = ["ScrapeEndpoint", "has_inherited", "open_endpoint", "place_from_environ", "read_place"]

_DEFAULT_PLACE = ("localhost", 9464)
"""Default of OpenTelemetry's specification."""
_LAST_PORT = 65_535
_HINTS: Mapping[int, str] = MappingProxyType(
    {
        errno.EADDRINUSE: "another process has the port, perhaps another worker of this app; give "
        "each worker a port of its own, or send metrics by OTLP",
        errno.EADDRNOTAVAIL: "the host must be an address of this machine",
        errno.EACCES: "this user may not use the port; choose one from 1024 on",
    }
)
_FORKED = (
    "the metrics of this forked process are not served to Prometheus: the scrape endpoint belongs "
    "to the process that called configure(prometheus=...); call it after the fork, with a port of "
    "its own for each process, such as in gunicorn's post_fork"
)

_log = logger()


def read_place(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`; port 0 stands for any free port.

    The default host is localhost. Raises `SettingsError` for any other text.
    """
    full = with_colon(text)
    try:
        parts = urlsplit(f"//{full}")
        host, port = parts.hostname or _DEFAULT_PLACE[0], parts.port
    except ValueError:
        port = None
    else:
        if port is not None and parts.netloc == full and parts.username is None:
            return host, port
    raise wrong_value("prometheus", "HOST:PORT such as 127.0.0.1:9464", repr(masked_url(text)))


def place_from_environ() -> tuple[str, int]:
    """Return `OTEL_EXPORTER_PROMETHEUS_HOST` and `..._PORT`, by default localhost:9464."""
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or _DEFAULT_PLACE[0]
    text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip() or str(_DEFAULT_PLACE[1])
    if not text.isdecimal() or int(text) > _LAST_PORT:
        expected = f"a port from 0 to {_LAST_PORT}"
        raise wrong_value("OTEL_EXPORTER_PROMETHEUS_PORT", expected, repr(text))
    return host, int(text)


class ScrapeEndpoint:
    """Serves `/metrics` from a separate thread until `close`.

    It serves only the metrics of its reader, not those that the process has registered with
    `prometheus_client`. It omits the labels of OpenTelemetry's scope, so that the series equal
    those that arrive over OTLP.

    `hosts` are further names under which it is scraped; see `Settings.scrape_hosts`.

    Raises `MissingExtraError` without the packages, `SettingsError` if the host is not a host
    name, and OSError if it cannot listen there.
    """

    def __init__(
        self, host: str, port: int, *, hosts: Collection[str] = (), **reader_options: Any
    ) -> None:
        try:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
            from prometheus_client import CollectorRegistry  # noqa: PLC0415
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

            lock = Lock()

            def collect(self) -> Iterator[Metric]:
                with self.lock:
                    yield from list(super().collect())

        self.url: str = ""
        """Where it serves, such as `http://127.0.0.1:9464/metrics`."""
        self._is_served = False
        self._registry = Registry()
        self._admission = Admission(hosts)
        self._server: ScrapeServer
        self._listen(host, port)
        self.reader: MetricReader = Reader(
            scope_info_enabled=False, registry=self._registry, **reader_options
        )
        """The reader of the meter provider whose metrics it serves."""
        _process.at_fork(after_in_child=_close_inherited)

    def _listen(self, host: str, port: int) -> None:
        from prometheus_client import make_wsgi_app  # noqa: PLC0415

        application = make_wsgi_app(self._registry)
        try:
            self._server = ScrapeServer(host, port, application, self._admission)
        except UnicodeError as error:
            raise SettingsError(f"{host!r} is not a host name: {error}") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.port}/metrics"
        self._is_served = True
        _served.add(self)

    def close(self) -> None:
        """Stop serving and free the port."""
        if self._is_served:
            self._is_served = False
            _served.discard(self)
            self._server.close()

    def _close_inherited(self) -> None:
        """Close the child's copy of the socket, which would keep the port bound."""
        self._is_served = False
        self._server.close_inherited()
        # A scrape of the parent may have held the lock.
        self._registry.lock = Lock()


_served: set[ScrapeEndpoint] = set()
"""Kept here, as an app may drop the result of `configure`."""
_inherited: ScrapeEndpoint | None = None
"""The endpoint of the parent process, which serves the parent's metrics only."""


def _close_inherited() -> None:
    """Leave the endpoints to the parent; a child that records calls logs a warning."""
    global _inherited  # noqa: PLW0603 - of the process
    for endpoint in _served:
        endpoint._close_inherited()  # noqa: SLF001 - of this module
        _inherited = endpoint
    _served.clear()
    if _inherited is not None:
        first_call.warn_once(_FORKED)


def has_inherited() -> bool:
    """Whether this process was forked from one whose endpoint serves its global metrics."""
    return _inherited is not None


def open_endpoint(
    host: str, port: int, *, hosts: Collection[str] = (), **reader_options: Any
) -> ScrapeEndpoint | None:
    """Return an endpoint; None, with a warning, if it cannot listen.

    The app has to run even without this endpoint, as another worker may use the port. A forked
    process serves the reader that it has inherited, as OpenTelemetry keeps the provider of the
    parent.
    """
    global _inherited  # noqa: PLW0603
    try:
        if _inherited is None:
            return ScrapeEndpoint(host, port, hosts=hosts, **reader_options)
        endpoint = _inherited
        endpoint._listen(host, port)  # noqa: SLF001
    except OSError as error:
        _log.warning(
            "metrics are not served to Prometheus, as nothing can listen on %s:%d (%s): %s",
            host,
            port,
            error.strerror or error,
            _hint(error),
        )
        return None
    _inherited = None
    first_call.forget(_FORKED)
    return endpoint


def _hint(error: OSError) -> str:
    if isinstance(error, gaierror):
        return "the host must resolve to an address of this machine"
    return _HINTS.get(error.errno or 0, "choose another address or port")
