"""Rows of the table of calls, as a simulated server would have left them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ollama_otel._log.format import end_line, request_line
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.analysis._capacity.demand import CallEnd, Demand
from ollama_otel.records import (
    CallRecord,
    CallStart,
    ModelResidency,
    RequestFacts,
    ResponseFacts,
)

START = datetime(2026, 11, 28, 12, tzinfo=UTC)


def poisson(
    rate: float,
    count: int,
    models: Sequence[str] = ("m",),
    *,
    seed: int = 1,
    prompt: tuple[int, int] = (10, 200),
    tokens: float = 50.0,
    **more: Any,
) -> list[Demand]:
    """Demands with prompts and answers of many lengths; no prompt is in a cache."""
    chance = random.Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        at += chance.expovariate(rate)
        found.append(
            Demand(
                arrives_at=at,
                model=chance.choice(models),
                prompt_tokens=chance.randint(*prompt),
                output_tokens=2 + int(chance.expovariate(1 / tokens)),
                **({"overhead": 0.002, "before_first": 0.003, "after_last": 0.001} | more),
            )
        )
    return found


def rows_of(ends: Iterable[CallEnd], **more: Any) -> list[dict[str, Any]]:
    """One row per call: what the server and the client would have reported."""
    return [_row(end) | more for end in ends]


def _row(end: CallEnd) -> dict[str, Any]:
    demand = end.demand
    served = end.outcome == "completed"
    in_server = end.load + end.queue + demand.overhead + end.prefill + end.decode
    keep_alive = demand.keep_alive
    return {
        "started_at": START + timedelta(seconds=demand.arrives_at),
        "server": "127.0.0.1:11434",
        "operation": "chat",
        "model": demand.model,
        "purpose": "call",
        "stream": True,
        "options": demand.options or "{}",
        "keep_alive": None if keep_alive is None else f"{keep_alive}",
        "outcome": "completed" if served else "failed",
        "error_type": None if served else "server_busy",
        "duration": end.duration,
        "delay": None,
        "time_to_first_chunk": end.time_to_first_token if served else None,
        "cold_start": end.load >= 0.1,
        "input_tokens": int(demand.prompt_tokens),
        "output_tokens": int(demand.output_tokens),
        "total_duration": in_server if served else None,
        "load_duration": end.load,
        "prompt_eval_duration": end.prefill,
        "eval_duration": end.decode,
        "model_size": None,
        "reload_cause": None,
        "conversation_id": None if demand.user is None else str(demand.user),
        "served_by": None,
        "fallback_model": None,
    }


def write_log(path: Path, ends: Iterable[CallEnd], *, port: int = 11434) -> Path:
    """The replay log that a client would have written."""
    lines: list[dict[str, Any]] = []
    for number, row in enumerate(rows_of(ends)):
        start = CallStart(
            endpoint=find_endpoint("POST", "/api/chat"),
            request=RequestFacts(model=row["model"], stream=True, keep_alive=row["keep_alive"]),
            server_address="127.0.0.1",
            server_port=port,
            started_at=int(row["started_at"].timestamp() * 1e9),
        )
        record = CallRecord(
            start=start,
            outcome=row["outcome"],
            ending="final_message",
            duration=row["duration"],
            time_to_first_chunk=row["time_to_first_chunk"],
            chunk_count=row["output_tokens"],
            cold_start=row["cold_start"],
            response=ResponseFacts(
                done=True,
                input_tokens=row["input_tokens"],
                output_tokens=row["output_tokens"],
                total_duration=row["total_duration"],
                load_duration=row["load_duration"],
                prompt_eval_duration=row["prompt_eval_duration"],
                eval_duration=row["eval_duration"],
            ),
            residency=ModelResidency(model_size=1_900_000_000),
        )
        lines += [request_line(f"run-{number}", start), end_line(f"run-{number}", record)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
