"""Rows of the table of calls, as a simulated server would have left them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ollama_otel.analysis._capacity.demand import CallEnd, Demand

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
