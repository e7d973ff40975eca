"""How true to time a log is played: how far each chunk is from its recorded offset.

`python -m tests.benchmarks.playback [--chunks N] [--gap SECONDS] [--times N]`

A stream is recorded from the fake Ollama over a socket and played back sync, on asyncio, on
trio and by the replay server over a socket; time counts from the request.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
import uvicorn

from ollama_otel import Client
from ollama_otel.replay import AsyncPlayer, Player, RecordedCall, ReplayApp, ReplayLog, read
from ollama_otel.testing import FakeModel, FakeOllama

URL = "http://127.0.0.1:11434/api/chat"


def record(path: Path, chunks: int, gap: float) -> RecordedCall:
    """Record one stream of so many words, `gap` seconds apart."""
    model = FakeModel("m", reply="word " * chunks, load=0, prompt=0, token=gap)
    with (
        FakeOllama([model], realtime=True).serve() as url,
        ReplayLog(path, bodies=True) as log,
        Client(url, observers=[log]) as client,
    ):
        for _ in client.chat("m", messages=[{"role": "user", "content": "Talk."}], stream=True):
            pass
    [call] = read(path)
    return call


def _sync(make: Callable[[], httpx.Client], body: Any, url: str) -> list[float]:
    with make() as client:
        began = time.perf_counter()
        with client.stream("POST", url, json=body) as response:
            return [time.perf_counter() - began for _ in response.iter_raw()]


async def _async(call: RecordedCall) -> list[float]:
    async with httpx.AsyncClient(transport=AsyncPlayer([call])) as client:
        began = time.perf_counter()
        async with client.stream("POST", URL, json=call.request_body) as response:
            return [time.perf_counter() - began async for _ in response.aiter_raw()]


def _served(call: RecordedCall) -> list[float]:
    config = uvicorn.Config(ReplayApp([call]), port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    make = partial(httpx.Client, trust_env=False)
    arrivals = _sync(make, call.request_body, f"http://127.0.0.1:{port}/api/chat")
    server.should_exit = True
    thread.join(10)
    return arrivals


def measure(call: RecordedCall) -> dict[str, list[float]]:
    """Return how many seconds each chunk was off, by way of playing."""
    body = call.request_body
    arrivals = {
        "Player": _sync(lambda: httpx.Client(transport=Player([call])), body, URL),
        "AsyncPlayer, asyncio": asyncio.run(_async(call)),
        "AsyncPlayer, trio": trio.run(_async, call),
        "replay server, over a socket": _served(call),
    }
    offsets = [chunk.offset for chunk in call.chunks or ()]
    return {
        way: [abs(at - offset) for at, offset in zip(times, offsets, strict=True)]
        for way, times in arrivals.items()
        # Over a socket two chunks may come as one.
        if len(times) == len(offsets)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=200)
    parser.add_argument("--gap", type=float, default=0.02)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        call = record(Path(folder) / "calls.jsonl", arguments.chunks, arguments.gap)
    off: dict[str, list[float]] = {}
    for _ in range(arguments.times):
        for way, times in measure(call).items():
            off.setdefault(way, []).extend(times)
    for way, times in off.items():
        median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[18]
        print(f"{way:30} median {median * 1e3:6.2f} ms, 95 % within {p95 * 1e3:6.2f} ms")


if __name__ == "__main__":
    main()
