"""A log with a story: a week of three models, whose second half goes wrong in known ways."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from pathlib import Path

from msgspec.json import encode

from ollama_otel._frozen import FrozenDict
from ollama_otel._log.format import end_line, request_line
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallRecord,
    CallStart,
    ModelResidency,
    RequestFacts,
    ResponseFacts,
    SpanIds,
    Truncation,
)

START = 1_790_000_000 * 10**9
WEEK = 7 * 86400
_SPEEDS = {"llama3.2:latest": (4000, 110), "qwen3:8b": (2500, 62), "gemma3:27b": (900, 22)}
_TEAMS = ("search", "support", "billing")
CHAT = find_endpoint("POST", "/api/chat")


def write(
    path: Path, calls: int = 6000, *, is_worse: bool = True, seconds: float = WEEK, seed: int = 1
) -> Path:
    """Write the log. In its second half, if it `is_worse`, gemma3 decodes at half the speed, 9 % of
    the calls of qwen3 fail, and llama3.2 is reloaded again and again, since num_ctx alternates."""
    lines: list[tuple[int, int, bytes]] = []
    chance = random.Random(seed)
    for number, at in enumerate(_times(chance, calls, seconds)):
        is_late = is_worse and at > seconds / 2
        start, record = _call(chance, number, START + int(at * 1e9), is_late=is_late)
        name = f"{number:08x}"
        lines.append((start.started_at, number, encode(request_line(name, start))))
        if record is not None:
            ended = start.started_at + int(record.duration * 1e9)
            lines.append((ended, number, encode(end_line(name, record))))
    heapq.heapify(lines)
    with path.open("wb") as file:
        while lines:
            file.write(heapq.heappop(lines)[2] + b"\n")
    return path


def _times(chance: random.Random, calls: int, seconds: float) -> Iterator[float]:
    """More calls by day than by night."""
    made = 0
    while made < calls:
        at = chance.random() * seconds
        if chance.random() < 0.55 + 0.45 * math.sin(at / 86400 * 2 * math.pi):
            made += 1
            yield at


def _call(
    chance: random.Random, number: int, at: int, *, is_late: bool
) -> tuple[CallStart, CallRecord | None]:
    model = chance.choices(list(_SPEEDS), (5, 3, 2))[0]
    prefill, decode = _SPEEDS[model]
    num_ctx = chance.choice((4096, 16384)) if is_late and model.startswith("llama") else 4096
    start = CallStart(
        endpoint=CHAT,
        started_at=at,
        server_address="gpu-box",
        server_port=11434,
        span=SpanIds(trace=chance.getrandbits(128), span=chance.getrandbits(64), is_sampled=True),
        context=CallContext(
            conversation_id=f"c{number // 4}",
            user_id=f"user{min(chance.randrange(12), chance.randrange(12))}",
            tags=FrozenDict({"team": chance.choice(_TEAMS)}),
        ),
        request=RequestFacts(
            model=model,
            stream=True,
            options=FrozenDict({"num_ctx": num_ctx, "temperature": 0.2}),
            input_count=3,
            size=2000,
            tools=("search", "weather") if number % 5 == 0 else (),
        ),
    )
    if number % 1999 == 0:
        return start, None
    if model.startswith("qwen") and chance.random() < (0.09 if is_late else 0.008):
        return start, _failed(chance, start)
    if chance.random() < 0.03:
        gone = chance.uniform(0.5, 4)
        return start, CallRecord(
            start=start,
            outcome="abandoned",
            ending="closed_early",
            duration=gone,
            http_status=200,
            is_from_network=True,
            time_to_first_chunk=gone / 2,
            time_to_first_answer=gone / 2,
        )
    read, written = int(chance.lognormvariate(6.3, 1)), int(chance.lognormvariate(5.0, 0.8)) + 1
    is_cold = chance.random() < (0.2 if is_late and model.startswith("llama") else 0.02)
    load = chance.uniform(2.5, 6) if is_cold else chance.uniform(0.01, 0.04)
    queue = chance.expovariate(1 / 0.4) if chance.random() < 0.25 else 0.002
    slow = 0.5 if is_late and model.startswith("gemma") else 1.0
    prompt, answer = read / prefill, written / (decode * slow * chance.uniform(0.9, 1.1))
    total = load + queue + prompt + answer
    is_cut = read > 3000
    return start, CallRecord(
        start=start,
        outcome="completed",
        ending="final_message",
        duration=total + 0.03,
        http_status=200,
        is_from_network=True,
        time_to_first_chunk=load + queue + prompt + 0.02,
        time_to_first_answer=load + queue + prompt + 0.02,
        longest_gap=0.1,
        chunk_count=written,
        cold_start=is_cold,
        response=ResponseFacts(
            model=model,
            done=True,
            done_reason="length" if written > 600 else "stop",
            input_tokens=read,
            output_tokens=written,
            total_duration=total,
            load_duration=load,
            prompt_eval_duration=prompt,
            eval_duration=answer,
            tool_calls=("search",) if number % 10 == 0 else (),
        ),
        residency=ModelResidency(
            gpu_share=slow,
            context_length=num_ctx,
            reload_cause="num_ctx" if is_cold and is_late else None,
            reload_before="4096" if is_cold and is_late else None,
            reload_after="16384" if is_cold and is_late else None,
        ),
        truncation=Truncation(
            kind="prompt_cut",
            certainty="confirmed",
            context_length=4096,
            prompt_tokens=read + 900,
            lost_tokens=900,
        )
        if is_cut
        else Truncation(),
    )


def _failed(chance: random.Random, start: CallStart) -> CallRecord:
    kind = chance.choice(("out_of_memory", "out_of_memory", "timeout"))
    return CallRecord(
        start=start,
        outcome="failed",
        ending="error_status" if kind == "out_of_memory" else "exception",
        error_type=kind,
        error_message="CUDA error: out of memory" if kind == "out_of_memory" else None,
        duration=0.4 if kind == "out_of_memory" else 30.0,
        http_status=500 if kind == "out_of_memory" else None,
    )
