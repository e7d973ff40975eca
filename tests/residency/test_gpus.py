"""What the GPUs of this machine report, through the real bindings and a simulated library."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from opentelemetry.semconv._incubating.attributes import hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics

from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.residency_metrics import ResidencyMetrics
from ollama_otel.residency import ModelLoad, Residency
from ollama_otel.residency._gpu import GpuReader
from ollama_otel.testing import Capture

from .nvml_library import MEBIBYTE, FakeGpu, FakeLibrary, install

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
LOST = pynvml.NVML_ERROR_GPU_IS_LOST
OF_VALUES = {
    "nvmlDeviceGetMemoryInfo_v2": {"hw.gpu.memory.usage", "hw.gpu.memory.limit"},
    "nvmlDeviceGetUtilizationRates": {"hw.gpu.utilization"},
    "nvmlDeviceGetTemperature": {"hw.temperature"},
    "nvmlDeviceGetPowerUsage": {"hw.power"},
    "nvmlDeviceGetTotalEnergyConsumption": {"hw.energy"},
}
"""The metrics that come from each function."""
ALL = set().union(*OF_VALUES.values())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """A machine with GPUs, and the metrics of an app on it."""

    def __init__(self, library: FakeLibrary, capture: Capture, module: Any = pynvml) -> None:
        self.library = library
        self.clock = Clock()
        self.capture = capture
        self.reader = GpuReader(module, self.clock)
        meter = capture.meter_provider.get_meter("test")
        self.metrics = ResidencyMetrics(meter, 3, self.reader)
        self.residency = Residency(interval=60)
        self.metrics.follow(self.residency)

    def points(self, after: float = 1.0) -> dict[str, dict[str, float]]:
        """The values of each metric some seconds later, by GPU."""
        self.clock.now += after
        return {
            name: {point.attributes[names.HARDWARE_ID]: point.value for point in points}
            for name, points in self.capture.metrics().items()
            if name.startswith("hw.")
        }


@pytest.fixture
def machine_with(
    capture: Capture, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Machine]:
    def start(*gpus: FakeGpu, module: Any = pynvml) -> Machine:
        machine = Machine(install(monkeypatch, *gpus), capture, module)
        request.addfinalizer(machine.residency.close)
        return machine

    return start


def test_a_gpu_tells_everything(machine_with: Callable[..., Machine], capture: Capture) -> None:
    machine = machine_with(FakeGpu())
    about = {names.HARDWARE_ID: "GPU-1", names.HARDWARE_NAME: "NVIDIA H100 80GB HBM3"}
    gpu = {**about, names.HARDWARE_TYPE: "gpu"}
    machine.clock.now += 1
    assert {
        name: [(point.attributes, point.value) for point in points]
        for name, points in capture.metrics().items()
    } == {
        # As nvidia-smi shows it: 1,855 MiB of 81,559 MiB.
        "hw.gpu.memory.usage": [(gpu, 1_855 * MEBIBYTE)],
        "hw.gpu.memory.limit": [(gpu, 81_559 * MEBIBYTE)],
        "hw.gpu.utilization": [({**gpu, "hw.gpu.task": "general"}, 0.93)],
        "hw.temperature": [({**about, "hw.sensor_location": "gpu"}, 41)],
        "hw.power": [(gpu, 107.25)],
        "hw.energy": [(gpu, 0)],
    }


class Meter:
    """Notes what the conventions create."""

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        return lambda name, unit="", **_: (kind.removeprefix("create_"), name, unit)


@pytest.mark.parametrize("row", [r for r in rows.instruments_of("v1.41") if r.requires == "gpu"])
def test_names_units_and_attributes_are_those_of_the_conventions(row: rows.Instrument) -> None:
    create = getattr(hw_metrics, f"create_{row.name.replace('.', '_')}")
    meter: Any = Meter()
    gauges = {"observable_gauge"} if "memory" not in row.name else {"up_down_counter"}
    kinds = {"counter"} if row.kind == "counter" else gauges
    arguments = (meter, None) if kinds == {"observable_gauge"} else (meter,)
    kind, name, unit = create(*arguments)
    # Memory is a gauge here: several processes report the same GPU, so sums would mean nothing.
    assert kind in kinds
    assert (name, unit) == (row.name, row.unit)
    known = {value for key, value in vars(hw_attributes).items() if key.startswith("HW_")}
    assert set(row.labels) <= known


def test_values_of_attributes_are_those_of_the_conventions() -> None:
    assert hw_attributes.HwTypeValues.GPU.value == "gpu"
    assert hw_attributes.HwGpuTaskValues.GENERAL.value == "general"


# --- memory --------------------------------------------------------------------------------------


def test_an_idle_gpu_uses_no_memory_although_the_driver_reserves_some(
    machine_with: Callable[..., Machine],
) -> None:
    machine = machine_with(FakeGpu(used=0))
    assert machine.points()["hw.gpu.memory.usage"] == {"GPU-1": 0}


def test_a_driver_before_510_does_not_count_its_reserve_in_version_1(
    machine_with: Callable[..., Machine],
) -> None:
    machine = machine_with(FakeGpu())
    machine.library.missing.add("nvmlDeviceGetMemoryInfo_v2")
    found = machine.points()
    assert found["hw.gpu.memory.usage"] == {"GPU-1": 1_855 * MEBIBYTE}
    assert found["hw.gpu.memory.limit"] == {"GPU-1": 81_559 * MEBIBYTE}
    assert machine.library.calls["nvmlDeviceGetMemoryInfo"] == 1


def test_bindings_that_cannot_tell_the_reserve_do_not_tell_the_usage(
    machine_with: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machine_with(FakeGpu())
    monkeypatch.delattr(pynvml, "nvmlMemory_v2")
    found = machine.points()
    assert set(found) == ALL - {"hw.gpu.memory.usage"}
    assert found["hw.gpu.memory.limit"] == {"GPU-1": 81_559 * MEBIBYTE}


# --- values that are not there ---------------------------------------------------------------------


@pytest.mark.parametrize("function", OF_VALUES)
@pytest.mark.parametrize(
    "code",
    [NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND],
)
def test_a_value_that_a_gpu_refuses_is_absent_and_not_asked_for_again(
    machine_with: Callable[..., Machine], function: str, code: int
) -> None:
    gpu = FakeGpu(fails={function: code})
    if function == "nvmlDeviceGetMemoryInfo_v2":
        gpu.fails["nvmlDeviceGetMemoryInfo"] = code
    machine = machine_with(gpu)
    for _ in range(5):
        assert set(machine.points()) == ALL - OF_VALUES[function]
    assert machine.library.calls[function] == 1
    # Rarely it is: what a GPU supports may change.
    gpu.fails.clear()
    assert set(machine.points(after=601)) == ALL


@pytest.mark.parametrize("function", OF_VALUES)
@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_TIMEOUT, pynvml.NVML_ERROR_UNKNOWN])
def test_a_value_that_fails_once_is_absent_once(
    machine_with: Callable[..., Machine], function: str, code: int
) -> None:
    gpu = FakeGpu(fails={function: code})
    machine = machine_with(gpu)
    assert set(machine.points()) == ALL - OF_VALUES[function]
    gpu.fails.clear()
    assert set(machine.points()) == ALL


def test_bindings_without_a_function_lack_its_value_only(
    machine_with: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machine_with(FakeGpu())
    monkeypatch.delattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption")
    assert set(machine.points()) == ALL - {"hw.energy"}


def test_a_gpu_without_a_name_has_no_label_for_it(
    machine_with: Callable[..., Machine], capture: Capture
) -> None:
    machine = machine_with(FakeGpu(fails={"nvmlDeviceGetName": NOT_SUPPORTED}))
    assert set(machine.points()) == ALL
    (point,) = capture.metrics()["hw.power"]
    assert point.attributes == {names.HARDWARE_ID: "GPU-1", names.HARDWARE_TYPE: "gpu"}


def test_old_bindings_return_bytes(machine_with: Callable[..., Machine], capture: Capture) -> None:
    answers = {"nvmlDeviceGetUUID": lambda _: b"GPU-1", "nvmlDeviceGetName": lambda _: b"RTX"}
    machine = machine_with(FakeGpu(), module=SimpleNamespace(**{**vars(pynvml), **answers}))
    machine.points()
    (point,) = capture.metrics()["hw.power"]
    assert point.attributes == {
        names.HARDWARE_ID: "GPU-1",
        names.HARDWARE_NAME: "RTX",
        names.HARDWARE_TYPE: "gpu",
    }


def test_without_the_module_there_are_no_gpus(machine_with: Callable[..., Machine]) -> None:
    machine = machine_with(FakeGpu(), module=None)
    assert machine.points() == {}
    assert not machine.library.calls


# --- several, divided and lost GPUs ----------------------------------------------------------------


def test_several_gpus_are_told_apart(machine_with: Callable[..., Machine]) -> None:
    machine = machine_with(
        FakeGpu(temperature=41),
        FakeGpu(uuid="GPU-2", temperature=77, fails={"nvmlDeviceGetPowerUsage": NOT_SUPPORTED}),
    )
    found = machine.points()
    assert found["hw.temperature"] == {"GPU-1": 41, "GPU-2": 77}
    assert found["hw.power"] == {"GPU-1": 107.25}


def test_a_mig_instance_tells_its_memory_and_names_its_gpu(
    machine_with: Callable[..., Machine], capture: Capture
) -> None:
    """The GPU does not tell its utilization then, and an instance tells its memory only."""
    refused = dict.fromkeys(OF_VALUES, NOT_SUPPORTED)
    del refused["nvmlDeviceGetMemoryInfo_v2"]
    instance = FakeGpu(uuid="MIG-1", name="NVIDIA H100 MIG 1g.10gb", total=100, used=30)
    instance.fails = refused
    divided = FakeGpu(
        instances=[instance, None], fails={"nvmlDeviceGetUtilizationRates": NOT_SUPPORTED}
    )
    machine = machine_with(divided, FakeGpu(uuid="GPU-2"))
    found = machine.points()
    assert found["hw.gpu.memory.usage"]["MIG-1"] == 30
    assert found["hw.gpu.memory.limit"]["MIG-1"] == 100
    assert set(found["hw.gpu.memory.usage"]) == {"GPU-1", "MIG-1", "GPU-2"}
    assert set(found["hw.gpu.utilization"]) == {"GPU-2"}
    assert set(found["hw.power"]) == {"GPU-1", "GPU-2"}
    parents = {
        point.attributes[names.HARDWARE_ID]: point.attributes.get(names.HARDWARE_PARENT)
        for point in capture.metrics()["hw.gpu.memory.usage"]
    }
    assert parents == {"GPU-1": None, "MIG-1": "GPU-1", "GPU-2": None}


@pytest.mark.parametrize("code", [LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_a_lost_gpu_is_absent_until_it_is_found_again(
    machine_with: Callable[..., Machine], code: int
) -> None:
    lost = FakeGpu(uuid="GPU-2")
    machine = machine_with(FakeGpu(), lost)
    assert set(machine.points()["hw.power"]) == {"GPU-1", "GPU-2"}
    lost.fails = {"*": code, "nvmlDeviceGetHandleByIndex_v2": code}
    for _ in range(5):
        found = machine.points()
        assert {(name, *points) for name, points in found.items()} == {
            (name, "GPU-1") for name in ALL
        }
    calls = machine.library.calls
    # The loss took one call; nothing else was asked of it.
    assert calls["nvmlDeviceGetMemoryInfo_v2"] == 2 * 2 + 4
    assert calls["nvmlDeviceGetHandleByIndex_v2"] == 2
    # It is still lost at the next search.
    assert set(machine.points(after=60)["hw.power"]) == {"GPU-1"}
    lost.fails = {}
    assert set(machine.points(after=60)["hw.power"]) == {"GPU-1", "GPU-2"}
    assert calls["nvmlInitWithFlags"] == 1


def test_a_gpu_that_is_added_is_found(machine_with: Callable[..., Machine]) -> None:
    machine = machine_with(FakeGpu())
    machine.points()
    machine.library.gpus.append(FakeGpu(uuid="GPU-2"))
    assert set(machine.points()["hw.power"]) == {"GPU-1"}
    assert set(machine.points(after=600)["hw.power"]) == {"GPU-1", "GPU-2"}


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("nvmlInitWithFlags", pynvml.NVML_ERROR_DRIVER_NOT_LOADED),
        ("nvmlInitWithFlags", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND),
        ("nvmlDeviceGetCount_v2", pynvml.NVML_ERROR_UNKNOWN),
    ],
)
def test_a_driver_that_fails_is_silence_and_may_come_later(
    machine_with: Callable[..., Machine],
    caplog: pytest.LogCaptureFixture,
    function: str,
    code: int,
) -> None:
    machine = machine_with(FakeGpu())
    machine.library.fails[function] = code
    with caplog.at_level("DEBUG", "ollama_otel.residency"):
        for _ in range(5):
            assert machine.points() == {}
    assert [each.levelname for each in caplog.records] == ["DEBUG"]
    assert machine.library.calls[function] == 1
    machine.library.fails.clear()
    assert set(machine.points(after=60)) == ALL


def test_a_machine_without_the_library_has_no_gpus(
    machine_with: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machine_with()
    monkeypatch.setattr(pynvml, "nvmlLib", None)

    def no_library(*_: Any) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(pynvml, "CDLL", no_library)
    assert machine.points() == {}


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
def test_a_driver_that_goes_and_comes_back_is_initialized_again(
    machine_with: Callable[..., Machine], code: int
) -> None:
    gpu = FakeGpu()
    machine = machine_with(gpu)
    assert set(machine.points()) == ALL
    gpu.fails["*"] = code
    for _ in range(5):
        assert machine.points() == {}
    assert machine.library.calls["nvmlDeviceGetMemoryInfo_v2"] == 2
    gpu.fails.clear()
    assert set(machine.points(after=60)) == ALL
    assert machine.library.calls["nvmlInitWithFlags"] == 2


# --- energy --------------------------------------------------------------------------------------


def test_energy_is_counted_from_the_first_reading_and_through_resets(
    machine_with: Callable[..., Machine],
) -> None:
    gpu = FakeGpu(energy=5_000_000_000)
    machine = machine_with(gpu)
    counted = []
    for millijoules in (5_000_000_000, 5_000_001_500, 5_000_001_500, 400, 1_400):
        gpu.energy = millijoules
        counted.append(machine.points()["hw.energy"]["GPU-1"])
    assert counted == [0.0, 1.5, 1.5, 1.9, 2.9]


def test_energy_goes_on_after_a_loss(machine_with: Callable[..., Machine]) -> None:
    gpu = FakeGpu(energy=1_000)
    machine = machine_with(gpu)
    machine.points()
    gpu.fails["*"] = LOST
    machine.points()
    gpu.fails.clear()
    gpu.energy = 3_000
    assert machine.points(after=60)["hw.energy"] == {"GPU-1": 2.0}


# --- cost ------------------------------------------------------------------------------------------


def test_one_collection_asks_each_value_once(machine_with: Callable[..., Machine]) -> None:
    machine = machine_with(FakeGpu(), FakeGpu(uuid="GPU-2"))
    machine.points()
    machine.library.calls.clear()
    machine.points()
    # The GPUs are searched once in ten minutes.
    assert machine.library.calls == dict.fromkeys(OF_VALUES, 2)
    # A second exporter that collects at the same time uses the same reading.
    machine.points(after=0.1)
    assert machine.library.calls == dict.fromkeys(OF_VALUES, 2)


def test_nothing_is_read_while_no_server_is_watched(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = install(monkeypatch, FakeGpu())
    metrics = ResidencyMetrics(
        capture.meter_provider.get_meter("test"), 3, GpuReader(pynvml, Clock())
    )
    assert not capture.metrics()
    assert not library.calls
    del metrics


@pytest.mark.sockets
def test_a_driver_that_hangs_does_not_hold_up_the_events_of_calls(
    machine_with: Callable[..., Machine], capture: Capture
) -> None:
    reads, goes_on = threading.Event(), threading.Event()

    def hang(_: Any) -> int:
        reads.set()
        assert goes_on.wait(60)
        return 1

    module = SimpleNamespace(**{**vars(pynvml), "nvmlDeviceGetPowerUsage": hang})
    machine = machine_with(FakeGpu(), module=module)
    machine.clock.now += 1
    collecting = threading.Thread(target=capture.metrics, daemon=True)
    collecting.start()
    assert reads.wait(60)
    event = ModelLoad(model="m:latest")
    counting = threading.Thread(
        target=machine.metrics.count, args=("127.0.0.1", 11434, event), daemon=True
    )
    counting.start()
    counting.join(10)
    has_counted = not counting.is_alive()
    goes_on.set()
    collecting.join(60)
    assert has_counted


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_during_a_reading_does_not_lock_the_child(
    machine_with: Callable[..., Machine],
) -> None:
    machine = machine_with(FakeGpu())
    with machine.reader._lock:
        child = multiprocessing.get_context("fork").Process(target=machine.reader.read)
        child.start()
        child.join(20)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()
