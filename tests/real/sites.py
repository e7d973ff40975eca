"""Apps of the examples, served by a real uvicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.collector import Collector, collecting

__all__ = ["PATIENCE", "Site", "serving"]

PATIENCE = 60.0
"""Seconds that an app may take to start or to end on a machine with other work."""


class Site:
    """An app that uvicorn serves."""

    def __init__(self, url: str, collector: Collector, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.collector = collector
        self._process = process

    def stop(self) -> None:
        """End it, so that all that it recorded is at the collector."""
        self._process.terminate()
        self._process.wait(PATIENCE)


@contextmanager
def serving(folder: Path, app: str, ollama: str, model: str) -> Iterator[Site]:
    """Serve an app from a folder; it asks this Ollama and reports to a collector."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with collecting() as collector:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--app-dir", folder, app, "--port", str(port)],
            env={
                **os.environ,
                "OLLAMA_HOST": ollama,
                "OLLAMA_MODEL": model,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                # No span leaves by itself: what arrives was sent at the end.
                "OTEL_BSP_SCHEDULE_DELAY": "3600000",
            },
            start_new_session=True,
        )
        site = Site(f"http://127.0.0.1:{port}", collector, process)
        try:
            until(lambda: answers(site.url))
            yield site
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def until(is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)
