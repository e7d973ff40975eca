"""Puts the observers of a client together: from providers and settings to a `Instrumentation`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LoggerProvider, get_logger
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer

from ollama_otel._exchange.exchange import Instrumentation, Observer
from ollama_otel._log.writer import Writer
from ollama_otel import _names as names
from ollama_otel._telemetry.events import EventObserver
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel._telemetry.metrics import Instruments, MetricObserver
from ollama_otel._telemetry.spans import SpanObserver
from ollama_otel.settings import Profile, Settings

if TYPE_CHECKING:
    from ollama_otel._log.observer import ReplayLog

__all__ = ["recording_for", "replay_log_of", "use_by_default"]

_lock = threading.Lock()
# Before a global provider is set the API hands out stand-ins that turn real later on, so
# the global instruments are made once, whichever provider that will be.
_global_instruments: dict[Profile, Instruments] = {}
_instruments: weakref.WeakKeyDictionary[MeterProvider, dict[Profile, Instruments]] = (
    weakref.WeakKeyDictionary()
)
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
    with _lock:
        if meter_provider is None or meter_provider is get_meter_provider():
            by_profile = _global_instruments
        else:
            by_profile = _instruments.setdefault(meter_provider, {})
        if profile not in by_profile:
            meter = get_meter(
                names.SCOPE,
                _version(),
                meter_provider=meter_provider,
                schema_url=names.SCHEMA_URLS[profile],
            )
            by_profile[profile] = Instruments(meter, profile)
        return by_profile[profile]


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


def _build(
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
    settings: Settings,
    observers: Sequence[Observer],
) -> Instrumentation:
    schema_url = names.SCHEMA_URLS[settings.profile]
    keeps_content = settings.content_on_spans or settings.content_on_events
    messages = MessageWriter(settings) if keeps_content else None
    tracer = get_tracer(names.SCOPE, _version(), tracer_provider, schema_url=schema_url)
    # The span comes first: it is current while the others take the record.
    instruments = _instruments_of(meter_provider, settings.profile)
    ours: list[Observer] = [
        SpanObserver(tracer, settings, messages),
        MetricObserver(instruments, settings),
    ]
    replay_log = replay_log_of(settings)
    if replay_log is not None:
        ours.append(replay_log)
    if settings.log_calls:
        from ollama_otel._telemetry.log_lines import LogLineObserver  # noqa: PLC0415

        ours.append(LogLineObserver())
    if settings.details_event:
        logger = get_logger(names.SCOPE, _version(), logger_provider, schema_url=schema_url)
        ours.append(EventObserver(logger, settings, messages))
    if settings.residency:
        # Imported where it is used: few ask for it.
        from ollama_otel._telemetry.residency import residency_observer  # noqa: PLC0415

        # Before the span's, as it adds to what that one ends.
        ours.insert(0, residency_observer(meter_provider, logger_provider, settings, _version()))
    everyone = (*ours, *observers)
    writers = [getattr(each, "writer", None) for each in everyone]
    instruments.log_writers.update(each for each in writers if isinstance(each, Writer))
    return Instrumentation(
        observers=everyone,
        is_suppressed=lambda: not is_instrumentation_enabled(),
        keeps_content=keeps_content,
        keeps_request=any(getattr(each, "keeps_request", False) for each in everyone),
    )


def _default_recording() -> Instrumentation:
    global _default  # noqa: PLW0603 - what `configure` sets is the process's
    if _default is None:
        _default = _build(None, None, None, Settings.from_environ(lenient=True), ())
    return _default


def use_by_default(settings: Settings, observers: Sequence[Observer] = ()) -> None:
    """Let every client that was given nothing of its own record by these settings."""
    global _default  # noqa: PLW0603
    _default = _build(None, None, None, settings, observers)


def recording_for(
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
    settings: Settings | None,
    observers: Sequence[Observer],
) -> Callable[[], Instrumentation]:
    """Return what gives the recording to use, now and whenever `configure` changes it.

    A client that is given nothing follows the process's defaults.
    """
    given = (tracer_provider, meter_provider, logger_provider, settings)
    if all(value is None for value in given) and not observers:
        return _default_recording
    settings = settings or Settings.from_environ(lenient=True)
    own = _build(tracer_provider, meter_provider, logger_provider, settings, observers)
    return lambda: own
