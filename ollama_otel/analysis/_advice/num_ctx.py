"""Rules about `num_ctx` that differs from call to call, which makes the server reload the model."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.cuts import enough
from ollama_otel.analysis._advice.rule import (
    IS_REQUEST,
    OF_SUBJECT,
    SUBJECT,
    WITHOUT_LOAD,
    Row,
    Rule,
    Suggestion,
)

__all__ = ["MIXED_NUM_CTX", "OTHER_NUM_CTX"]

_LEAST: Final = 3
_DEFAULT: Final = -1
"""Stands for a call without `num_ctx`."""

_SEQUENCES: Final = f"""
candidates AS (
    SELECT {SUBJECT} FROM calls WHERE cold_start AND {IS_REQUEST}
    GROUP BY {OF_SUBJECT}
    HAVING count(*) >= {_LEAST} AND {{candidate}}
),
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, ended_at, duration, load_duration, cold_start, purpose,
        reload_cause, reload_before, input_tokens, output_tokens, truncation_prompt_tokens,
        coalesce(option_number(options, 'num_ctx'), {_DEFAULT}) AS num_ctx
    FROM calls WHERE model IS NOT NULL AND ({IS_REQUEST} OR purpose = 'load')
),
ordered AS (
    SELECT
        r.*,
        row_number() OVER w AS place,
        lag(num_ctx) OVER w AS num_ctx_before,
        lag(ended_at) OVER w AS ended_before
    FROM requests r JOIN candidates c ON r.host = c.host AND r.model_name = c.model_name
    WINDOW w AS (PARTITION BY r.host, r.model_name ORDER BY started_at)
),
models AS (
    SELECT
        host, model_name,
        exact_quantile(CASE WHEN NOT cold_start THEN load_duration END, 0.5) AS warm_load,
        max(coalesce(truncation_prompt_tokens, input_tokens) + coalesce(output_tokens, 0))
            AS needed,
        max(num_ctx) AS largest
    FROM ordered GROUP BY host, model_name
),
"""
_CONCERNED: Final = f"""
concerned AS (
    SELECT o.*, m.needed AS needed, m.largest AS largest, {WITHOUT_LOAD} AS improved
    FROM ordered o JOIN models m ON o.host = m.host AND o.model_name = m.model_name
    WHERE cold_start AND purpose = 'call' AND place > 1 AND {{cause}}
)
"""

_COMPUTED: Final = (
    "duration without load_duration, plus the median load_duration of calls that found the model "
    "in memory"
)


def _tokens(value: float) -> str:
    return "the default" if value == _DEFAULT else f"{value:.0f}"


def _enough(row: Row) -> float:
    """Return the smallest context that was sent and is sufficient, or else a larger one."""
    needed, largest = row["needed"], row["largest"]
    if needed is not None and needed > largest:
        return enough(needed)
    # A prompt that was cut has about half as many tokens as its context: `fits` is twice as large.
    found: float = largest if row["fits"] is None else row["fits"]
    return found


def _mixed(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    values = {_tokens(row["least"]), _tokens(row["largest"])}
    if row["largest"] == _DEFAULT or len(values) == 1:
        return None
    value = f"{_enough(row):.0f}"
    needed = (
        ""
        if row["needed"] is None
        else f"; the longest prompt with its answer has {row['needed']:.0f} tokens"
    )
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"{name} was loaded again {row['calls']} times because num_ctx differed from the "
            f"call before ({_tokens(row['least'])} to {_tokens(row['largest'])}{needed})."
        ),
        change=f"Send num_ctx {value} with every call to {name}, from every program.",
        setting="num_ctx",
        value=value,
        computed=_COMPUTED,
    )


MIXED_NUM_CTX: Final = Rule(
    kind="mixed_num_ctx",
    concerned=_SEQUENCES.format(
        candidate="count(DISTINCT coalesce(option_number(options, 'num_ctx'), -1)) > 1"
    )
    + _CONCERNED.format(
        cause="num_ctx <> num_ctx_before AND coalesce(reload_cause, 'num_ctx') = 'num_ctx'"
    ),
    measures={
        "needed": "max(needed)",
        "largest": "max(largest)",
        "least": "min(CASE WHEN num_ctx < num_ctx_before THEN num_ctx ELSE num_ctx_before END)",
        "fits": "min(CASE WHEN num_ctx >= 2 * needed THEN num_ctx END)",
    },
    judge=_mixed,
)


def _other(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    name, num_ctx = row["model_name"], row["num_ctx"]
    own = "none" if num_ctx == _DEFAULT else f"{num_ctx:.0f}"
    return Suggestion(
        seen=(
            f"{name} was loaded again {row['calls']} times because of num_ctx, although the calls "
            f"before had sent the same ({own}): requests that are not in this log loaded it "
            f"with a context of {row['before'] or 'another size'} in between. Requests to /v1 do "
            "that, as they cannot send num_ctx."
        ),
        change=(
            "Give all programs one context: `PARAMETER num_ctx` in a Modelfile, or "
            "OLLAMA_CONTEXT_LENGTH of the server, and send no num_ctx."
        ),
        setting="OLLAMA_CONTEXT_LENGTH",
        value=None if num_ctx == _DEFAULT else own,
        computed=_COMPUTED,
    )


OTHER_NUM_CTX: Final = Rule(
    kind="other_num_ctx",
    concerned=_SEQUENCES.format(candidate="count_if(reload_cause = 'num_ctx') > 0")
    + _CONCERNED.format(
        cause=(
            "num_ctx = num_ctx_before AND reload_cause = 'num_ctx' AND ended_before <= started_at"
        )
    ),
    measures={"num_ctx": "max(num_ctx)", "before": "max(reload_before)"},
    judge=_other,
    needs=("residency",),
)
