"""What the replay log costs the caller's thread, against the instrumented client without it.

`python -m tests.benchmarks.replay_log [--rounds N] [--calls N] [--json]`

Every round runs each variant once, in turn, on an in-process transport; a difference is
taken within its round and the median over rounds is shown. The time is that of the
caller's thread alone (`time.thread_time`), and beside it that of the whole process; the
log's own thread is drained between two measurements. Then lines are rendered as the log's
thread does it, without the thread, and a log of `--calls` calls is written and read; both are
compared with the plain encoding or decoding of the same lines.
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

import msgspec
import ollama

from ollama_otel import instrument_client
from ollama_otel._log.pipeline import Begun, CallIds, Ended, Pipeline
from ollama_otel._log.privacy import BodyPolicy
from ollama_otel.instrumentation import CallFollower
from ollama_otel.records import CallRecord, CallStart
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


class _Entries:
    """An observer that keeps what the log would queue."""

    keeps_request = True

    def __init__(self) -> None:
        self.kept: list[Begun | Ended] = []

    def begin(self, start: CallStart) -> CallFollower:
        call_id = str(len(self.kept))
        self.kept.append(Begun(id=call_id, start=start, missing=None))
        return _Follower(self, call_id)


class _Follower(CallFollower):
    def __init__(self, entries: _Entries, call_id: str) -> None:
        self._entries, self._id = entries, call_id
        self._pieces: list[bytes] = []
        self._arrivals: list[float] = []

    def pieces(self, pieces: Any, arrivals: Any) -> None:
        self._pieces += pieces
        self._arrivals += arrivals

    def end(self, record: CallRecord) -> None:
        self._entries.kept.append(
            Ended(id=self._id, record=record, pieces=self._pieces, arrivals=self._arrivals)
        )


def _queued(transport: InProcess, calls: int, *, stream: bool) -> list[Begun | Ended]:
    entries = _Entries()
    client: Any = instrument_client(
        ollama.Client(transport=transport), observers=[entries], **Telemetry.create().options
    )
    for number in range(calls):
        # Each prompt is another one, as in an application.
        prompt = f"Question {number}: why is the sky blue at noon, and why is it red at night?"
        answer = client.chat("llama3.2", [{"role": "user", "content": prompt}], stream=stream)
        if stream:
            list(answer)
    return entries.kept


def _without_body(entry: Begun | Ended) -> Begun | Ended:
    return msgspec.structs.replace(entry, pieces=None) if isinstance(entry, Ended) else entry


def measure_rendering(rounds: int) -> dict[str, dict[str, float]]:
    """Return what the log's thread needs for one call: microseconds, and plain encodings."""
    document, stream = InProcess([DOCUMENT], _JSON), _scenarios()["short stream"][2]
    variants = {
        "facts": (False, _queued(document, 200, stream=False)),
        "bodies": (True, _queued(document, 200, stream=False)),
        f"bodies, {SHORT} chunks": (True, _queued(stream, 20, stream=True)),
    }
    found: dict[str, dict[str, float]] = {}
    for name, (bodies, queued) in variants.items():
        entries = queued if bodies else list(map(_without_body, queued))
        pipeline = Pipeline(BodyPolicy(), CallIds(), bodies=bodies, max_body=1 << 24)
        values = [msgspec.json.decode(pipeline.render(entry)) for entry in entries]
        spent: list[float] = []
        ratios: list[float] = []
        for _ in range(rounds):
            began = time.process_time()
            for entry in entries:
                pipeline.render(entry)
            rendered = time.process_time()
            for _ in range(10):
                for value in values:
                    msgspec.json.encode(value)
            spent.append((rendered - began) / len(entries) * 2e6)
            ratios.append((rendered - began) / (time.process_time() - rendered) * 10)
        found[name] = {
            "us a call": statistics.median(spent),
            "plain encodings": statistics.median(ratios),
        }
    return found


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
    began = time.process_time()
    count = sum(1 for _ in read(path))
    seconds = time.process_time() - began
    began = time.process_time()
    with path.open("rb") as lines_of_bytes:
        for line in lines_of_bytes:
            msgspec.json.decode(line)
    plain = time.process_time() - began
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
        "plain decodings": seconds / plain,
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
        rendering = measure_rendering(arguments.rounds)
        reading = measure_reading(arguments.calls, Path(folder))
    if arguments.json:
        found = {"writing": figures, "rendering": rendering, "reading": reading}
        print(json.dumps(found, indent=1))
        return
    for clock, by_figure in figures.items():
        for figure, by_variant in by_figure.items():
            for name, extra in by_variant.items():
                if name != "no log":
                    print(f"{clock:8} {figure:12} {name:8} {extra:+8.2f} us")
    for variant, costs in rendering.items():
        shown = ", ".join(f"{value:,.1f} {unit}" for unit, value in costs.items())
        print(f"rendering {variant:18} {shown}")
    for name, value in reading.items():
        print(f"{name:30} {value:,.2f}")


if __name__ == "__main__":
    main()
