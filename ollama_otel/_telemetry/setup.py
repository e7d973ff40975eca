"""`configure`: providers and OTLP exporters in one call, for apps that have none."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from logging import getLogger
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExporter,
)
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from ollama_otel._exchange.exchange import Observer
from ollama_otel._telemetry.exporters import (
    Protocol,
    Signal,
    exporter_names,
    otlp_exporter,
    telling_of_itself,
)
from ollama_otel._telemetry.instrumentation import replay_log_of, use_by_default
from ollama_otel._telemetry.scrape import ScrapeEndpoint, place_from_environ, read_place
from ollama_otel.errors import SettingsError
from ollama_otel.settings import Settings

if TYPE_CHECKING:
    from ollama_otel._log.observer import ReplayLog
    from ollama_otel.residency import Residency

__all__ = ["Telemetry", "configure"]

_CARDINALITY_LIMIT = 50_000
"""Label sets of one instrument; how many there may be is limited before they get there.

The SDK's own 2,000 would lump together what 50 models on five servers do.
"""
_INSTANCE_ID = "service.instance.id"
_INSTRUMENT_KINDS = (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
)

_log = getLogger("ollama_otel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What `configure` set up; None stands for what the app had set up, or has switched off."""

    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    settings: Settings
    replay_log: ReplayLog | None = None
    scrape_endpoint: ScrapeEndpoint | None = None
    """Where Prometheus may fetch the metrics; None unless asked for."""
    residency: Residency | None = None
    """What the servers hold; None unless asked for."""

    def flush(self, timeout: float = 10.0) -> bool:
        """Send what is waiting; False if a provider says that it could not.

        An export that finds no collector, or is refused by it, the exporter logs and does
        not tell; it keeps to its own time limit rather than to `timeout` seconds.
        """
        millis = int(timeout * 1000)
        providers = (self.tracer_provider, self.meter_provider, self.logger_provider)
        results = [p.force_flush(millis) for p in providers if p is not None]
        if self.replay_log is not None:
            results.append(self.replay_log.flush(timeout))
        return all(results)

    def shutdown(self) -> None:
        """Send what is waiting and stop; happens at the process's exit of itself."""
        if self.residency is not None:
            from ollama_otel._telemetry.residency import release  # noqa: PLC0415 - as below

            release(self.residency, self)
        for provider in (self.tracer_provider, self.meter_provider, self.logger_provider):
            if provider is not None:
                provider.shutdown()
        if self.replay_log is not None:
            self.replay_log.close()
        if self.scrape_endpoint is not None:
            self.scrape_endpoint.close()


def _is_unset(provider: object) -> bool:
    """Whether the API's stand-in is all there is; two of the three are private by name."""
    return "Proxy" in type(provider).__name__


def configure(
    *,
    service_name: str | None = None,
    endpoint: str | None = None,
    protocol: Protocol | None = None,
    headers: Mapping[str, str] | None = None,
    resource_attributes: Mapping[str, str] | None = None,
    export_interval: float | None = None,
    prometheus: str | None = None,
    settings: Settings | None = None,
    observers: Sequence[Observer] = (),
    **setting_values: Any,
) -> Telemetry:
    """Set up OpenTelemetry for this process, and how its Ollama calls are recorded.

    What is not given comes from the standard `OTEL_*` variables: `OTEL_SERVICE_NAME`,
    `OTEL_EXPORTER_OTLP_ENDPOINT`, `..._PROTOCOL`, `..._HEADERS`, `OTEL_TRACES_EXPORTER`
    and the like. A signal whose provider the app has set already is left exactly as it
    is. Waiting data is sent at the process's exit.

    `endpoint` is the base URL of a collector (`http://localhost:4318`, gRPC: port 4317),
    `export_interval` the seconds between two exports of metrics. `prometheus` is the
    `HOST:PORT` at which Prometheus may fetch the metrics; they are then sent by OTLP only
    where `OTEL_METRICS_EXPORTER` says so too. Further keywords are fields of `Settings`.

    Raises `SettingsError` for a value that cannot be used and `MissingExtraError` when
    gRPC or the scrape endpoint is asked for and not installed.
    """
    settings = _settings(settings, setting_values)
    if export_interval is not None and not 0 < export_interval < float("inf"):
        raise SettingsError(f"export_interval must be seconds above 0, not {export_interval!r}")

    def exporters(signal: Signal, console: Callable[[], Any]) -> list[Any]:
        is_fetched = signal == "metrics" and prometheus is not None
        names = exporter_names(signal, default="prometheus" if is_fetched else "otlp")
        made: list[Any] = [console()] if "console" in names else []
        if "otlp" in names:
            with telling_of_itself():
                made.append(
                    otlp_exporter(signal, protocol=protocol, endpoint=endpoint, headers=headers)
                )
        return made

    # Everything that can be refused is refused before anything global is set.
    resource = _resource(service_name, resource_attributes)
    try:
        telemetry = _build(settings, exporters, resource, export_interval, prometheus)
    except SettingsError:
        raise
    except ValueError as error:
        complaint = " ".join(str(error).split())
        raise SettingsError(f"OpenTelemetry refuses an OTEL_* variable: {complaint}") from error
    _make_global(telemetry)
    if telemetry.residency is not None:
        from ollama_otel._telemetry.residency import hold  # noqa: PLC0415 - few ask for it

        hold(telemetry.residency, telemetry)
    use_by_default(settings, observers)
    return telemetry


