"""Turns what servers hold into metrics, log events and attributes of the calls' spans."""

from __future__ import annotations

import threading
import time
import weakref

from opentelemetry._logs import LoggerProvider, get_logger, get_logger_provider
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider
from opentelemetry.trace import get_current_span
from opentelemetry.util.types import AttributeValue

from ollama_otel._exchange.exchange import CallFollower
from ollama_otel._telemetry import names
from ollama_otel._telemetry.residency_events import ResidencyEvents, reload_attributes
from ollama_otel._telemetry.residency_metrics import ResidencyMetrics
from ollama_otel._wire.durations import read_keep_alive
from ollama_otel._wire.load_options import load_options
from ollama_otel.records import CallRecord, CallStart
from ollama_otel.residency import Residency
from ollama_otel.residency._history import ModelInfo
from ollama_otel.residency._timeline import CallEnded, CallStarted
from ollama_otel.residency._watcher import Watcher
from ollama_otel.settings import Settings

__all__ = ["ResidencyObserver", "hold", "release", "residency_observer", "residency_of"]

_lock = threading.Lock()
_shared: weakref.ref[Residency] | None = None
_holders: weakref.WeakKeyDictionary[Residency, set[int]] = weakref.WeakKeyDictionary()


class _Global:
    """Stands for the global provider, whichever that will be."""


_GLOBAL = _Global()
# One of each for a provider: two would report everything twice.
_metrics: weakref.WeakKeyDictionary[MeterProvider | _Global, ResidencyMetrics] = (
    weakref.WeakKeyDictionary()
)
_events: weakref.WeakKeyDictionary[LoggerProvider | _Global, ResidencyEvents] = (
    weakref.WeakKeyDictionary()
)


def residency_observer(
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
    settings: Settings,
    version: str,
) -> ResidencyObserver:
    """Return what joins calls with what servers hold, and report to these providers."""
    residency = residency_of(settings)
    schema_url = names.SCHEMA_URLS[settings.profile]
    meters, loggers = get_meter_provider(), get_logger_provider()
    with _lock:
        owner = meter_provider if meter_provider not in (None, meters) else _GLOBAL
        metrics = _metrics.get(owner)
        if metrics is None:
            meter = get_meter(names.SCOPE, version, meter_provider, schema_url)
            metrics = _metrics[owner] = ResidencyMetrics(meter, settings.max_models)
        sender = logger_provider if logger_provider not in (None, loggers) else _GLOBAL
        events = _events.get(sender)
        if events is None:
            logger = get_logger(names.SCOPE, version, logger_provider, schema_url)
            events = _events[sender] = ResidencyEvents(logger)
    metrics.follow(residency)
    residency.listen(events)
    return ResidencyObserver(residency, settings)


def residency_of(settings: Settings) -> Residency:
    """Return the one of this process, made on first use.

    It lives as long as there is a reference to it; the shortest interval of all settings holds.
    """
    global _shared  # noqa: PLW0603 - one watcher for each server and process
    with _lock:
        residency = None if _shared is None else _shared()
        if residency is None or residency.is_closed:
            residency = Residency(interval=settings.residency_interval)
            _shared = weakref.ref(residency)
        elif settings.residency_interval < residency.interval:
            residency.set_interval(settings.residency_interval)
        return residency


def hold(residency: Residency, holder: object) -> None:
    """Keep a residency open until this object releases it."""
    with _lock:
        _holders.setdefault(residency, set()).add(id(holder))


def release(residency: Residency, holder: object) -> None:
    """Close a residency, unless another set-up of this process holds it."""
    with _lock:
        holders = _holders.get(residency, set())
        holders.discard(id(holder))
    if not holders:
        residency.close()


