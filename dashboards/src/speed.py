"""Queries of the speed of models: tokens, and the server's time for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dashboards.src.queries import BOARD as Q
from dashboards.src.vocabulary import BY_MODEL, GENAI, INPUT, OUTPUT, RANGE, TOKENS
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = [
    "DECODE_RATE",
    "DECODE_RATE_OF_RANGE",
    "DECODE_TIME",
    "PREFILL_RATE",
    "PREFILL_TIME",
    "TIME_PER_TOKEN",
]

_EVAL: Final = {names.PHASE: '="eval"'}
_PROMPT_EVAL: Final = {names.PHASE: '="prompt_eval"'}
_ON_MODEL: Final = f"on ({', '.join(map(label_name, BY_MODEL))})"

_CALLS: Final = f"({Q.count(GENAI.inference_duration, by=BY_MODEL)} > 0)"
_GENERATED: Final = Q.sum(TOKENS, by=BY_MODEL, where=OUTPUT)
_READ: Final = Q.sum(TOKENS, by=BY_MODEL, where=INPUT)


def _seconds(phase: Mapping[str, str]) -> str:
    """Return the time per second in a phase, of models that had it before the window, too.

    By OTLP, the rate of a histogram has its first records and that of a counter has not: for a new
    model the ratio of both would be wrong.
    """
    seconds = Q.rate(rows.PHASE_TIME, by=BY_MODEL, where=phase)
    return f"({seconds} > 0 and {_ON_MODEL} {Q.before(rows.PHASE_TIME, by=BY_MODEL, where=phase)})"


DECODE_RATE: Final = f"{_GENERATED} / {_seconds(_EVAL)}"
"""Tokens generated per second of generation."""

DECODE_RATE_OF_RANGE: Final = (
    f"{RANGE.sum_total(TOKENS, by=BY_MODEL, where=OUTPUT)}"
    f" / ({RANGE.total(rows.PHASE_TIME, by=BY_MODEL, where=_EVAL)} > 0)"
)

TIME_PER_TOKEN: Final = f"{_seconds(_EVAL)} / ({_GENERATED} > 0)"
"""Seconds of generation per generated token."""

PREFILL_RATE: Final = f"{_READ} / {_seconds(_PROMPT_EVAL)}"
"""Prompt tokens per second of prompt evaluation; counts cached tokens, too."""

PREFILL_TIME: Final = f"{_seconds(_PROMPT_EVAL)} / {_CALLS}"
"""Seconds of prompt evaluation per call."""

DECODE_TIME: Final = f"{_seconds(_EVAL)} / {_CALLS}"
"""Seconds of generation per call."""
