"""`configure`: providers and exporters in one call, for apps that set up none themselves."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack
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

from ollama_otel._display import logger
from ollama_otel._exchange.observers import Enricher, Observer
from ollama_otel._telemetry import first_call
from ollama_otel._telemetry.export_failures import ExportFailures
from ollama_otel._telemetry.exporters import (
    OtlpProtocol,
    Signal,
    exporter_names,
    otlp_exporter,
    otlp_protocols,
    self_metrics_enabled,
)
from ollama_otel._telemetry.instrumentation import replay_log_of, use_by_default
from ollama_otel._telemetry.per_provider import is_stand_in
from ollama_otel._telemetry.scrape import (
    has_inherited,
    open_endpoint,
    place_from_environ,
    read_place,
)
from ollama_otel._telemetry.telemetry import Telemetry, is_shut_down, shut_down_at_exit
from ollama_otel.errors import SettingsError
from ollama_otel.settings import SettingKeywords, Settings
from ollama_otel.settings._kinds import SECONDS_ABOVE_0, Kind, choice, instance
from ollama_otel.settings._messages import did_you_mean, wrong_value
from ollama_otel.settings._settings import keywords

if TYPE_CHECKING:
    from ollama_otel.residency import Residency

__all__ = ["Telemetry", "configure"]

_CARDINALITY_LIMIT = 50_000
"""Label sets per instrument; this library limits their number before they get here.

