"""From providers and settings to an `Instrumentation`: the one place that puts it together."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypedDict, get_args

from opentelemetry._logs import LoggerProvider, get_logger
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer

from ollama_otel import _names as names
from ollama_otel._exchange.observers import Enricher, Instrumentation, LoggingObserver, Observer
from ollama_otel._telemetry.events import EventObserver
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel._telemetry.metrics import Instruments, MetricObserver
from ollama_otel._telemetry.per_provider import PerProvider
from ollama_otel._telemetry.spans import SpanTracing
from ollama_otel.errors import SettingsError
from ollama_otel.settings import Profile, Settings

if TYPE_CHECKING:
    from ollama_otel._log.observer import ReplayLog

__all__ = [
    "InstrumentationOptions",
    "build_instrumentation",
    "instrumentation_for",
    "replay_log_of",
    "use_by_default",
]


class InstrumentationOptions(TypedDict, total=False):
    """The keywords of every entry point: an `Instrumentation`, or what one is built from."""

    instrumentation: Instrumentation | None
    """Everything at once; give nothing else then."""
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    settings: Settings | None
    observers: Sequence[Observer]
    """Your own, beside spans and metrics."""
    enrichers: Sequence[Enricher]
    """Your own, beside those that the settings ask for."""


_lock = threading.Lock()
_instruments: Final[Mapping[Profile, PerProvider[MeterProvider, Instruments]]] = {
    profile: PerProvider(get_meter_provider) for profile in get_args(Profile)
}
_default: Instrumentation | None = None
_replay_logs: weakref.WeakValueDictionary[tuple[object, ...], ReplayLog] = (
    weakref.WeakValueDictionary()
)


@cache
def _version() -> str:
    """Read from the package's metadata once: it is a file, and each client asks."""
    return version("ollama_otel")


def _instruments_of(meter_provider: MeterProvider | None, profile: Profile) -> Instruments:
    """Return the instruments of a provider, the same ones each time."""

    def make() -> Instruments:
        meter = get_meter(
            names.SCOPE,
            _version(),
            meter_provider=meter_provider,
            schema_url=names.SCHEMA_URLS[profile],
        )
        return Instruments(meter, profile)

    return _instruments[profile].get(meter_provider, make)


def replay_log_of(settings: Settings) -> ReplayLog | None:
    """Return the log that settings ask for, the same one each time: it has one file."""
    if settings.replay_log is None:
        return None
    # Imported where it is used: structlog takes its time.
    from ollama_otel._log.observer import ReplayLog  # noqa: PLC0415

    options: dict[str, Any] = {
        "bodies": settings.replay_bodies,
        "media": settings.replay_media,
        "redactors": settings.redactors,
        "max_size": settings.replay_max_size,
        "max_age": settings.replay_max_age,
        "keep": settings.replay_keep,
    }
    key = (os.path.abspath(settings.replay_log), *options.values())  # noqa: PTH100 - of any path
    with _lock:
        log = _replay_logs.get(key)
        if log is None or log.is_closed:
            log = _replay_logs[key] = ReplayLog(settings.replay_log, **options)
        return log


def build_instrumentation(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    settings: Settings | None = None,
    observers: Sequence[Observer] = (),
    enrichers: Sequence[Enricher] = (),
) -> Instrumentation:
    """Put together what records calls: spans, metrics, and what the settings ask for.

    A provider of None is the global one; settings of None are read from the environment. Share
    the result among clients: `Client(instrumentation=...)`.
    """
    settings = settings or Settings.from_environ(lenient=True)
    schema_url = names.SCHEMA_URLS[settings.profile]
    keeps_content = settings.content_on_spans or settings.content_on_events
    messages = MessageWriter(settings) if keeps_content else None
    tracer = get_tracer(names.SCOPE, _version(), tracer_provider, schema_url=schema_url)
    instruments = _instruments_of(meter_provider, settings.profile)
    everyone: list[Observer] = [MetricObserver(instruments, settings)]
    replay_log = replay_log_of(settings)
    if replay_log is not None:
        everyone.append(replay_log)
    if settings.log_calls:
        from ollama_otel._telemetry.log_lines import LogLineObserver  # noqa: PLC0415

        everyone.append(LogLineObserver())
    if settings.details_event:
        logger = get_logger(names.SCOPE, _version(), logger_provider, schema_url=schema_url)
        everyone.append(EventObserver(logger, settings, messages))
    adding: list[Enricher] = []
    if settings.residency:
        # Imported where it is used: few ask for it.
        from ollama_otel._telemetry.residency import residency_enricher  # noqa: PLC0415

        adding.append(residency_enricher(meter_provider, logger_provider, settings, _version()))
    everyone += observers
    logs = [each for each in everyone if isinstance(each, LoggingObserver)]
    instruments.losses.update(log.losses() for log in logs)
    return Instrumentation(
        tracing=SpanTracing(tracer, settings, messages),
        enrichers=(*adding, *enrichers),
        observers=tuple(everyone),
        is_suppressed=_is_suppressed,
        keeps_content=keeps_content,
        keeps_request=any(log.keeps_request for log in logs),
        cold_start_threshold=settings.cold_start_threshold,
    )


def _is_suppressed() -> bool:
    return not is_instrumentation_enabled()


def _process_default() -> Instrumentation:
    global _default  # noqa: PLW0603 - what `configure` sets is the process's
    if _default is None:
        _default = build_instrumentation()
    return _default


def use_by_default(settings: Settings, observers: Sequence[Observer] = ()) -> None:
    """Let every client that was given nothing of its own record by these settings."""
    global _default  # noqa: PLW0603
    _default = build_instrumentation(settings=settings, observers=observers)


def instrumentation_for(options: InstrumentationOptions) -> Callable[[], Instrumentation]:
    """Return what gives the instrumentation to use, now and whenever `configure` changes it.

    A client that is given nothing follows the process's default. Raises `SettingsError` if an
    instrumentation is given together with what one is built from, and TypeError for a keyword
    that is not one of `InstrumentationOptions`.
    """
    if unknown := options.keys() - InstrumentationOptions.__annotations__.keys():
        raise TypeError(f"unexpected keywords: {', '.join(sorted(unknown))}")
    given: Any = {name: value for name, value in options.items() if value not in (None, (), [])}
    instrumentation: Instrumentation | None = given.pop("instrumentation", None)
    if instrumentation is not None and given:
        raise SettingsError(f"give either instrumentation or {', '.join(sorted(given))}, not both")
    if instrumentation is None and not given:
        return _process_default
    own = instrumentation or build_instrumentation(**given)
    return lambda: own
