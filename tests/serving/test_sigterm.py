"""Real servers are stopped by SIGTERM: no call is lost, and span, metric and event agree."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from ollama_otel.testing import FakeModel, FakeOllama
from tests.collector import Collector, collecting

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the servers need signals and forks"),
    pytest.mark.processes,
    pytest.mark.sockets,
]

MODELS = [
    FakeModel("quick", load=0.0, prompt=0.0, token=0.0),
    FakeModel("llama3.2", load=0.0, prompt=0.0, token=0.0),
    FakeModel("endless", load=0.0, prompt=0.0, token=2.0, reply="on and " * 100),
]
LIFESPAN = {"WITH_LIFESPAN": "1"}
OPT_IN = {"OLLAMA_OTEL_SHUTDOWN_ON_SIGTERM": "true"}
# A server may take this long to start or to end on a machine with other work.
PATIENCE = 60


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


class Served:
    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        # One for all requests: each new client reads the certificates.
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE, limits=limits)
        self._process = process
        self.said = ""

    def get(self, path: str) -> str:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.text

    def terminate(self) -> int:
        self._process.terminate()
        self.said = self._process.communicate(timeout=PATIENCE)[0]
        return self._process.returncode

    def has_ended(self) -> bool:
        return self._process.poll() is not None


@contextmanager
def serving(
    collector: Collector, *command: str, folder: Path = HERE, **environ: str
) -> Iterator[Served]:
    """Run a server's command line, with the port in place of PORT."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "OTEL_")) and not name.lower().endswith("_proxy")
    }
    with FakeOllama(MODELS, realtime=True).serve() as ollama:
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.replace("PORT", str(port)) for part in command)],
            cwd=folder,
            env={
                **inherited,
                "OLLAMA_HOST": ollama,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                # Nothing leaves before the end but by what is tested here.
                "OTEL_BSP_SCHEDULE_DELAY": "3600000",
                "OTEL_BLRP_SCHEDULE_DELAY": "3600000",
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        served = Served(f"http://127.0.0.1:{port}", process)
        try:
            _wait_for(port, served)
            yield served
        finally:
            served.client.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _wait_for(port: int, served: Served) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert not served.has_ended()
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError


def agreed(collector: Collector) -> Counter[str]:
    """Return the outcomes, which span, metric and event tell alike."""
    spans = Counter(collector.outcomes())
    assert spans == collector.durations() == Counter(collector.event_outcomes())
    return spans


UVICORN = ("uvicorn", "app:app", "--port", "PORT", "--timeout-graceful-shutdown", "1")
GUNICORN = ("gunicorn", "-b", "127.0.0.1:PORT", "--graceful-timeout", "30")
UVICORN_WORKER = (*GUNICORN, "-k", "worker.Worker", "app:app")


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        pytest.param(UVICORN, LIFESPAN, id="uvicorn-lifespan"),
        pytest.param(UVICORN, OPT_IN, id="uvicorn-opt-in"),
        pytest.param(UVICORN, {**LIFESPAN, **OPT_IN}, id="uvicorn-both"),
        pytest.param((*UVICORN, "--workers", "2"), LIFESPAN, id="uvicorn-2-workers"),
        pytest.param((*UVICORN, "--workers", "2"), OPT_IN, id="uvicorn-2-workers-opt-in"),
        pytest.param(UVICORN_WORKER, LIFESPAN, id="gunicorn-uvicorn"),
        pytest.param((*UVICORN_WORKER, "--preload"), LIFESPAN, id="gunicorn-uvicorn-preload"),
        pytest.param(UVICORN_WORKER, OPT_IN, id="gunicorn-uvicorn-opt-in"),
        pytest.param((*GUNICORN, "app:wsgi"), {}, id="gunicorn"),
        pytest.param((*GUNICORN, "app:wsgi"), OPT_IN, id="gunicorn-opt-in"),
        pytest.param((*GUNICORN, "--preload", "app:wsgi"), {}, id="gunicorn-preload"),
    ],
)
def test_no_finished_call_is_lost(
    collector: Collector, command: Sequence[str], environ: dict[str, str]
) -> None:
    with serving(collector, *command, **environ) as served:
        for _ in range(60):
            assert served.get("/call")
        served.terminate()
    assert agreed(collector) == {"completed": 60}
    assert "Traceback" not in served.said


def read_streams(served: Served, path: str, count: int) -> tuple[list[threading.Thread], list[int]]:
    """Read streams in threads; return them when each has sent something."""
    begun = threading.Semaphore(0)
    sizes = [0] * count

    def read(number: int) -> None:
        try:
            with served.client.stream("GET", path) as response:
                for piece in response.iter_raw():
                    if not sizes[number]:
                        begun.release()
                    sizes[number] += len(piece)
        except httpx.HTTPError:
            pass  # the server has ended

    threads = [threading.Thread(target=read, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for _ in range(count):
        assert begun.acquire(timeout=PATIENCE)
    return threads, sizes


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        pytest.param(UVICORN, LIFESPAN, id="uvicorn-lifespan"),
        pytest.param((*UVICORN, "--workers", "2"), LIFESPAN, id="uvicorn-2-workers"),
        pytest.param((*UVICORN_WORKER, "--preload"), LIFESPAN, id="gunicorn-uvicorn-preload"),
    ],
)
def test_open_streams_end_alike_for_all(
    collector: Collector, command: Sequence[str], environ: dict[str, str]
) -> None:
    with serving(collector, *command, **environ) as served:
        threads, _ = read_streams(served, "/stream", 100)
        served.terminate()
        for thread in threads:
            thread.join()
    assert agreed(collector) == {"cancelled": 100}
    assert sorted(collector.outcomes()) == ["cancelled"] * 100


def test_the_example_of_a_web_stream_loses_nothing(collector: Collector) -> None:
    command = ("uvicorn", "web_stream:app", "--port", "PORT", "--timeout-graceful-shutdown", "1")
    with serving(collector, *command, folder=EXAMPLES) as served:
        for _ in range(20):
            assert served.get("/ask?question=Hello")
        status = served.terminate()
    assert status in (0, -signal.SIGTERM)
    assert collector.tree() == {"GET /ask": ["chat llama3.2"]}
    assert Counter(collector.outcomes()) == {"completed": 20} == collector.durations()


def test_without_either_the_calls_are_lost(collector: Collector) -> None:
    """The docs say so: the process ends by the signal."""
    with serving(collector, *UVICORN) as served:
        served.get("/call")
        status = served.terminate()
    assert status == -signal.SIGTERM
    assert collector.spans() == []
    assert not re.search("Traceback", served.said)