The SDK's default of 2,000 would merge the series of 50 models on five servers.
"""
_INSTANCE_ID = "service.instance.id"
_INSTRUMENT_KINDS = (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
)

_KINDS: Mapping[str, Kind] = {
    "service_name": instance(str, "a text"),
    "endpoint": instance(str, "a URL such as http://localhost:4318", is_secret=True),
    "protocol": choice(OtlpProtocol),
    "headers": instance(Mapping, "a mapping", is_secret=True),
    "resource_attributes": instance(Mapping, "a mapping", is_secret=True),
    "export_interval": SECONDS_ABOVE_0,
    "prometheus": instance(str, "a text: HOST:PORT such as '127.0.0.1:9464', or the port"),
    "settings": instance(Settings, "a Settings object"),
}
"""What `configure` allows for the keywords that are not settings."""

_applied: dict[str, object] = {}
"""Keywords of the latest `configure` that set up providers."""
_without_effect: dict[str, object] = {}
"""Keywords of later calls, which have been reported."""

_log = logger()


def configure(  # noqa: PLR0913 - keywords of which an app gives a few
    *,
    service_name: str | None = None,
    endpoint: str | None = None,
    protocol: OtlpProtocol | None = None,
    headers: Mapping[str, str] | None = None,
    resource_attributes: Mapping[str, str] | None = None,
    export_interval: float | None = None,
    prometheus: str | None = None,
    settings: Settings | None = None,
    observers: Sequence[Observer] = (),
    enrichers: Sequence[Enricher] = (),
    **setting_values: Unpack[SettingKeywords],
) -> Telemetry:
    """Set up OpenTelemetry and the recording of Ollama calls for this process.

    Arguments that are not given come from the standard `OTEL_*` variables:
    `OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_ENDPOINT`, `..._PROTOCOL`, `..._HEADERS`,
    `OTEL_TRACES_EXPORTER` and so on. If the app has already set a provider for a signal,
    that signal is left unchanged. Pending data is exported when the interpreter exits; a process
    that a signal ends has to call `Telemetry.shutdown`, or to set `shutdown_on_sigterm`.

    `endpoint` is the base URL of a collector (`http://localhost:4318`, gRPC: port 4317).
    `export_interval` is the time between two metric exports, in seconds. `prometheus` is the
    `HOST:PORT`, or the port on localhost, on which to serve metrics to Prometheus; they are then
    also sent over OTLP only if `OTEL_METRICS_EXPORTER` names it. If it cannot listen there, it
    logs a warning and does not serve metrics. Further keywords are those of `Settings`.

    Raises `SettingsError` for an invalid value, `PriceError` for a price file that cannot be used,
    and `MissingExtraError` when gRPC or the scrape endpoint is requested but not installed.
    """
    given = {
        "service_name": service_name,
        "endpoint": endpoint,
        "protocol": protocol,
        "headers": headers,
        "resource_attributes": resource_attributes,
        "export_interval": export_interval,
    }
    _check({**given, "prometheus": prometheus, "settings": settings})
    settings = _settings(settings, setting_values)
    failures = ExportFailures()

    def exporters(signal: Signal, console: Callable[[], Any]) -> list[Any]:
        is_fetched = signal == "metrics" and prometheus is not None
        names = exporter_names(signal, default="prometheus" if is_fetched else "otlp")
        made: list[Any] = [console()] if "console" in names else []
        with self_metrics_enabled():
            made += [
                otlp_exporter(signal, each, endpoint=endpoint, headers=headers)
                for each in otlp_protocols(signal, names, protocol)
            ]
        for exporter in made:
            failures.watch(exporter, signal)
        return made

    _read_prices(settings)
    kept = _already_set(settings)
    # All errors are raised before global state is changed.
    resource = _resource(service_name, resource_attributes)
    try:
        telemetry = _build(settings, exporters, resource, export_interval, prometheus, failures)
    except SettingsError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"OpenTelemetry rejects an OTEL_* variable: {reason}") from error
    _make_global(telemetry)
    first_call.note_configured()
    shut_down_at_exit(telemetry)
    if settings.lifecycle.shutdown_on_sigterm:
        from ollama_otel._telemetry.sigterm import shut_down_on_sigterm  # noqa: PLC0415 - an option

        shut_down_on_sigterm(telemetry)
    _report_shut_down(kept)
    _report_without_effect(kept, telemetry, given)
    if telemetry.residency is not None:
        from ollama_otel._telemetry.residency import hold  # noqa: PLC0415 - few apps request it

        hold(telemetry.residency, telemetry)
    use_by_default(settings, observers, enrichers)
    return telemetry


def _check(given: Mapping[str, object]) -> None:
    """Raise `SettingsError` for a keyword whose value no exporter could use."""
    for name, value in given.items():
        kind = _KINDS[name]
        if value is not None and not kind.accepts(value):
            raise wrong_value(name, kind.code, kind.shown(value))


def _settings(settings: Settings | None, values: Mapping[str, Any]) -> Settings:
    own = set(inspect.signature(configure).parameters) - {"setting_values"}
    known = own | keywords().keys()
    if unknown := sorted(values.keys() - known):
        found = ", ".join(name + did_you_mean(name, known) for name in unknown)
        raise SettingsError(f"unknown keyword {found}; the keywords are {', '.join(sorted(known))}")
    if settings is not None and values:
        raise SettingsError(f"give either settings or {', '.join(sorted(values))}, not both")
    if settings is not None:
        return settings
    return Settings.from_environ(**values)


def _read_prices(settings: Settings) -> None:
    """Read the price file, if configured, so that its errors are raised here."""
    if settings.cost.prices is not None:
        from ollama_otel._prices.reading import prices_of  # noqa: PLC0415 - few apps have prices

        # Again, as it may have changed since an earlier `configure`.
        prices_of(settings.cost.prices, again=True)


def _build(
    settings: Settings,
    exporters: Callable[[Signal, Callable[[], Any]], list[Any]],
    resource: Resource,
    export_interval: float | None,
    prometheus: str | None,
    failures: ExportFailures,
) -> Telemetry:
    """Create a provider for each signal that is enabled and not set up by the app."""
    span_exporters: list[SpanExporter] = []
    metric_exporters: list[MetricExporter] = []
    log_exporters: list[LogRecordExporter] = []
    place = None
    if is_stand_in(trace.get_tracer_provider()):
        span_exporters = exporters("traces", ConsoleSpanExporter)
    if is_stand_in(metrics.get_meter_provider()):
        metric_exporters = exporters("metrics", ConsoleMetricExporter)
        place = _scrape_place(prometheus)
    elif has_inherited():
        place = _scrape_place(prometheus)
    elif prometheus is not None:
        _log.warning(
            "metrics are not served to Prometheus at %s: a meter provider is already set; "
            "add a PrometheusMetricReader to that provider, or call configure() before it is set",
            prometheus,
        )
    if settings.content.details_event and is_stand_in(get_logger_provider()):
        log_exporters = exporters("logs", ConsoleLogRecordExporter)
    tracer_provider = _tracer_provider(span_exporters, resource, failures)
    logger_provider = _logger_provider(log_exporters, resource, failures)
    replay_log = replay_log_of(settings)
    residency = _residency(settings)
    readers = _readers(metric_exporters, export_interval)
    # The endpoint binds a port, so it is created last: an error above must not leave it bound.
    is_new = not has_inherited()
    endpoint = (
        None
        if place is None
        else open_endpoint(*place, hosts=settings.scrape.hosts, **_reader_options())
    )
    if endpoint is not None and is_new:
        readers.append(endpoint.reader)
    return Telemetry(
        tracer_provider=tracer_provider,
        meter_provider=_meter_provider(readers, resource),
        logger_provider=logger_provider,
        settings=settings,
        replay_log=replay_log,
        scrape_endpoint=endpoint,
        residency=residency,
        _failures=failures,
    )


def _residency(settings: Settings) -> Residency | None:
    """Return a `Residency` that watches servers from now on, if requested.

    It watches the servers that are called and the one that `OLLAMA_HOST` names. It does not
    watch the default address: no server may run there, and it would count as down.
    """
    if not settings.residency.enabled:
        return None
    # Imported on use: few apps request it.
    from ollama_otel._telemetry.residency import residency_of  # noqa: PLC0415

    residency = residency_of(settings)
    host = os.environ.get("OLLAMA_HOST", "").strip()
    if not host:
        return residency
    try:
        residency.watch(host)
    except ValueError as error:
        _log.warning("the server in OLLAMA_HOST is not watched: %s", error)
    return residency


def _scrape_place(given: str | None) -> tuple[str, int] | None:
    if given is not None:
        return read_place(given)
    return place_from_environ() if "prometheus" in exporter_names("metrics") else None


def _tracer_provider(
    exporters: Sequence[SpanExporter], resource: Resource, failures: ExportFailures
) -> TracerProvider | None:
    if not exporters:
        return None
    # `Telemetry.shutdown` shuts the providers down at exit, side by side.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    with self_metrics_enabled():
        for exporter in exporters:
            processor = BatchSpanProcessor(exporter)
            failures.note_waiting(exporter, processor)
            provider.add_span_processor(processor)
    return provider


def _meter_provider(readers: Sequence[MetricReader], resource: Resource) -> MeterProvider | None:
    return MeterProvider(readers, resource, shutdown_on_exit=False) if readers else None


def _readers(
    exporters: Sequence[MetricExporter], export_interval: float | None
) -> list[MetricReader]:
    millis = None if export_interval is None else export_interval * 1000
    return [
        PeriodicExportingMetricReader(exporter, export_interval_millis=millis, **_reader_options())
        for exporter in exporters
    ]


def _reader_options() -> dict[str, Any]:
    """Return the higher cardinality limit, if this version of the SDK has the option."""
    if "cardinality_limits" not in inspect.signature(MetricReader.__init__).parameters:
        return {}
    return {"cardinality_limits": dict.fromkeys(_INSTRUMENT_KINDS, _CARDINALITY_LIMIT)}


def _logger_provider(
    exporters: Sequence[LogRecordExporter], resource: Resource, failures: ExportFailures
) -> LoggerProvider | None:
    if not exporters:
        return None
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in exporters:
        processor = BatchLogRecordProcessor(exporter)
        failures.note_waiting(exporter, processor)
        provider.add_log_record_processor(processor)
    return provider


def _make_global(telemetry: Telemetry) -> None:
    if telemetry.tracer_provider is not None:
        trace.set_tracer_provider(telemetry.tracer_provider)
    if telemetry.meter_provider is not None:
        metrics.set_meter_provider(telemetry.meter_provider)
    if telemetry.logger_provider is not None:
        set_logger_provider(telemetry.logger_provider)


def _already_set(settings: Settings) -> dict[Signal, Any]:
    """Return the providers that stay as they are."""
    providers: dict[Signal, Any] = {
        "traces": trace.get_tracer_provider(),
        "metrics": metrics.get_meter_provider(),
    }
    if settings.content.details_event:
        providers["logs"] = get_logger_provider()
    return {signal: each for signal, each in providers.items() if not is_stand_in(each)}


def _report_shut_down(kept: Mapping[Signal, Any]) -> None:
    """Log a warning if nothing can be exported, as after a `shutdown` in a notebook."""
    signals = [signal for signal, provider in kept.items() if is_shut_down(provider)]
    if signals:
        _log.warning(
            "%s are no longer exported: Telemetry.shutdown() has ended the providers, and a "
            "process cannot set others; call it once, at the end, and flush() before that",
            ", ".join(signals),
        )


def _report_without_effect(
    kept: Mapping[Signal, Any], telemetry: Telemetry, given: Mapping[str, object]
) -> None:
    """Log a warning if keywords cannot change the providers that are already set.

    No warning for an app that has its own provider for some signals and passes keywords for the
    others. A notebook may run the same call again: no warning, or the same one only once.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if telemetry.tracer_provider is not None or telemetry.meter_provider is not None:
        _applied.clear()
        _applied.update(values)
        _without_effect.clear()
        return
    changed = [
        name
        for name, value in values.items()
        if value not in (_applied.get(name), _without_effect.get(name))
    ]
    if kept and changed:
        _without_effect.update(values)
        _log.warning(
            "%s given to configure() cannot change the providers that are already set for %s; "
            "call configure() once, before anything else sets a provider",
            ", ".join(changed),
            ", ".join(kept),
        )


def _resource(service_name: str | None, attributes: Mapping[str, str] | None) -> Resource:
    given = dict(attributes or {})
    if service_name is not None:
        given["service.name"] = service_name
    resource = Resource.create(given)
    if _INSTANCE_ID in resource.attributes:
        return resource
    # Older SDKs set no instance id; Prometheus would merge processes of the same name.
    return resource.merge(Resource({_INSTANCE_ID: str(uuid4())}))
