"""The results of `load` as one JSON document: seconds, and requests per second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ollama_otel._load.knee import Knee
from ollama_otel._load.result import LoadResult
from ollama_otel._load.stages import StageResult

__all__ = ["document"]


def document(stages: Sequence[StageResult], knee: Knee | None) -> dict[str, Any]:
    """Return the results of all stages, and the knee if it was searched."""
    made: dict[str, Any] = {"stages": [_stage(stage) for stage in stages]}
    if knee is not None:
        made["knee"] = {**asdict(knee), "is_found": knee.is_found}
    return made


def _stage(stage: StageResult) -> dict[str, Any]:
    return {
        "rate": stage.rate,
        "verdict": stage.verdict,
        "time_to_first_token_p95": _values(stage.time_to_first_token_p95),
        "latency_p95": _values(stage.latency_p95),
        "throughput": _values(stage.throughput),
        "output_token_rate": _values(stage.output_token_rate),
        "runs": [_run(run) for run in stage.runs],
    }


def _run(run: LoadResult) -> dict[str, Any]:
    pace = run.pace
    return {
        "verdict": pace.verdict,
        "verdict_reason": pace.reason,
        "stop": run.stop,
        "stop_detail": run.stop_detail,
        "started_at": run.started_at,
        "duration": run.duration,
        "requests": {
            "planned": run.planned,
            "sent": len(run.requests),
            **run.outcomes,
            "most_in_flight": run.most_in_flight,
        },
        "errors": dict(run.errors),
        "intended_rate": pace.intended_rate,
        "achieved_rate": pace.achieved_rate,
        "schedule_delay": _values(pace.schedule_delay),
        "time_to_first_token": _values(run.time_to_first_token),
        "time_to_first_answer": _values(run.time_to_first_answer),
        "latency": _values(run.latency),
        "throughput": run.throughput,
        "output_token_rate": run.output_token_rate,
        "decode_rate": _values(run.decode_rate),
        "phases": dict(run.phases),
        "warm_up": [
            {
                "model": record.start.request.model,
                "duration": record.duration,
                "load_duration": record.response.load_duration,
            }
            for record in run.warm_up
        ],
    }


def _values(values: Any) -> dict[str, Any] | None:
    return None if values is None else asdict(values)
