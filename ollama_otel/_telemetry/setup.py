"""`configure`: providers and OTLP exporters in one call, for apps that have none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExporter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from ollama_otel._call import Observer
from ollama_otel._telemetry.recording import replay_log_of, use_by_default
from ollama_otel.errors import MissingExtraError, SettingsError
from ollama_otel.settings import Settings

if TYPE_CHECKING:
    from ollama_otel._replay_log.observer import ReplayLog

__all__ = ["Signal", "Telemetry", "configure", "exporter_name", "otlp_exporter"]

Signal = Literal["traces", "metrics", "logs"]
Protocol = Literal["http/protobuf", "grpc"]

_PROTOCOLS = ("http/protobuf", "grpc")
_MODULES: Mapping[Protocol, str] = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
}
_EXPORTERS: Mapping[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_PATHS: Mapping[Signal, str] = {"traces": "v1/traces", "metrics": "v1/metrics", "logs": "v1/logs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What `configure` set up; None stands for what the app had set up, or has switched off."""

    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    settings: Settings
    replay_log: ReplayLog | None = None

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
        for provider in (self.tracer_provider, self.meter_provider, self.logger_provider):
            if provider is not None:
                provider.shutdown()
        if self.replay_log is not None:
            self.replay_log.close()


def _protocol(signal: Signal, given: str | None) -> Protocol:
    for source, value in (
        ("the argument protocol", given),
        *(
            (variable, os.environ.get(variable, "").strip())
            for variable in (
                f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            )
        ),
    ):
        if value in _MODULES:
            return value  # type: ignore[return-value]
        if value:
            expected = " or ".join(_PROTOCOLS)
            raise SettingsError(f"{source} must be {expected}, not {value!r}")
    return "http/protobuf"


def otlp_exporter(
    signal: Signal,
    *,
    protocol: str | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Return an exporter; what is not given comes from the standard variables.

    Raises `SettingsError` for an unknown protocol or an endpoint that is no URL, and
    `MissingExtraError` when gRPC is asked for and not installed.
    """
    chosen = _protocol(signal, protocol)
    module, name = _EXPORTERS[signal]
    try:
        exporter = getattr(import_module(f"{_MODULES[chosen]}.{module}"), name)
    except ImportError as error:
        if chosen != "grpc":
            raise
        raise MissingExtraError(
            "OTLP over gRPC needs a package that is not installed: "
            "pip install 'ollama_otel[grpc]', or use protocol='http/protobuf'"
        ) from error
    options: dict[str, Any] = {}
    if chosen == "http/protobuf":
        _check_url(signal, endpoint)
    if endpoint is not None:
        is_http = chosen == "http/protobuf"
        options["endpoint"] = f"{endpoint.rstrip('/')}/{_PATHS[signal]}" if is_http else endpoint
        if not is_http:
            options["insecure"] = not endpoint.startswith("https://")
    if headers is not None:
        options["headers"] = dict(headers)
    return exporter(**options)


def _check_url(signal: Signal, given: str | None) -> None:
    """Refuse what the exporter would take, and then fail on at every export."""
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    sources = [(name, os.environ.get(name, "").strip()) for name in variables]
    for source, value in (("the argument endpoint", given), *sources):
        if value and not value.startswith(("http://", "https://")):
            raise SettingsError(
                f"{source} must be a URL such as http://localhost:4318, not {value!r}"
            )
        if value:
            return


def exporter_name(signal: Signal) -> str:
    """Return what `OTEL_..._EXPORTER` chooses: otlp, console or none."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    name = os.environ.get(variable, "").strip().lower() or "otlp"
    if name not in {"otlp", "console", "none"}:
        raise SettingsError(f"{variable} must be otlp, console or none, not {name!r}")
    return name


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
    `export_interval` the seconds between two exports of metrics. Further keywords are
    fields of `Settings`.

    Raises `SettingsError` for a value that cannot be used and `MissingExtraError` when
    gRPC is asked for and not installed.
    """
    settings = _settings(settings, setting_values)
    if export_interval is not None and not 0 < export_interval < float("inf"):
        raise SettingsError(f"export_interval must be seconds above 0, not {export_interval!r}")

    def exporter(signal: Signal, console: Callable[[], Any]) -> Any:
        match exporter_name(signal):
            case "none":
                return None
            case "console":
                return console()
        return otlp_exporter(signal, protocol=protocol, endpoint=endpoint, headers=headers)

    # Everything that can be refused is refused before anything global is set.
    resource = _resource(service_name, resource_attributes)
    try:
        telemetry = _build(settings, exporter, resource, export_interval)
    except SettingsError:
        raise
    except ValueError as error:
        complaint = " ".join(str(error).split())
        raise SettingsError(f"OpenTelemetry refuses an OTEL_* variable: {complaint}") from error
    _make_global(telemetry)
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
    exporter: Callable[[Signal, Callable[[], Any]], Any],
    resource: Resource,
    export_interval: float | None,
) -> Telemetry:
    """Make a provider for each signal that the app has not set up, and that is not off."""
    span_exporter = metric_exporter = log_exporter = None
    if _is_unset(trace.get_tracer_provider()):
        span_exporter = exporter("traces", ConsoleSpanExporter)
    if _is_unset(metrics.get_meter_provider()):
        metric_exporter = exporter("metrics", ConsoleMetricExporter)
    if settings.details_event and _is_unset(get_logger_provider()):
        log_exporter = exporter("logs", ConsoleLogRecordExporter)
    return Telemetry(
        tracer_provider=_tracer_provider(span_exporter, resource),
        meter_provider=_meter_provider(metric_exporter, resource, export_interval),
        logger_provider=_logger_provider(log_exporter, resource),
        settings=settings,
        replay_log=replay_log_of(settings),
    )


def _tracer_provider(exporter: SpanExporter | None, resource: Resource) -> TracerProvider | None:
    if exporter is None:
        return None
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _meter_provider(
    exporter: MetricExporter | None, resource: Resource, export_interval: float | None
) -> MeterProvider | None:
    if exporter is None:
        return None
    millis = None if export_interval is None else export_interval * 1000
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=millis)
    return MeterProvider(metric_readers=[reader], resource=resource)


def _logger_provider(
    exporter: LogRecordExporter | None, resource: Resource
) -> LoggerProvider | None:
    if exporter is None:
        return None
    provider = LoggerProvider(resource=resource)
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
    return Resource.create(given)
