"""Whatever calls a log has, there is a forecast of finite numbers, or a sentence why there is none."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel.analysis import Scenario, Workload, backtest, forecast, users_within
from ollama_otel.errors import AnalysisError
from tests.examples import examples

from .simulated_log import START

seconds = st.sampled_from([0.0, 1e-6, 0.1, 2.0, 1e5]) | st.floats(0, 100)
count = st.integers(0, 10_000)
rows = st.fixed_dictionaries(
    {
        "started_at": st.integers(0, 10**7).map(lambda ms: START + timedelta(milliseconds=ms)),
        "operation": st.sampled_from(["chat", "embed", "generate"]),
        "model": st.none() | st.sampled_from(["a", "b", "a:latest"]),
        "purpose": st.sampled_from(["call", "load"]),
        "stream": st.booleans(),
        "options": st.sampled_from([None, "{}", '{"num_ctx": 512}', '{"num_ctx": "x"}']),
        "keep_alive": st.sampled_from([None, "0", "-1", "5m", "soon"]),
        "outcome": st.sampled_from(["completed", "completed", "failed"]),
        "error_type": st.sampled_from([None, "server_busy"]),
        "duration": seconds,
        "delay": st.none() | seconds,
        "time_to_first_chunk": st.none() | seconds,
        "cold_start": st.none() | st.booleans(),
        "input_tokens": st.none() | count,
        "output_tokens": st.none() | count,
        "total_duration": st.none() | seconds,
        "load_duration": st.none() | seconds,
        "prompt_eval_duration": st.none() | seconds,
        "eval_duration": st.none() | seconds,
        "model_size": st.none() | count,
        "reload_cause": st.sampled_from([None, "evicted"]),
        "conversation_id": st.sampled_from([None, "c"]),
        "served_by": st.none(),
        "fallback_model": st.none(),
    }
)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [each for part in value.values() for each in numbers(part)]
    if isinstance(value, (list, tuple)):
        return [each for part in value for each in numbers(part)]
    return [value] if isinstance(value, float) else []


# Each example simulates thousands of calls.
@settings(max_examples=examples(20))
@given(st.lists(rows, max_size=12))
def test_any_calls_give_finite_numbers(found: list[dict[str, Any]]) -> None:
    try:
        workload = Workload.from_rows(found)
    except AnalysisError as error:
        assert "found none" in str(error)
        return
    results = [
        backtest(workload),
        forecast(workload, runs=1),
        forecast(workload, Scenario(users=3, think_time=1.0), runs=1),
        users_within(workload, 0.05, runs=1),
    ]
    for result in results:
        assert all(map(math.isfinite, numbers(msgspec.to_builtins(result))))
