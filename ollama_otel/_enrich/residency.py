"""Adds residency to a call: GPU share, context length, and the cause of a reload."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from ollama_otel._wire.durations import read_keep_alive
from ollama_otel._wire.load_options import load_options
from ollama_otel.records import CallRecord, CallStart, ModelResidency, ResponseFacts
from ollama_otel.residency import OptionValue, Residency
from ollama_otel.residency._history import ModelInfo
from ollama_otel.residency._residency import watchers_of
from ollama_otel.residency._timeline import CallEnded, CallStarted
from ollama_otel.residency._watcher import Watcher

__all__ = ["ResidencyEnricher", "option_text"]

_NOTHING_KNOWN: Final = ModelInfo()
_OK: Final = 200
_FIRST_ERROR: Final = 400
_OF_PROXIES: Final = frozenset({407, 502, 503, 504})
"""Statuses of errors that proxies and gateways send for a server that they cannot reach."""
_OF_CONNECTIONS: Final = frozenset({"connect", "network", "incomplete"})
"""Errors of a connection that was refused, or that broke."""
_SAID_BY_SERVER: Final = frozenset({"error_status", "error_message"})

Enrichment = Callable[[CallRecord], ModelResidency | None]


class ResidencyEnricher:
    """Adds `CallRecord.residency`, and reports calls to the watchers."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency  # Its threads end with it.
        self._watchers = watchers_of(residency)

    def begin(self, start: CallStart) -> Enrichment | None:
        url, request = start.base_url, start.request
        if url is None:
            return None
        if request.model is None:
            return partial(self._watch, url)
        if request.purpose == "unload" or start.endpoint.name == "delete_model":
            return partial(self._unload, url, request.model)
        if not start.endpoint.moves_model:
            return partial(self._watch, url)
        call = CallStarted(
            model=request.model,
            options=load_options(request.options),
            sent_at=time.perf_counter(),
            keep_alive=read_keep_alive(request.keep_alive),
        )
        if start.is_for_network:
            # Before the response, to observe the load that this call may need.
            return partial(self._join, url, self._watchers.watcher(url, call), call)
        watcher = self._watchers.known(url)
        if watcher is not None:
            watcher.call_started(call)
        return partial(self._join, url, watcher, call)

    def _watch(self, url: str, record: CallRecord) -> None:
        self._watcher(url, record)

    def _watcher(self, url: str, record: CallRecord) -> Watcher | None:
        """Watch a server from its first call on, unless the call used a mock."""
        if not (record.is_from_network or record.start.is_for_network):
            return None
        watcher = self._watchers.watcher(url)
        if watcher is not None:
            _note_reach(watcher, record)
        return watcher

    def _unload(self, url: str, model: str, record: CallRecord) -> None:
        watcher = self._watcher(url, record)
        if watcher is not None and record.is_from_network and record.outcome == "completed":
            watcher.unloaded_on_request(model)

    def _join(
        self, url: str, watcher: Watcher | None, call: CallStarted, record: CallRecord
    ) -> ModelResidency | None:
        done = record.resilience
        if done.server_address is not None or done.model is not None:
            # A fallback answered, which says nothing about this server and this model.
            if watcher is not None:
                watcher.call_ended(_ended(call, _without_answer(record)))
            return None
        if watcher is not None:
            _note_reach(watcher, record)
        elif record.is_from_network:
            watcher = self._watchers.watcher(url, call)
            if watcher is not None:
                _note_reach(watcher, record)
        return None if watcher is None else _section(watcher.call_ended(_ended(call, record)))


def _note_reach(watcher: Watcher, record: CallRecord) -> None:
    """Report to the watcher whether a call reached its server."""
    now = time.perf_counter()
    if record.is_from_network and _is_answer(record):
        # An incomplete body proves only that the response began.
        is_whole = record.outcome == "completed" or record.ending in _SAID_BY_SERVER
        began = now - record.duration + (record.time_to_first_chunk or 0.0)
        watcher.answered(now if is_whole else began)
    is_broken = record.ending == "exception" and record.error_type in _OF_CONNECTIONS
    if record.start.is_for_network and is_broken:
        watcher.missed(now)


def _without_answer(record: CallRecord) -> CallRecord:
    return replace(
        record,
        is_from_network=False,
        http_status=None,
        cold_start=None,
        response=ResponseFacts(),
    )


def _is_answer(record: CallRecord) -> bool:
    """Whether the server itself answered, and not a proxy on the way to it."""
    status = record.http_status
    if status is None or record.has_redirect_status or record.error_type == "protocol":
        return False
    if status < _FIRST_ERROR:
        return True
    return status not in _OF_PROXIES and (record.content_type or "").startswith("application/json")


def _ended(call: CallStarted, record: CallRecord) -> CallEnded:
    response = record.response
    total = response.total_duration
    spent = 0.0 if total is None else total + (record.held_by_caller or 0.0)
    # The model is in memory even if the caller closed the stream early.
    has_answered = record.outcome != "failed" and record.chunk_count > 0
    is_answer = record.is_from_network and not record.is_hop
    return CallEnded(
        call=call,
        ended_at=time.perf_counter(),
        was_served=is_answer and (record.outcome == "completed" or has_answered),
        has_begun=record.http_status == _OK,
        is_cold=bool(record.cold_start),
        load_duration=response.load_duration,
        total_duration=total,
        delay=max(0.0, record.duration - spent),
        has_crashed=record.is_from_network and record.error_type == "runner_crashed",
    )


def _section(known: ModelInfo) -> ModelResidency | None:
    reload = known.reload
    if known == _NOTHING_KNOWN:
        return None
    return ModelResidency(
        gpu_share=known.gpu_share,
        model_size=known.size,
        model_gpu_size=known.gpu_size,
        context_length=known.context_length,
        reload_cause=None if reload is None else reload.cause,
        reload_before=None if reload is None else option_text(reload.before),
        reload_after=None if reload is None else option_text(reload.after),
        evicted_by=None if reload is None else reload.evicted_by,
    )


def option_text(value: OptionValue | None) -> str | None:
    """Return an option's value as JSON text: a fact has one type, options have several."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