class ResidencyObserver:
    """Joins calls with what their server holds.

    It has to come before the observer that makes spans, which are writable until that one ends.
    """

    def __init__(self, residency: Residency, settings: Settings) -> None:
        self._residency = residency
        self._threshold = settings.cold_start_threshold

    def begin(self, start: CallStart) -> CallFollower | None:
        """Follow a call; its server is watched from its first answer on. See `Observer`."""
        url, request, endpoint = _base_url(start), start.request, start.endpoint
        if url is None:
            return None
        if request.model is None:
            return _Watching(self._residency, url)
        if request.purpose == "unload" or endpoint.name == "delete_model":
            return _Unloading(self._residency, url, request.model)
        if endpoint.answer not in {"completion", "embedding"}:
            return _Watching(self._residency, url)
        call = CallStarted(
            model=request.model,
            options=load_options(request.options),
            sent_at=time.perf_counter(),
            keep_alive=read_keep_alive(request.keep_alive),
        )
        return _Following(self._residency, url, call, self._threshold)


class _Watching(CallFollower):
    """Watches the server once it has answered: behind a mock's URL there may be none."""

    __slots__ = ("_residency", "_url")

    def __init__(self, residency: Residency, url: str) -> None:
        self._residency = residency
        self._url = url

    def end(self, record: CallRecord) -> None:
        self._watcher_after(record)

    def _watcher_after(self, record: CallRecord, call: CallStarted | None = None) -> Watcher | None:
        return self._residency.watcher(self._url, call) if record.is_from_network else None


class _Unloading(_Watching):
    __slots__ = ("_model",)

    def __init__(self, residency: Residency, url: str, model: str) -> None:
        super().__init__(residency, url)
        self._model = model

    def end(self, record: CallRecord) -> None:
        watcher = self._watcher_after(record)
        if watcher is not None and record.outcome == "completed":
            watcher.unloaded_on_request(self._model)


class _Following(_Watching):
    __slots__ = ("_call", "_threshold", "_watcher")

    def __init__(self, residency: Residency, url: str, call: CallStarted, threshold: float) -> None:
        super().__init__(residency, url)
        self._call = call
        self._threshold = threshold
        self._watcher = residency.known(url)
        if self._watcher is not None:
            self._watcher.call_started(call)

    def end(self, record: CallRecord) -> None:
        watcher = self._watcher
        if watcher is None:
            watcher = self._watcher_after(record, self._call)
            if watcher is None:
                return
        attributes = _span_attributes(watcher.call_ended(self._ended(record)))
        if attributes:
            get_current_span().set_attributes(attributes)

    def _ended(self, record: CallRecord) -> CallEnded:
        response = record.response
        load, total = response.load_duration, response.total_duration
        spent = 0.0 if total is None else total + (record.held_by_caller or 0.0)
        # Of a stream that was left early the model is in memory all the same.
        has_answered = record.outcome != "failed" and record.chunk_count > 0
        is_answer = record.is_from_network and not record.is_redirect
        return CallEnded(
            call=self._call,
            ended_at=time.perf_counter(),
            was_served=is_answer and (record.outcome == "completed" or has_answered),
            is_cold=load is not None and load >= self._threshold,
            load_duration=load,
            total_duration=total,
            delay=max(0.0, record.duration - spent),
            has_begun=record.http_status == 200,  # noqa: PLR2004
            has_crashed=record.is_from_network and record.error_type == "runner_crashed",
        )


def _base_url(start: CallStart) -> str | None:
    """Return where the server is: the call's URL without the endpoint."""
    path, host, port = start.path, start.server_address, start.server_port
    if start.server_scheme not in {"http", "https"} or path is None or not host or not port:
        return None
    end = path.rfind(start.endpoint.path.removesuffix("*"))
    if end < 0:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{start.server_scheme}://{host}:{port}{path[:end]}"


def _span_attributes(info: ModelInfo) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    if info.gpu_share is not None:
        attributes[names.MODEL_GPU_SHARE] = info.gpu_share
    if info.context_length is not None:
        attributes[names.MODEL_CONTEXT_LENGTH] = info.context_length
    if info.reload is not None:
        attributes |= reload_attributes(info.reload)
    return attributes
