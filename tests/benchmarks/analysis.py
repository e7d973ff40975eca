"""How long a log takes to import, to open again and to answer, and the memory it takes.

`python -m tests.benchmarks.analysis [--calls N] [--log FILE] [--json]`

Writes a log of `--calls` calls (facts only: chats of 97 users with three models, which overlap),
unless `--log` names one. Each step runs in a process of its own; its memory is the peak of that
process. Sorting by time and writing the log are not measured.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ollama_otel._frozen import FrozenDict
from ollama_otel._log.format import end_line, request_line
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.analysis import open_log
from ollama_otel.context import CallContext
from ollama_otel.records import CallRecord, CallStart, RequestFacts, ResponseFacts, SpanIds

MODELS = ["llama3.2:latest", "qwen3:8b", "gemma3:27b"]
QUERIES = {
    "models": """
        SELECT model, count(*) AS n, exact_quantile(duration, 0.5) AS p50,
            exact_quantile(duration, 0.95) AS p95, sum(output_tokens) AS tokens
        FROM calls GROUP BY model
    """,
    "hours": """
        SELECT time_bucket_of(started_at, 3600) AS hour, count(*) AS n, sum(input_tokens) AS tokens,
            exact_quantile(time_to_first_answer, 0.95) AS first
        FROM calls GROUP BY hour ORDER BY hour
    """,
    "tags": """
        SELECT tag(tags, 'team') AS team, count_if(outcome = 'failed') AS failed,
            avg(option_number(options, 'num_ctx')) AS num_ctx
        FROM calls GROUP BY team
    """,
    "users": """
        SELECT user_id, count(*) AS n, sum(duration) AS seconds FROM calls
        GROUP BY user_id ORDER BY seconds DESC LIMIT 20
    """,
    "turns": """
        SELECT avg(turns) AS turns FROM (
            SELECT conversation_id, count(*) AS turns FROM calls GROUP BY conversation_id
        )
    """,
    "slowest": "SELECT call_id, model, duration FROM calls ORDER BY duration DESC LIMIT 50",
    "load": "SELECT avg(concurrency) AS mean, exact_quantile(concurrency, 0.99) AS p99 FROM calls",
}


def _records(count: int) -> Iterator[CallRecord]:
    chance = random.Random(1)
    endpoint = find_endpoint("POST", "/api/chat")
    assert endpoint is not None
    now = 1_790_000_000_000_000_000
    for number in range(count):
        now += int(chance.expovariate(2.0) * 1e9)
        model = chance.choice(MODELS)
        read, written = chance.randint(20, 4000), chance.randint(5, 600)
        load = 0.02 if chance.random() < 0.98 else 4.1
        prefill, decode = read / 3000, written / 80
        yield CallRecord(
            start=CallStart(
                endpoint=endpoint,
                path="/api/chat",
                started_at=now,
                server_address="127.0.0.1",
                server_port=11434,
                span=SpanIds(
                    trace=chance.getrandbits(128), span=chance.getrandbits(64), is_sampled=True
                ),
                context=CallContext(
                    conversation_id=f"c{number // 6}",
                    user_id=f"u{number % 97}",
                    tags=FrozenDict({"team": chance.choice("abc")}),
                ),
                request=RequestFacts(
                    model=model,
                    stream=True,
                    options=FrozenDict({"num_ctx": 8192, "temperature": 0.2}),
                    input_count=3,
                    size=2000,
                ),
            ),
            outcome="completed",
            ending="final_message",
            duration=load + prefill + decode + 0.05,
            http_status=200,
            time_to_first_chunk=load + prefill + 0.03,
            time_to_first_answer=load + prefill + 0.03,
            longest_gap=0.1,
            chunk_count=written,
            response_size=written * 120,
            content_type="application/x-ndjson",
            is_from_network=True,
            response=ResponseFacts(
                model=model,
                done=True,
                done_reason="stop",
                input_tokens=read,
                output_tokens=written,
                total_duration=load + prefill + decode + 0.04,
                load_duration=load,
                prompt_eval_duration=prefill,
                eval_duration=decode,
            ),
        )


def write_log(path: Path, count: int) -> None:
    """Write a log of so many calls, its lines in the order of their times."""
    encode = msgspec.json.Encoder().encode
    waiting: list[tuple[int, int, bytes]] = []
    with path.open("wb") as file:
        for number, record in enumerate(_records(count)):
            start = record.start
            while waiting and waiting[0][0] <= start.started_at:
                file.write(heapq.heappop(waiting)[2])
            file.write(encode(request_line(f"{number:012x}", start)) + b"\n")
            end = encode(end_line(f"{number:012x}", record)) + b"\n"
            heapq.heappush(waiting, (start.started_at + int(record.duration * 1e9), number, end))
        while waiting:
            file.write(heapq.heappop(waiting)[2])


def _opened(log: Path, cache: Path) -> dict[str, float]:
    """Open a log and ask it; the seconds of each step."""
    began = time.perf_counter()
    with open_log(log, cache=cache) as calls:
        seconds = {"open": time.perf_counter() - began}
        for name, sql in QUERIES.items():
            began = time.perf_counter()
            calls.query(sql)
            seconds[name] = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds["cpu"] = usage.ru_utime + usage.ru_stime
    seconds["memory"] = usage.ru_maxrss * 1024
    return seconds


def _in_process(log: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, "-m", __spec__.name, "--step", str(log), str(cache)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    step: dict[str, float] = json.loads(done.stdout)
    return step


def measure(log: Path) -> dict[str, Any]:
    """Return seconds and bytes of the first and of a second opening."""
    with tempfile.TemporaryDirectory() as cache:
        first = _in_process(log, Path(cache))
        again = _in_process(log, Path(cache))
    slowest = max(QUERIES, key=lambda name: again[name])
    return {
        "import_s": first["open"],
        "import_cpu_s": first["cpu"],
        "import_memory_bytes": first["memory"],
        "reopen_s": again["open"],
        "queries_s": {name: again[name] for name in QUERIES},
        "slowest_query_s": again[slowest],
        "query_memory_bytes": again["memory"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(_opened(*arguments.step)))
        return
    with tempfile.TemporaryDirectory() as folder:
        log = arguments.log or Path(folder) / "calls.jsonl"
        if arguments.log is None:
            write_log(log, arguments.calls)
        found = measure(log) | {"log_bytes": log.stat().st_size}
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"log: {found['log_bytes'] / 1e6:,.0f} MB")
    print(
        f"first time: {found['import_s']:.1f} s ({found['import_cpu_s']:.1f} s of CPU), "
        f"{found['import_memory_bytes'] / 2**20:,.0f} MiB"
    )
    print(f"again: {found['reopen_s']:.2f} s, {found['query_memory_bytes'] / 2**20:,.0f} MiB")
    for name, seconds in found["queries_s"].items():
        print(f"query {name}: {seconds:.3f} s")


if __name__ == "__main__":
    main()
