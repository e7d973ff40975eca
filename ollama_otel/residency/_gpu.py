"""The NVIDIA GPUs of this machine, read by NVML; without GPU or driver there are no readings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from logging import getLogger
from typing import Any

__all__ = ["Gpu", "GpuReader", "find_nvml"]

_log = getLogger("ollama_otel.residency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU at the time of reading; None is what it does not report."""

    id: str
    """Its UUID."""
    name: str
    memory_usage: int | None
    """Bytes in use by all processes."""
    memory_limit: int | None
    """Bytes it has."""
    power: float | None
    """Watts it draws."""


def find_nvml() -> Any | None:
    """Return the module `pynvml` of `nvidia-ml-py`; None where that is not installed."""
    try:
        return import_module("pynvml")
    except ImportError:
        return None


class GpuReader:
    """Reads all GPUs through a module like `pynvml`."""

    def __init__(self, nvml: Any | None) -> None:
        self._nvml = nvml
        self._has_complained = False
        if nvml is not None and self._asked(nvml.nvmlInit) is None:
            self._nvml = None

    def read(self) -> tuple[Gpu, ...]:
        """Return the readings of each GPU; none where the driver does not answer."""
        nvml = self._nvml
        if nvml is None:
            return ()
        count = self._asked(nvml.nvmlDeviceGetCount) or (0,)
        gpus = (self._read(nvml, index) for index in range(count[0]))
        return tuple(gpu for gpu in gpus if gpu is not None)

    def _read(self, nvml: Any, index: int) -> Gpu | None:
        found = self._asked(nvml.nvmlDeviceGetHandleByIndex, index)
        if found is None:
            return None
        (handle,) = found
        uuid = self._asked(nvml.nvmlDeviceGetUUID, handle)
        if uuid is None:
            return None
        name = self._asked(nvml.nvmlDeviceGetName, handle)
        memory = self._asked(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = self._asked(nvml.nvmlDeviceGetPowerUsage, handle)
        return Gpu(
            id=_text(uuid[0]),
            name="" if name is None else _text(name[0]),
            memory_usage=None if memory is None else int(memory[0].used),
            memory_limit=None if memory is None else int(memory[0].total),
            power=None if milliwatts is None else milliwatts[0] / 1000,
        )

    def _asked(self, question: Callable[..., Any], *arguments: Any) -> tuple[Any] | None:
        """Return the answer in a tuple, as it may be None; None where the driver refuses."""
        try:
            return (question(*arguments),)
        except Exception as error:  # noqa: BLE001 - NVML's errors are classes made at run time
            if not self._has_complained:
                self._has_complained = True
                _log.debug("NVML does not answer: %s", error)
            return None


def _text(value: str | bytes) -> str:
    """Versions before 12 give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
