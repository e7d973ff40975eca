"""Reads the NVIDIA GPUs of this machine through NVML; no readings without GPU or driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from ollama_otel import _process
from ollama_otel._display import logger

__all__ = ["Gpu", "GpuReader", "find_nvml"]

_log = logger("ollama_otel.residency")

_READING_LASTS: Final = 0.5
"""Seconds for which readings are cached, as one collection of metrics requests each value
separately.
"""
_SEARCH_INTERVAL: Final = 600.0
"""Seconds between two searches, which find added GPUs, changed MIG instances and newly readable
values.
"""
_RETRY_INTERVAL: Final = 60.0
"""Seconds to the next search after a failure of the driver or the loss of a GPU."""

_NOT_SUPPORTED: Final = 3
_NO_PERMISSION: Final = 4
_FUNCTION_NOT_FOUND: Final = 13
_NO_DRIVER: Final = frozenset({1, 9, 18})
"""NVML is not initialized; the driver is not loaded; it was replaced while the process runs."""
_LOST: Final = _NO_DRIVER | {6, 15, 16}
"""Also: the GPU is not found; it is lost; it has to be reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one MIG instance of a GPU, at the time of reading.

    None: it does not report the value.
    """

    id: str
    """Its UUID."""
    name: str | None
    parent: str | None
    """The UUID of the GPU whose MIG instance it is."""
    memory_usage: int | None
    """Bytes in use by all processes, without the driver's reserve, as `nvidia-smi` shows it."""
    memory_limit: int | None
    """Bytes in total, with the driver's reserve."""
    utilization: float | None
    """Fraction of the last sample period (up to a second) in which it executed a kernel, 0 to 1."""
    temperature: int | None
    """Degrees Celsius."""
    power: float | None
    """Watts it draws."""
    energy: float | None
    """Joules it has consumed since this reader first read it."""


def find_nvml() -> Any | None:
    """Return the module `pynvml` of `nvidia-ml-py`; None if it is not installed."""
    try:
        return import_module("pynvml")
    except ImportError:
        return None


def _read_memory(nvml: Any, handle: Any) -> tuple[int, int | None]:
    """Return the total memory, and the memory in use without the driver's reserve.

    Version 1 of the call counts the reserve as used since driver 510, which is also the first
    with version 2.
    """
    version = getattr(nvml, "nvmlMemory_v2", None)
    if version is None:
        # Bindings older than driver 510 do not report the driver's reserve.
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total), None
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=version)
    except Exception as error:
        if _code(error) != _FUNCTION_NOT_FOUND:
            raise
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return int(memory.total), int(memory.used)


_VALUES: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "memory": _read_memory,
    "utilization": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
    "temperature": lambda nvml, handle: int(
        nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    ),
    "power": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    "energy": lambda nvml, handle: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
}
"""How each value is read from a handle."""


