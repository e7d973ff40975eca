"""Rule about prompts that the server silently cut."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, SUBJECT, Row, Rule, Suggestion

__all__ = ["PROMPT_CUT"]

_LEAST_SUSPECTED: Final = 3
"""One suspicion may be chance."""

_CONCERNED: Final = f"""
concerned AS (
    SELECT
        {SUBJECT}, call_id, started_at, duration, CAST(NULL AS DOUBLE) AS improved,
        truncation_kind, truncation_certainty, truncation_context_length, truncation_lost_tokens,
        coalesce(truncation_prompt_tokens, input_tokens) + coalesce(output_tokens, 0) AS needed
    FROM calls WHERE {IS_REQUEST} AND truncation_certainty IS NOT NULL
)
"""


def enough(tokens: int) -> int:
    """Return a context for a prompt with its answer, in steps of 256 tokens."""
    return (tokens + tokens // 4 + 512) // 256 * 256


def _judge(row: Row) -> Suggestion | None:
    name, confirmed, calls = row["model_name"], row["confirmed"], row["calls"]
    if not confirmed and calls < _LEAST_SUSPECTED:
        return None
    lost = "" if row["lost"] is None else f", {row['lost']} tokens in all that it did not read"
    doubt = "" if confirmed == calls else f" ({calls - confirmed} of them are suspected only)"
    value = None
    if row["needed"] is not None and confirmed:
        value = str(enough(max(row["needed"], row["given"] or 0)))
    return Suggestion(
        seen=(
            f"{name} did not see the whole prompt of {calls} calls{doubt}{lost}: they did not fit "
            f"into the context{_of(row['given'])}. The model answered incomplete "
            "prompts."
        ),
        change=(f"Send num_ctx {value}" if value else "Send a higher num_ctx")
        + f" with every call to {name}, or shorten the prompts.",
        setting="num_ctx",
        value=value,
    )


def _of(context: int | None) -> str:
    return "" if context is None else f" of {context} tokens"


PROMPT_CUT: Final = Rule(
    kind="prompt_cut",
    concerned=_CONCERNED,
    measures={
        "confirmed": "count_if(truncation_certainty = 'confirmed')",
        "lost": "sum(truncation_lost_tokens)",
        "given": "max(truncation_context_length)",
        "needed": "max(CASE WHEN truncation_certainty = 'confirmed' THEN needed END)",
    },
    judge=_judge,
    needs=("truncation",),
)
