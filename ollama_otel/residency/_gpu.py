"""Reads the NVIDIA GPUs of this machine by NVML; no readings without GPU or driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ollama_otel._display import logger

__all__ = ["Gpu", "GpuReader", "find_nvml"]

_log = logger("ollama_otel.residency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU at the time of reading; None: the GPU does not report it."""

    id: str
    """Its UUID."""
    name: str
    memory_usage: int | None
    """Bytes in use by all processes."""
    memory_limit: int | None
    """Bytes in total."""
    power: float | None
    """Watts it draws."""


def find_nvml() -> Any | None:
    """Return the module `pynvml` of `nvidia-ml-py`; None if it is not installed."""
    try:
        return import_module("pynvml")
    except ImportError:
        return None


class GpuReader:
    """Reads all GPUs through a module like `pynvml`."""

    def __init__(self, nvml: Any | None) -> None:
        self._nvml = nvml
        self._has_logged = False
        if nvml is not None and self._call(nvml.nvmlInit) is None:
            self._nvml = None

    def read(self) -> tuple[Gpu, ...]:
        """Return the readings of all GPUs; empty if the driver fails."""
        nvml = self._nvml
        if nvml is None:
            return ()
        count = self._call(nvml.nvmlDeviceGetCount) or (0,)
        gpus = (self._read(nvml, index) for index in range(count[0]))
        return tuple(gpu for gpu in gpus if gpu is not None)

    def _read(self, nvml: Any, index: int) -> Gpu | None:
        found = self._call(nvml.nvmlDeviceGetHandleByIndex, index)
        if found is None:
            return None
        (handle,) = found
        uuid = self._call(nvml.nvmlDeviceGetUUID, handle)
        if uuid is None:
            return None
        name = self._call(nvml.nvmlDeviceGetName, handle)
        memory = self._call(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = self._call(nvml.nvmlDeviceGetPowerUsage, handle)
        return Gpu(
            id=_text(uuid[0]),
            name="" if name is None else _text(name[0]),
            memory_usage=None if memory is None else int(memory[0].used),
            memory_limit=None if memory is None else int(memory[0].total),
            power=None if milliwatts is None else milliwatts[0] / 1000,
        )

    def _call(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any] | None:
        """Return the result in a tuple, as it may be None; None if the driver fails."""
        try:
            return (function(*arguments),)
        except Exception as error:  # noqa: BLE001 - NVML's errors are classes made at run time
            if not self._has_logged:
                self._has_logged = True
                _log.debug("NVML cannot be read: %s", error)
            return None


def _text(value: str | bytes) -> str:
    """Return a text; versions before 12 return bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