class GpuReader:
    """Reads all GPUs through a module like `pynvml`."""

    def __init__(self, nvml: Any | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._nvml = nvml
        self._clock = clock
        self._lock = threading.Lock()
        self._has_logged = False
        self._is_initialized = False
        self._devices: tuple[_Device, ...] = ()
        self._energies: dict[str, _Energy] = {}
        self._search_at = float("-inf")
        self._reading: tuple[float, tuple[Gpu, ...]] = (float("-inf"), ())
        _process.at_fork(after_in_child=self._reset_after_fork)

    def read(self) -> tuple[Gpu, ...]:
        """Return readings of all GPUs, at most half a second old; empty if the driver fails."""
        nvml = self._nvml
        if nvml is None:
            return ()
        with self._lock:
            now = self._clock()
            if now - self._reading[0] > _READING_LASTS:
                self._reading = now, self._read(nvml, now)
            return self._reading[1]

    def _read(self, nvml: Any, now: float) -> tuple[Gpu, ...]:
        if now >= self._search_at:
            self._search(nvml, now)
        readings = tuple(device.read(self._failed) for device in self._devices)
        if lost := {device.lost_by for device in self._devices} - {None}:
            self._devices = tuple(each for each in self._devices if each.lost_by is None)
            self._is_initialized = not lost & _NO_DRIVER
            self._search_at = min(self._search_at, now + _RETRY_INTERVAL)
        return tuple(gpu for gpu in readings if gpu is not None)

    # --- searching --------------------------------------------------------------------------

    def _search(self, nvml: Any, now: float) -> None:
        """Find all GPUs and MIG instances that answer."""
        self._search_at = now + _SEARCH_INTERVAL
        try:
            if not self._is_initialized:
                nvml.nvmlInit()
                self._is_initialized = True
            self._devices = tuple(self._find(nvml, now))
        except Exception as error:  # noqa: BLE001 - NVML's errors are classes made at run time
            self._failed(error)
            self._devices = ()
            self._is_initialized = False
            self._search_at = now + _RETRY_INTERVAL

    def _find(self, nvml: Any, now: float) -> Iterator[_Device]:
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                gpu = self._device(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
            except Exception as error:  # noqa: BLE001 - the other GPUs may answer
                self._failed(error)
                self._search_at = now + _RETRY_INTERVAL
                continue
            yield gpu
            yield from self._instances(nvml, gpu)

    def _instances(self, nvml: Any, gpu: _Device) -> Iterator[_Device]:
        try:
            is_divided = nvml.nvmlDeviceGetMigMode(gpu.handle)[0] == 1
            slots = nvml.nvmlDeviceGetMaxMigDeviceCount(gpu.handle) if is_divided else 0
        except Exception:  # noqa: BLE001 - most GPUs cannot be divided
            return
        for slot in range(slots):
            try:
                handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, slot)
                yield self._device(nvml, handle, parent=gpu.id)
            except Exception as error:  # noqa: BLE001 - a slot may be empty
                self._failed(error)

    def _device(self, nvml: Any, handle: Any, parent: str | None = None) -> _Device:
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        try:
            name = _text(nvml.nvmlDeviceGetName(handle))
        except Exception as error:  # noqa: BLE001 - it is of use without a name
            self._failed(error)
            name = None
        energy = self._energies.setdefault(uuid, _Energy())
        return _Device(nvml, handle, id=uuid, name=name, parent=parent, energy=energy)

    def _failed(self, error: Exception) -> None:
        if not self._has_logged:
            self._has_logged = True
            _log.debug("NVML cannot be read: %s", error)

    def _reset_after_fork(self) -> None:
        """Replace a lock that the parent may have held."""
        self._lock = threading.Lock()


class _Device:
    """A GPU or MIG instance, and the values that it does not support."""

    def __init__(
        self,
        nvml: Any,
        handle: Any,
        *,
        id: str,  # noqa: A002 - as in `Gpu`
        name: str | None,
        parent: str | None,
        energy: _Energy,
    ) -> None:
        self.handle = handle
        self.id = id
        self.lost_by: int | None = None
        self._nvml = nvml
        self._name = name
        self._parent = parent
        self._energy = energy
        self._readable = dict(_VALUES)

    def read(self, failed: Callable[[Exception], None]) -> Gpu | None:
        """Return its values; None if it is lost."""
        found: dict[str, Any] = {}
        for value, read in tuple(self._readable.items()):
            try:
                found[value] = read(self._nvml, self.handle)
            except Exception as error:  # noqa: BLE001 - NVML's errors are classes made at run time
                failed(error)
                if _code(error) in _LOST:
                    self.lost_by = _code(error)
                    return None
                if _is_refusal(error):
                    del self._readable[value]
        total, used = found.get("memory", (None, None))
        return Gpu(
            id=self.id,
            name=self._name,
            parent=self._parent,
            memory_usage=used,
            memory_limit=total,
            utilization=found.get("utilization"),
            temperature=found.get("temperature"),
            power=found.get("power"),
            energy=self._energy.since_first(found.get("energy")),
        )


class _Energy:
    """Counts the energy of a GPU from its first reading.

    The counter of the driver starts when the driver is loaded: long before the process, and again
    while it runs.
    """

    def __init__(self) -> None:
        self._consumed = 0
        self._last: int | None = None

    def since_first(self, counter: int | None) -> float | None:
        """Return joules; `counter` is the driver's, in millijoules."""
        if counter is None:
            return None
        if self._last is not None:
            self._consumed += counter - self._last if counter >= self._last else counter
        self._last = counter
        return self._consumed / 1000


def _code(error: Exception) -> int | None:
    return getattr(error, "value", None)


def _is_refusal(error: Exception) -> bool:
    """Whether the same query would fail again; old bindings lack some functions."""
    refusals = (_NOT_SUPPORTED, _NO_PERMISSION, _FUNCTION_NOT_FOUND)
    return isinstance(error, AttributeError) or _code(error) in refusals


def _text(value: str | bytes) -> str:
    """Return a text; versions before 12 return bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
