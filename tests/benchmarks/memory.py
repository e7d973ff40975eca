"""What recording keeps: nothing. Python's allocated memory before and after very many calls.

`python -m tests.benchmarks.memory`
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

from ollama_otel import Client

from .overhead import DOCUMENT, LAST_CHUNK, MESSAGES, InProcess, Telemetry, chunk


def growth(run: Callable[[int], None], *, first: int, then: int) -> tuple[int, float]:
    """Bytes that `then` more runs leave behind, and how much longer each took than the first."""
    run(100)
    began = time.process_time()
    run(first)
    each = (time.process_time() - began) / first
    began = time.process_time()
    run(then)
    later = (time.process_time() - began) / then
    gc.collect()
    tracemalloc.start()
    run(200)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    run(2_000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before, later / each


def calls(telemetry: Telemetry) -> Callable[[int], None]:
    client = Client(transport=InProcess([DOCUMENT], "application/json"), **telemetry.options)

    def run(count: int) -> None:
        for _ in range(count):
            client.chat("llama3.2", messages=MESSAGES)
        telemetry.tracer_provider.force_flush()

    return run


def abandoned(telemetry: Telemetry) -> Callable[[int], None]:
    chunks = [*map(chunk, range(50)), LAST_CHUNK]
    client = Client(transport=InProcess(chunks, "application/x-ndjson"), **telemetry.options)

    def run(count: int) -> None:
        for _ in range(count):
            for _part in client.chat("llama3.2", messages=MESSAGES, stream=True):
                break
        telemetry.tracer_provider.force_flush()

    return run


def main() -> None:
    for name, make, first, then in (
        ("calls", calls, 10_000, 100_000),
        ("abandoned streams", abandoned, 1_000, 10_000),
    ):
        grown, slower = growth(make(Telemetry.create()), first=first, then=then)
        print(f"{then:,} {name} after {first:,}: {slower:.2f}x the time each; ", end="")
        print(f"2,000 further ones leave {grown:,} bytes behind")
    stream = [*map(chunk, range(200_000)), LAST_CHUNK]
    short, long = stream[-20_001:], stream
    seconds, peaks = [], []
    for chunks in (short, long):
        telemetry = Telemetry.create()
        client = Client(transport=InProcess(chunks, "application/x-ndjson"), **telemetry.options)
        began = time.process_time()
        for _part in client.chat("llama3.2", messages=MESSAGES, stream=True):
            pass
        seconds.append(time.process_time() - began)
        tracemalloc.start()
        for _part in client.chat("llama3.2", messages=MESSAGES, stream=True):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    print(
        f"200,000 chunks: {seconds[1] / seconds[0] / 10:.2f}x the time per chunk of 20,000; "
        f"peak {peaks[1]:,} bytes against {peaks[0]:,}"
    )


if __name__ == "__main__":
    main()
