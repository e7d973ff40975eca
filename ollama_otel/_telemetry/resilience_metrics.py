"""Metrics of retries, limiters, breakers and fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from opentelemetry.metrics import CallbackOptions, Meter
from opentelemetry.metrics import Observation as Measurement

from ollama_otel import _names as names
from ollama_otel._resilience.registry import limiter_states, open_circuits
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel.records import CallResilience

__all__ = ["ResilienceInstruments"]

Labels = Mapping[str, str | int]

_MAX_SERVERS = 200
"""Most servers with their own labels; the others are left out."""


class ResilienceInstruments:
    """The instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        self._wait = meter.create_histogram(
            rows.LIMITER_WAIT.name,
            unit=rows.LIMITER_WAIT.unit,
            description=rows.LIMITER_WAIT.description,
            explicit_bucket_boundaries_advisory=rows.LIMITER_WAIT.buckets,
        )
        self._retries, self._fallbacks, self._rejections = (
            meter.create_counter(row.name, unit=row.unit, description=row.description)
            for row in (rows.RETRIES, rows.FALLBACKS, rows.REJECTIONS)
        )
        _observe(meter, rows.LIMITER_ACTIVE, _active)
        _observe(meter, rows.LIMITER_WAITING, _waiting)
        _observe(meter, rows.OPEN_CIRCUITS, open_circuits)

    def record(self, done: CallResilience, labels: Labels, *, is_inference: bool) -> None:
        """Record the attempts of one call; `labels` are those of the call."""
        if done.limiter_wait and is_inference:
            self._wait.record(done.limiter_wait, labels)
        for error_type in done.retried:
            self._retries.add(1, {**labels, names.ERROR_TYPE: error_type})
        if done.server_address is not None or done.model is not None:
            self._fallbacks.add(1, labels)
        if done.rejection is not None:
            self._rejections.add(1, {**labels, names.REJECTION: done.rejection})


def _active() -> Mapping[str, int]:
    return {server: state.active for server, state in limiter_states().items()}


def _waiting() -> Mapping[str, int]:
    return {server: state.waiting for server, state in limiter_states().items()}


def _observe(meter: Meter, row: Instrument, counts: Callable[[], Mapping[str, int]]) -> None:
    def callback(options: CallbackOptions) -> Iterable[Measurement]:  # noqa: ARG001
        known = list(counts().items())[:_MAX_SERVERS]
        return [Measurement(count, _server_labels(server)) for server, count in known]

    meter.create_observable_up_down_counter(
        row.name, callbacks=[callback], unit=row.unit, description=row.description
    )


def _server_labels(server: str) -> Labels:
    url = urlsplit(server)
    return {names.SERVER_ADDRESS: url.hostname or "", names.SERVER_PORT: url.port or 0}
