"""Public names of the load generator: plans of timed requests, runs, and their results."""

from __future__ import annotations

from ollama_otel._load.arrivals import Arrivals, arrival_times
from ollama_otel._load.progress import LoadProgress
from ollama_otel._load.quantiles import Quantiles
from ollama_otel._load.request import TimedRequest
from ollama_otel._load.result import LoadResult, RequestResult, StopReason
from ollama_otel._load.run import LoadOptions, StopSwitch, arun_load, run_load
from ollama_otel._load.sources import (
    Recording,
    at_rate,
    prompt_requests,
    recorded_requests,
)
from ollama_otel._load.verdict import Pace, Verdict
from ollama_otel.errors import LoadError

__all__ = [
    "Arrivals",
    "LoadError",
    "LoadOptions",
    "LoadProgress",
    "LoadResult",
    "Pace",
    "Quantiles",
    "Recording",
    "RequestResult",
    "StopReason",
    "StopSwitch",
    "TimedRequest",
    "Verdict",
    "arrival_times",
    "arun_load",
    "at_rate",
    "prompt_requests",
    "recorded_requests",
    "run_load",
]
