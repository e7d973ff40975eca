"""The numbers at the top of the report, of all calls of its period."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ollama_otel.analysis._report.values import Total, Unit

__all__ = ["TOTALS", "totals"]

TOTALS: Final = """
    SELECT count(*) AS calls, count_if(outcome = 'failed') / count(*) AS failed,
        exact_quantile(CASE WHEN total_duration IS NOT NULL THEN duration END, 0.5)
            AS duration_p50,
        exact_quantile(CASE WHEN total_duration IS NOT NULL THEN duration END, 0.95)
            AS duration_p95,
        exact_quantile(time_to_first_answer, 0.95) AS first_answer_p95,
        exact_quantile(decode_rate, 0.5) AS decode_rate_p50,
        sum(output_tokens) AS output_tokens,
        count_if(cold_start) / nullif(count_if(cold_start IS NOT NULL), 0) AS cold
    FROM calls
"""
_UNITS: Final[Mapping[str, Unit]] = {
    "calls": "count",
    "failed": "share",
    "duration_p50": "seconds",
    "duration_p95": "seconds",
    "first_answer_p95": "seconds",
    "decode_rate_p50": "per_second",
    "output_tokens": "number",
    "cold": "share",
}


def totals(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> tuple[Total, ...]:
    """Return the numbers; `before` has those of the period that they are compared to."""
    return tuple(
        Total(
            name=name, value=now[name], before=None if before is None else before[name], unit=unit
        )
        for name, unit in _UNITS.items()
    )
