"""Metrics of residency: observable gauges, and counters of events."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from opentelemetry.metrics import CallbackOptions, Meter
from opentelemetry.metrics import Observation as Measurement

from ollama_otel import _names as names
from ollama_otel import _process
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel.residency import (
    Event,
    LoadedModel,
    ModelLoad,
    ModelReload,
    ModelUnload,
    Residency,
    ServerState,
)
from ollama_otel.residency._gpu import Gpu, GpuReader, find_nvml

__all__ = ["ResidencyMetrics"]

Labels = dict[str, str | int]
Series = tuple[tuple[str, str | int], ...]

_MAX_EVICTIONS = 200
"""Most pairs of models with their own series of evictions."""


def _flag(value: bool | None) -> int | None:  # noqa: FBT001 - a value, not a switch
    return None if value is None else int(value)


_OF_SERVER: dict[Instrument, Callable[[ServerState], int | None]] = {
    rows.SERVER_UP: lambda server: _flag(server.is_up),
    rows.SERVER_BUSY: lambda server: _flag(server.is_busy),
    rows.MODELS_LOADED: lambda server: None if server.models is None else len(server.models),
    rows.MODELS_INSTALLED: lambda server: server.installed,
}
_OF_MODEL: dict[Instrument, Callable[[LoadedModel], float | None]] = {
    rows.GPU_SHARE: lambda model: model.gpu_share,
    rows.CONTEXT_LENGTH: lambda model: model.context_length,
    rows.EXPIRY: lambda model: model.expires_in,
}
_OF_GPU: dict[Instrument, Callable[[Gpu], float | None]] = {
    rows.GPU_MEMORY_USAGE: lambda gpu: gpu.memory_usage,
    rows.GPU_MEMORY_LIMIT: lambda gpu: gpu.memory_limit,
    rows.GPU_UTILIZATION: lambda gpu: gpu.utilization,
    rows.GPU_TEMPERATURE: lambda gpu: gpu.temperature,
    rows.GPU_POWER: lambda gpu: gpu.power,
    rows.GPU_ENERGY: lambda gpu: gpu.energy,
}


class ResidencyMetrics:
    """The instruments of one meter that report residency.

    Gauges read the followed `Residency`; counters count its events.
    """

    def __init__(self, meter: Meter, max_models: int, gpus: GpuReader | None = None) -> None:
        self._max_models = max_models
        self.lock = threading.RLock()
        self._followed: weakref.ref[Residency] | None = None
        self._models: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()
        self._counts: dict[Instrument, dict[Series, int]] = {
            row: {} for row in (rows.LOADS, rows.RELOADS, rows.UNLOADS, rows.EVICTIONS)
        }
        self._gpus = GpuReader(find_nvml()) if gpus is None else gpus
        readers: dict[Instrument, Callable[[ResidencyMetrics], Iterable[Measurement]]] = {
            rows.SERVER_INFO: ResidencyMetrics._versions,
            rows.MEMORY_USAGE: ResidencyMetrics._memory,
            **{row: partial(ResidencyMetrics._of_servers, row=row) for row in _OF_SERVER},
            **{row: partial(ResidencyMetrics._of_models, row=row) for row in _OF_MODEL},
            **{row: partial(ResidencyMetrics._counted, row=row) for row in self._counts},
        }
        for row, read in readers.items():
            self._observe(meter, row, partial(ResidencyMetrics._locked, read=read))
        # Without the lock: a call that counts an event must not wait for a slow driver.
        for row in _OF_GPU:
            self._observe(meter, row, partial(ResidencyMetrics._of_gpus, row=row))
        _process.at_fork(after_in_child=self._reset_after_fork)

    def follow(self, residency: Residency) -> None:
        """Report this residency from now on; following it again changes nothing."""
        with self.lock:
            before = None if self._followed is None else self._followed()
            if before is residency:
                return
            if before is not None:
                before.forget(self.count)
            self._followed = weakref.ref(residency)
        residency.listen(self.count)

    def count(self, address: str, port: int, event: Event) -> None:
        """Count an event of a server; a `Listener`."""
        match event:
            case ModelLoad():
                self._add(rows.LOADS, address, port, event.model)
            case ModelReload():
                cause = {names.RELOAD_CAUSE: event.cause}
                self._add(rows.RELOADS, address, port, event.model, cause)
            case ModelUnload():
                reason = {names.UNLOAD_REASON: event.reason}
                self._add(rows.UNLOADS, address, port, event.model, reason)
                if event.reason == "evicted":
                    self._evicted(address, port, event)

    def _evicted(self, address: str, port: int, event: ModelUnload) -> None:
        with self.lock:
            by, pair = event.evicted_by, (event.model, event.evicted_by or "")
            if pair not in self._pairs:
                if len(self._pairs) < _MAX_EVICTIONS:
                    self._pairs.add(pair)
                else:
                    by = names.OTHER
            labels = {} if by is None else {names.EVICTED_BY: by}
            model = names.OTHER if by == names.OTHER else event.model
            self._add(rows.EVICTIONS, address, port, model, labels)

    def _add(
        self,
        row: Instrument,
        address: str,
        port: int,
        model: str,
        more: Mapping[str, str] | None = None,
    ) -> None:
        with self.lock:
            series = tuple({**self._labels(address, port, model), **(more or {})}.items())
            counts = self._counts[row]
            counts[series] = counts.get(series, 0) + 1

    def _labels(self, address: str, port: int, model: str) -> Labels:
        """Return a model's labels; above the limit of models, the labels of all other models."""
        if model not in self._models:
            if len(self._models) < self._max_models:
                self._models.add(model)
            else:
                model = names.OTHER
        return {names.MODEL_NAME: model, **_server_labels(address, port)}

    # --- reading --------------------------------------------------------------------------

    def _observe(
        self,
        meter: Meter,
        row: Instrument,
        read: Callable[[ResidencyMetrics], Iterable[Measurement]],
    ) -> None:
        """Register a callback that reads a row; it does not keep this object alive."""
        reference = weakref.ref(self)

        def callback(options: CallbackOptions) -> Iterable[Measurement]:  # noqa: ARG001
            metrics = reference()
            return () if metrics is None else read(metrics)

        create = (
            meter.create_observable_gauge
            if row.kind == "gauge"
            else meter.create_observable_counter
        )
        create(row.name, callbacks=[callback], unit=row.unit, description=row.description)

    def _locked(
        self, read: Callable[[ResidencyMetrics], Iterable[Measurement]]
    ) -> list[Measurement]:
        with self.lock:
            return list(read(self))

    def _servers(self) -> tuple[ServerState, ...]:
        residency = None if self._followed is None else self._followed()
        return () if residency is None else residency.servers()

    def _models_of(self, server: ServerState) -> Iterator[tuple[LoadedModel, Labels]]:
        for model in server.models or ():
            labels = self._labels(server.address, server.port, model.name)
            # A gauge for all other models would show the value of an arbitrary one.
            if labels[names.MODEL_NAME] != names.OTHER:
                yield model, labels

    def _of_servers(self, row: Instrument) -> Iterator[Measurement]:
        for server in self._servers():
            if (value := _OF_SERVER[row](server)) is not None:
                yield Measurement(value, _server_labels(server.address, server.port))

    def _versions(self) -> Iterator[Measurement]:
        for server in self._servers():
            if server.version is not None:
                labels = _server_labels(server.address, server.port)
                yield Measurement(1, {names.SERVER_VERSION: server.version, **labels})

    def _of_models(self, row: Instrument) -> Iterator[Measurement]:
        for server in self._servers():
            for model, labels in self._models_of(server):
                if (value := _OF_MODEL[row](model)) is not None:
                    yield Measurement(value, labels)

    def _memory(self) -> Iterator[Measurement]:
        for server in self._servers():
            for model, labels in self._models_of(server):
                for kind, size in (("gpu", model.gpu_size), ("cpu", model.cpu_size)):
                    if size is not None:
                        yield Measurement(size, {**labels, names.MEMORY_TYPE: kind})

    def _counted(self, row: Instrument) -> Iterator[Measurement]:
        return (Measurement(count, dict(series)) for series, count in self._counts[row].items())

    def _of_gpus(self, row: Instrument) -> Iterator[Measurement]:
        # Only while servers are watched: reading keeps the driver active.
        if self._followed is None or self._followed() is None:
            return
        for gpu in self._gpus.read():
            if (value := _OF_GPU[row](gpu)) is not None:
                known = {
                    names.HARDWARE_ID: gpu.id,
                    names.HARDWARE_NAME: gpu.name,
                    names.HARDWARE_PARENT: gpu.parent,
                    names.HARDWARE_TYPE: "gpu",
                    names.GPU_TASK: "general",
                    names.SENSOR_LOCATION: "gpu",
                }
                labels = {label: known[label] for label in row.labels}
                yield Measurement(value, {k: v for k, v in labels.items() if v is not None})

    def _reset_after_fork(self) -> None:
        """Replace a lock that the parent may have held."""
        self.lock = threading.RLock()


def _server_labels(address: str, port: int) -> Labels:
    return {names.SERVER_ADDRESS: address, names.SERVER_PORT: port}
