"""Reports residency as metrics, log events and sections of records; shared in the process."""

from __future__ import annotations

import threading
import weakref
from typing import Final

from opentelemetry._logs import LoggerProvider, get_logger, get_logger_provider
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider

from ollama_otel import _names as names
from ollama_otel._enrich.residency import ResidencyEnricher
from ollama_otel._telemetry.per_provider import PerProvider
from ollama_otel._telemetry.residency_events import ResidencyEvents
from ollama_otel._telemetry.residency_metrics import ResidencyMetrics
from ollama_otel.residency import Residency
from ollama_otel.settings import Settings

__all__ = ["hold", "release", "residency_enricher", "residency_of"]

_lock = threading.Lock()
_shared: weakref.ref[Residency] | None = None
_holders: weakref.WeakKeyDictionary[Residency, set[int]] = weakref.WeakKeyDictionary()


# One instance per provider: two would report everything twice.
_metrics: Final[PerProvider[MeterProvider, ResidencyMetrics]] = PerProvider(get_meter_provider)
_events: Final[PerProvider[LoggerProvider, ResidencyEvents]] = PerProvider(get_logger_provider)


def residency_enricher(
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
    settings: Settings,
    version: str,
) -> ResidencyEnricher:
    """Return an enricher; these providers report residency from now on."""
    residency = residency_of(settings)
    schema_url = names.SCHEMA_URLS[settings.telemetry.profile]

    def make_metrics() -> ResidencyMetrics:
        meter = get_meter(names.SCOPE, version, meter_provider, schema_url)
        return ResidencyMetrics(meter, settings.telemetry.max_models)

    def make_events() -> ResidencyEvents:
        return ResidencyEvents(get_logger(names.SCOPE, version, logger_provider, schema_url))

    _metrics.get(meter_provider, make_metrics).follow(residency)
    residency.listen(_events.get(logger_provider, make_events))
    return ResidencyEnricher(residency)


def residency_of(settings: Settings) -> Residency:
    """Return the process's `Residency`, created at first use.

    It lives as long as a caller refers to it; the shortest requested interval applies to all.
    """
    global _shared  # noqa: PLW0603 - one watcher for each server and process
    with _lock:
        residency = None if _shared is None else _shared()
        if residency is None or residency.is_closed:
            residency = Residency(interval=settings.residency.interval)
            _shared = weakref.ref(residency)
        elif settings.residency.interval < residency.interval:
            residency.set_interval(settings.residency.interval)
        return residency


def hold(residency: Residency, holder: object) -> None:
    """Keep a residency open until this holder releases it."""
    with _lock:
        _holders.setdefault(residency, set()).add(id(holder))


def release(residency: Residency, holder: object) -> None:
    """Close a residency unless it has other holders in this process."""
    with _lock:
        holders = _holders.get(residency, set())
        holders.discard(id(holder))
    if not holders:
        residency.close()
