"""A stand-in for NVIDIA's library `libnvidia-ml.so.1` beneath the real bindings `pynvml`.

The bindings, their structures, versions and error classes are the real ones; only the C functions
are simulated. Values are those of an H100 with a driver of version 535 or later.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

MEBIBYTE = 2**20


@dataclass(kw_only=True)
class FakeGpu:
    """A GPU, or a MIG instance of one."""

    uuid: str = "GPU-1"
    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 81_559 * MEBIBYTE
    reserved: int = 480 * MEBIBYTE
    used: int = 1_855 * MEBIBYTE
    utilization: int = 93
    """Percent."""
    temperature: int = 41
    power: int = 107_250
    """Milliwatts."""
    energy: int = 5_000_000_000
    """Millijoules since the driver was loaded."""
    instances: list[FakeGpu | None] = field(default_factory=list)
    """Slots of MIG instances; None is an empty slot."""
    fails: dict[str, int] = field(default_factory=dict)
    """Error codes, by function; "*" stands for every function."""


class FakeLibrary:
    """The C functions; each returns a code and fills the structures it is given."""

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.fails: dict[str, int] = {}
        """Error codes of functions of no GPU, such as `nvmlInitWithFlags`."""
        self.missing: set[str] = set()
        """Functions that this version of the driver lacks."""
        self.calls: Counter[str] = Counter()
        self.is_initialized = False
        self._handles: list[FakeGpu] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        body = getattr(type(self), f"_{name}", None)
        if body is None or name in self.missing:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.calls[name] += 1
            if name in self.fails:
                return self.fails[name]
            if not self.is_initialized and name != "nvmlInitWithFlags":
                return pynvml.NVML_ERROR_UNINITIALIZED
            if arguments and isinstance(arguments[0], pynvml.c_nvmlDevice_t):
                gpu = self._gpu_of(arguments[0])
                if (code := gpu.fails.get("*", gpu.fails.get(name))) is not None:
                    return code
                arguments = (gpu, *arguments[1:])
            return body(self, *(getattr(each, "_obj", each) for each in arguments)) or 0

        return function

    def _point(self, handle: Any, gpu: FakeGpu) -> None:
        """Make a handle point to a GPU."""
        self._handles.append(gpu)
        number = ctypes.c_void_p(len(self._handles))
        ctypes.memmove(ctypes.byref(handle), ctypes.byref(number), ctypes.sizeof(number))

    def _gpu_of(self, handle: Any) -> FakeGpu:
        return self._handles[ctypes.cast(handle, ctypes.c_void_p).value - 1]

    def _nvmlInitWithFlags(self, _flags: Any) -> None:  # noqa: N802 - NVML's names
        self.is_initialized = True

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:  # noqa: N802
        count.value = len(self.gpus)

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        gpu = self.gpus[index.value]
        self._point(handle, gpu)
        return gpu.fails.get("nvmlDeviceGetHandleByIndex_v2", 0)

    def _nvmlDeviceGetUUID(self, gpu: FakeGpu, text: Any, _size: Any) -> None:  # noqa: N802
        text.value = gpu.uuid.encode()

    def _nvmlDeviceGetName(self, gpu: FakeGpu, text: Any, _size: Any) -> None:  # noqa: N802
        text.value = gpu.name.encode()

    def _nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu, memory: Any) -> None:  # noqa: N802
        reserved = 0 if "nvmlDeviceGetMemoryInfo_v2" in self.missing else gpu.reserved
        memory.total, memory.used = gpu.total, gpu.used + reserved
        memory.free = memory.total - memory.used

    def _nvmlDeviceGetMemoryInfo_v2(self, gpu: FakeGpu, memory: Any) -> int:  # noqa: N802
        if memory.version != ctypes.sizeof(pynvml.c_nvmlMemory_v2_t) | 2 << 24:
            return pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
        memory.total, memory.reserved, memory.used = gpu.total, gpu.reserved, gpu.used
        memory.free = gpu.total - gpu.reserved - gpu.used
        return 0

    def _nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu, rates: Any) -> None:  # noqa: N802
        rates.gpu, rates.memory = gpu.utilization, 12

    def _nvmlDeviceGetTemperature(  # noqa: N802
        self, gpu: FakeGpu, sensor: Any, degrees: Any
    ) -> int:
        degrees.value = gpu.temperature
        is_known = sensor.value == pynvml.NVML_TEMPERATURE_GPU
        return 0 if is_known else pynvml.NVML_ERROR_INVALID_ARGUMENT

    def _nvmlDeviceGetPowerUsage(self, gpu: FakeGpu, milliwatts: Any) -> None:  # noqa: N802
        milliwatts.value = gpu.power

    def _nvmlDeviceGetTotalEnergyConsumption(  # noqa: N802
        self, gpu: FakeGpu, millijoules: Any
    ) -> None:
        millijoules.value = gpu.energy

    def _nvmlDeviceGetMigMode(  # noqa: N802
        self, gpu: FakeGpu, current: Any, pending: Any
    ) -> None:
        current.value = pending.value = int(bool(gpu.instances))

    def _nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu, count: Any) -> None:  # noqa: N802
        count.value = len(gpu.instances)

    def _nvmlDeviceGetMigDeviceHandleByIndex(  # noqa: N802
        self, gpu: FakeGpu, index: Any, handle: Any
    ) -> int:
        instance = gpu.instances[index.value]
        if instance is None:
            return pynvml.NVML_ERROR_NOT_FOUND
        self._point(handle, instance)
        return 0


def install(monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu) -> FakeLibrary:
    """Put a library with these GPUs beneath the bindings, until the test ends."""
    library = FakeLibrary(*gpus)
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library