def _settings(settings: Settings | None, values: Mapping[str, Any]) -> Settings:
    if settings is not None and values:
        raise SettingsError(f"give either settings or {', '.join(sorted(values))}, not both")
    if settings is not None:
        return settings
    known = {field.name for field in fields(Settings)}
    if unknown := sorted(values.keys() - known):
        raise SettingsError(
            f"configure knows no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    return Settings.from_environ(**values)


def _build(
    settings: Settings,
    exporters: Callable[[Signal, Callable[[], Any]], list[Any]],
    resource: Resource,
    export_interval: float | None,
    prometheus: str | None,
) -> Telemetry:
    """Make a provider for each signal that the app has not set up, and that is not off."""
    span_exporters: list[SpanExporter] = []
    metric_exporters: list[MetricExporter] = []
    log_exporters: list[LogRecordExporter] = []
    place = None
    if _is_unset(trace.get_tracer_provider()):
        span_exporters = exporters("traces", ConsoleSpanExporter)
    if _is_unset(metrics.get_meter_provider()):
        metric_exporters = exporters("metrics", ConsoleMetricExporter)
        place = _scrape_place(prometheus)
    elif prometheus is not None:
        _log.warning(
            "nothing is served for Prometheus at %s: a meter provider is set already; "
            "add a PrometheusMetricReader where it is made, or call configure() before",
            prometheus,
        )
    if settings.details_event and _is_unset(get_logger_provider()):
        log_exporters = exporters("logs", ConsoleLogRecordExporter)
    tracer_provider = _tracer_provider(span_exporters, resource)
    logger_provider = _logger_provider(log_exporters, resource)
    replay_log = replay_log_of(settings)
    residency = _residency(settings)
    readers = _readers(metric_exporters, export_interval)
    # What takes a port comes last, so that nothing that is refused leaves it taken.
    endpoint = None if place is None else ScrapeEndpoint(*place, **_reader_options())
    if endpoint is not None:
        readers.append(endpoint.reader)
    return Telemetry(
        tracer_provider=tracer_provider,
        meter_provider=MeterProvider(readers, resource) if readers else None,
        logger_provider=logger_provider,
        settings=settings,
        replay_log=replay_log,
        scrape_endpoint=endpoint,
        residency=residency,
    )


def _residency(settings: Settings) -> Residency | None:
    """Return what watches servers from now on, if it is asked for.

    Beside those that are called it is the one that `OLLAMA_HOST` names; the default one is
    not, as it may be nobody's, and would then count as down.
    """
    if not settings.residency:
        return None
    # Imported where it is used: few ask for it.
    from ollama_otel._telemetry.residency import residency_of  # noqa: PLC0415

    residency = residency_of(settings)
    host = os.environ.get("OLLAMA_HOST", "").strip()
    if not host:
        return residency
    try:
        residency.watch(host)
    except ValueError as error:
        _log.warning("the server of OLLAMA_HOST is not watched: %s", error)
    return residency


def _scrape_place(given: str | None) -> tuple[str, int] | None:
    if given is not None:
        return read_place(given)
    return place_from_environ() if "prometheus" in exporter_names("metrics") else None


def _tracer_provider(
    exporters: Sequence[SpanExporter], resource: Resource
) -> TracerProvider | None:
    if not exporters:
        return None
    provider = TracerProvider(resource=resource)
    with telling_of_itself():
        for exporter in exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _readers(
    exporters: Sequence[MetricExporter], export_interval: float | None
) -> list[MetricReader]:
    millis = None if export_interval is None else export_interval * 1000
    return [
        PeriodicExportingMetricReader(exporter, export_interval_millis=millis, **_reader_options())
        for exporter in exporters
    ]


def _reader_options() -> dict[str, Any]:
    """Return the higher limit, where the SDK has one at all."""
    if "cardinality_limits" not in inspect.signature(MetricReader.__init__).parameters:
        return {}
    return {"cardinality_limits": dict.fromkeys(_INSTRUMENT_KINDS, _CARDINALITY_LIMIT)}


def _logger_provider(
    exporters: Sequence[LogRecordExporter], resource: Resource
) -> LoggerProvider | None:
    if not exporters:
        return None
    provider = LoggerProvider(resource=resource)
    for exporter in exporters:
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return provider


def _make_global(telemetry: Telemetry) -> None:
    if telemetry.tracer_provider is not None:
        trace.set_tracer_provider(telemetry.tracer_provider)
    if telemetry.meter_provider is not None:
        metrics.set_meter_provider(telemetry.meter_provider)
    if telemetry.logger_provider is not None:
        set_logger_provider(telemetry.logger_provider)


def _resource(service_name: str | None, attributes: Mapping[str, str] | None) -> Resource:
    given = dict(attributes or {})
    if service_name is not None:
        given["service.name"] = service_name
    resource = Resource.create(given)
    if _INSTANCE_ID in resource.attributes:
        return resource
    # Older SDKs have none, and processes of one name would be one source to Prometheus.
    return resource.merge(Resource({_INSTANCE_ID: str(uuid4())}))
