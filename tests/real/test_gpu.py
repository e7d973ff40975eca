"""What a real NVIDIA GPU reports, compared with `nvidia-smi`; skipped without one.

It stands alone, as machines with a GPU may have little else: `python tests/real/test_gpu.py`.
Needs an NVIDIA driver with `nvidia-smi`, and the packages of `ollama_otel[nvidia]`. With
`OLLAMA_OTEL_GPU_SERVER=http://HOST:PORT` and `OLLAMA_OTEL_GPU_MODEL=NAME`, an Ollama on this
machine and a model that fits into the GPU's memory, it also checks the shares of the model.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import unittest
from collections.abc import Callable

from ollama_otel import Client, Settings
from ollama_otel.testing import Capture, FakeModel, FakeOllama

SETTINGS = Settings(residency=True, residency_interval=0.5)
MEBIBYTE = 2**20
SMI = ("uuid", "memory.used", "memory.total", "utilization.gpu", "temperature.gpu", "power.draw")
SERVER = os.environ.get("OLLAMA_OTEL_GPU_SERVER")
MODEL = os.environ.get("OLLAMA_OTEL_GPU_MODEL")


def nvidia_smi() -> dict[str, dict[str, float | None]]:
    """The values of each GPU, by UUID; None for what it does not report."""
    text = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader,nounits"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    found = {}
    for line in text.splitlines():
        uuid, *values = (value.strip() for value in line.split(","))
        found[uuid] = dict(zip(SMI[1:], map(number, values), strict=True))
    return found


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "[N/A]"


def has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        import pynvml  # noqa: F401 - the extra may not be installed

        return bool(nvidia_smi())
    except (ImportError, OSError, subprocess.SubprocessError):
        return False


def of_gpus(capture: Capture) -> dict[str, dict[str, float]]:
    """The metrics of each GPU; instances of a divided GPU are left out."""
    found: dict[str, dict[str, float]] = {}
    for name, points in capture.metrics().items():
        for point in points if name.startswith("hw.") else ():
            if "hw.parent" not in point.attributes:
                found.setdefault(point.attributes["hw.id"], {})[name] = point.value
    return found


@unittest.skipUnless(has_gpu(), "needs an NVIDIA GPU, nvidia-smi and nvidia-ml-py")
class GpuTest(unittest.TestCase):
    """The metrics of an app that watches a server, beside `nvidia-smi`."""

    def setUp(self) -> None:
        served = FakeOllama([FakeModel("m")]).serve()
        url = self.enterContext(served)
        self.capture = Capture()
        client = Client(url, settings=SETTINGS, **self.capture.options)
        self.addCleanup(client.close)
        client.chat("m", [{"role": "user", "content": "Hi"}])

    def compare(self, metric: str, column: str, scale: float, tolerance: float) -> None:
        """Read the metric between two runs of nvidia-smi; the values may move, so try again."""
        for _ in range(10):
            time.sleep(0.6)
            before, ours, after = nvidia_smi(), of_gpus(self.capture), nvidia_smi()
            seen = []
            for uuid in before:
                value = ours[uuid].get(metric)
                theirs = [each[uuid][column] for each in (before, after)]
                bounds = [each * scale for each in theirs if each is not None]
                seen.append((uuid, value, bounds))
            if all(
                value is None if not bounds else near(value, bounds, tolerance)
                for _, value, bounds in seen
            ):
                print(metric, seen)
                return
        self.fail(f"{metric} is not {column}: {seen}")

    def test_memory_in_use_is_without_the_reserve(self) -> None:
        self.compare("hw.gpu.memory.usage", "memory.used", MEBIBYTE, 2 * MEBIBYTE)

    def test_memory_in_total(self) -> None:
        self.compare("hw.gpu.memory.limit", "memory.total", MEBIBYTE, MEBIBYTE)

    def test_utilization(self) -> None:
        self.compare("hw.gpu.utilization", "utilization.gpu", 0.01, 0.05)

    def test_temperature(self) -> None:
        self.compare("hw.temperature", "temperature.gpu", 1, 1)

    def test_power(self) -> None:
        self.compare("hw.power", "power.draw", 1, 10)

    def test_energy_is_power_by_time(self) -> None:
        started, first = time.monotonic(), of_gpus(self.capture)
        powers: dict[str, list[float]] = {uuid: [] for uuid in first}
        while time.monotonic() < started + 10:
            for uuid, values in nvidia_smi().items():
                powers[uuid].append(values["power.draw"] or 0)
            time.sleep(0.2)
        last, seconds = of_gpus(self.capture), time.monotonic() - started
        for uuid, values in first.items():
            if "hw.energy" in values:
                joules = last[uuid]["hw.energy"] - values["hw.energy"]
                expected = sum(powers[uuid]) / len(powers[uuid]) * seconds
                print("energy", joules, expected)
                assert 0.7 < joules / expected < 1.3, (joules, expected)

    def test_what_a_reading_costs(self) -> None:
        costs = []
        for _ in range(10):
            time.sleep(0.6)
            started = time.perf_counter()
            of_gpus(self.capture)
            costs.append(time.perf_counter() - started)
        print("seconds for one collection of metrics:", sorted(costs))
        # Not a limit of speed: a driver that hangs.
        assert min(costs) < 5


@unittest.skipUnless(SERVER and MODEL, "needs OLLAMA_OTEL_GPU_SERVER and OLLAMA_OTEL_GPU_MODEL")
class ShareTest(unittest.TestCase):
    """The share in GPU memory of a model with all layers on the GPU, and with none."""

    def setUp(self) -> None:
        self.capture = Capture()
        self.client = Client(SERVER, settings=SETTINGS, **self.capture.options)
        self.addCleanup(self.client.close)

    def run_with(self, **options: int) -> tuple[float, float]:
        """Tokens per second, and the share of the model."""
        assert MODEL is not None
        self.client.generate(MODEL, keep_alive=0)
        for _ in range(2):  # The first call after a load takes longer.
            self.client.generate(MODEL, "Tell me a story.", options={"num_predict": 40, **options})
        rate = self.capture.records[-1].decode_rate
        assert rate is not None
        return rate, self.until(self.share)

    def share(self) -> float | None:
        for point in self.capture.metrics().get("ollama.model.gpu.share", ()):
            if str(point.attributes["ollama.model.name"]).startswith(str(MODEL)):
                return point.value
        return None

    def until(self, found: Callable[[], float | None]) -> float:
        deadline = time.monotonic() + 60
        time.sleep(2)  # The next polls see the model as it is now.
        while (value := found()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return value

    def test_a_model_on_the_cpu_has_a_small_share_and_not_none(self) -> None:
        fast, all_of_it = self.run_with()
        slow, almost_nothing = self.run_with(num_gpu=0)
        print("tokens/s and share:", (fast, all_of_it), (slow, almost_nothing))
        assert all_of_it >= 0.95
        assert 0 <= almost_nothing < 0.1
        assert slow < fast


def near(value: float | None, bounds: list[float], tolerance: float) -> bool:
    return value is not None and min(bounds) - tolerance <= value <= max(bounds) + tolerance


if __name__ == "__main__":
    unittest.main(verbosity=2)
