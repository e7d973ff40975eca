"""Rule about a context that is far larger than any prompt."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.cuts import enough
from ollama_otel.analysis._advice.rule import IS_REQUEST, OF_SUBJECT, SUBJECT, Row, Rule, Suggestion

__all__ = ["CONTEXT_TOO_LARGE"]

_LEAST: Final = 20
"""Calls that a usual value needs."""
_FACTOR: Final = 4
_SMALL: Final = 4096
"""Contexts up to this size, in tokens, are not worth a change."""
_STEP: Final = 1024

_CONCERNED: Final = f"""
groups AS (
    SELECT
        {SUBJECT}, options,
        max(context_length) AS loaded,
        max(coalesce(truncation_prompt_tokens, input_tokens) + coalesce(output_tokens, 0)) AS used,
        count(input_tokens) AS counted,
        count(truncation_certainty) AS cuts
    FROM calls WHERE {IS_REQUEST} GROUP BY {OF_SUBJECT}, options
),
models AS (
    SELECT
        host, model_name,
        max(coalesce(CAST(loaded AS DOUBLE), option_number(options, 'num_ctx'))) AS context,
        max(used) AS used,
        sum(counted) AS counted,
        sum(cuts) AS cuts
    FROM groups GROUP BY host, model_name
),
requests AS (
    SELECT {SUBJECT}, call_id, started_at, duration, gpu_share
    FROM calls WHERE {IS_REQUEST} AND input_tokens IS NOT NULL
),
concerned AS (
    SELECT
        r.host AS host, r.model_name AS model_name, call_id, started_at, duration, gpu_share,
        context, used, CAST(NULL AS DOUBLE) AS improved
    FROM requests r JOIN models m ON r.host = m.host AND r.model_name = m.model_name
    WHERE counted >= {_LEAST} AND cuts = 0 AND context > {_SMALL} AND used * {_FACTOR} < context
)
"""


def _judge(row: Row) -> Suggestion | None:
    value = -(-enough(row["used"]) // _STEP) * _STEP
    name, context = row["model_name"], row["given"]
    part = row["gpu_share"]
    gain = (
        f" Only {part:.0%} of {name} fits on the GPU: the context takes memory there."
        if part is not None and 0 < part < 1
        else ""
    )
    return Suggestion(
        seen=(
            f"{name} has a context of {context:.0f} tokens for each request, and the longest "
            f"prompt with its answer has {row['used']}. The context takes memory, also if it is "
            f"empty.{gain}"
        ),
        change=f"Send num_ctx {value} with every call to {name}, or set it in a Modelfile.",
        setting="num_ctx",
        value=str(value),
    )


CONTEXT_TOO_LARGE: Final = Rule(
    kind="context_too_large",
    concerned=_CONCERNED,
    measures={"given": "max(context)", "used": "max(used)", "gpu_share": "min(gpu_share)"},
    judge=_judge,
    needs=("contexts",),
)
