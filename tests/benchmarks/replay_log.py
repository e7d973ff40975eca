"""What the replay log costs the caller's thread, against the instrumented client without it.

`python -m tests.benchmarks.replay_log [--rounds N] [--calls N] [--json]`

Every round runs each variant once, in turn, on an in-process transport; a difference is
taken within its round and the median over rounds is shown. The time is that of the
caller's thread alone (`time.thread_time`), and beside it that of the whole process; the
log's own thread is drained between two measurements. Then a log of `--calls` calls is
written and read.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ollama

from ollama_otel import instrument_client
from ollama_otel.replay import ReplayLog, read

from .overhead import DOCUMENT, LAST_CHUNK, MESSAGES, InProcess, Telemetry, chunk

SHORT, LONG = 200, 2000
_NDJSON, _JSON = "application/x-ndjson", "application/json; charset=utf-8"


def _single(client: Any) -> None:
    client.chat("llama3.2", messages=MESSAGES)


def _stream(client: Any) -> None:
    for _part in client.chat("llama3.2", messages=MESSAGES, stream=True):
        pass


def _scenarios() -> dict[str, tuple[Callable[[Any], None], int, InProcess]]:
    def stream(length: int) -> InProcess:
        return InProcess([*map(chunk, range(length - 1)), LAST_CHUNK], _NDJSON)

    return {
        "single chat": (_single, 40, InProcess([DOCUMENT], _JSON)),
        "short stream": (_stream, 5, stream(SHORT)),
        "long stream": (_stream, 1, stream(LONG)),
    }


def measure(rounds: int, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the extra microseconds by clock, figure and variant."""
    telemetry = Telemetry.create()
    logs = {
        "no log": None,
        "facts": ReplayLog(folder / "facts.jsonl"),
        "bodies": ReplayLog(folder / "bodies.jsonl", bodies=True),
    }
    scenarios = _scenarios()
    clocks = {"caller": time.thread_time, "process": time.process_time}
    spent: dict[tuple[str, str, str], list[float]] = {}
    for round_number in range(rounds + 1):
        for scenario, (run, repeat, transport) in scenarios.items():
            turn = round_number % len(logs)
            for name, log in [*logs.items()][turn:] + [*logs.items()][:turn]:
                client: Any = instrument_client(
                    ollama.Client(transport=transport),
                    observers=[] if log is None else [log],
                    **telemetry.options,
                )
                gc.collect()
                began = {clock: read_clock() for clock, read_clock in clocks.items()}
                for _ in range(repeat):
                    run(client)
                caller = clocks["caller"]() - began["caller"]
                if log is not None:
                    log.flush()
                process = clocks["process"]() - began["process"]
                telemetry.reader.get_metrics_data()
                if round_number:
                    for clock, seconds in (("caller", caller), ("process", process)):
                        spent.setdefault((clock, scenario, name), []).append(seconds / repeat)
    for log in logs.values():
        if log is not None:
            log.close()

    def extra(clock: str, scenario: str, name: str) -> list[float]:
        pairs = zip(spent[clock, scenario, name], spent[clock, scenario, "no log"], strict=True)
        return [(with_log - without) * 1e6 for with_log, without in pairs]

    figures: dict[str, dict[str, dict[str, float]]] = {}
    for clock in clocks:
        per_call = {n: statistics.median(extra(clock, "single chat", n)) for n in logs}
        per_chunk = {
            n: statistics.median(
                (b - a) / (LONG - SHORT)
                for a, b in zip(
                    extra(clock, "short stream", n), extra(clock, "long stream", n), strict=True
                )
            )
            for n in logs
        }
        figures[clock] = {"us a call": per_call, "us a chunk": per_chunk}
    return figures


def measure_reading(calls: int, folder: Path) -> dict[str, float]:
    """Write a log of so many calls, facts only, and read it: seconds, and bytes at the peak."""
    path = folder / "many.jsonl"
    few = folder / "few.jsonl"
    client: Any = instrument_client(
        ollama.Client(transport=InProcess([DOCUMENT], _JSON)),
        observers=[log := ReplayLog(few)],
        **Telemetry.create().options,
    )
    for _ in range(100):
        _single(client)
    log.close()
    lines = few.read_text().splitlines(keepends=True)
    with path.open("w") as file:
        for copy in range(calls // 100):
            # Each call has a name of its own.
            file.writelines(line.replace('"id":"', f'"id":"{copy}.', 1) for line in lines)
    began = time.perf_counter()
    count = sum(1 for _ in read(path))
    seconds = time.perf_counter() - began
    tracemalloc.start()
    iterator = read(path)
    for _ in range(1000):
        next(iterator)
    early = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(min(count - 1000, 50_000)):
        next(iterator)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "calls": count,
        "lines": count * 2,
        "seconds": seconds,
        "seconds per 1,000,000 lines": seconds / (count * 2) * 1e6,
        "bytes more at the peak": peak - early,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments.rounds, Path(folder))
        reading = measure_reading(arguments.calls, Path(folder))
    if arguments.json:
        print(json.dumps({"writing": figures, "reading": reading}, indent=1))
        return
    for clock, by_figure in figures.items():
        for figure, by_variant in by_figure.items():
            for name, extra in by_variant.items():
                if name != "no log":
                    print(f"{clock:8} {figure:12} {name:8} {extra:+8.2f} us")
    for name, value in reading.items():
        print(f"{name:30} {value:,.2f}")


if __name__ == "__main__":
    main()
