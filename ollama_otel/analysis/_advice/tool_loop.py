"""Rule about a model that calls the same tools again and again."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, SUBJECT, Row, Rule, Suggestion

__all__ = ["TOOL_LOOP"]

_LEAST: Final = 6
"""Calls in a row with the same tools."""

_CONCERNED: Final = f"""
candidates AS (
    SELECT coalesce(conversation_id, trace_id) AS run FROM calls
    WHERE {IS_REQUEST} AND array_length(tool_call_names) > 0
    GROUP BY coalesce(conversation_id, trace_id) HAVING count(*) >= {_LEAST}
),
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, duration, tool_call_names, input_tokens,
        coalesce(conversation_id, trace_id) AS run
    FROM calls WHERE {IS_REQUEST}
),
ordered AS (
    SELECT
        r.*,
        CASE WHEN row_number() OVER w > 1 AND tool_call_names = lag(tool_call_names) OVER w
            THEN 0 ELSE 1 END AS is_other
    FROM requests r JOIN candidates c ON r.run = c.run
    WINDOW w AS (PARTITION BY r.host, r.model_name, r.run ORDER BY started_at)
),
numbered AS (
    SELECT
        *,
        sum(is_other) OVER (
            PARTITION BY host, model_name, run ORDER BY started_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS series
    FROM ordered
),
counted AS (
    SELECT *, count(*) OVER (PARTITION BY host, model_name, run, series) AS in_row
    FROM numbered WHERE array_length(tool_call_names) > 0
),
concerned AS (
    SELECT *, CAST(NULL AS DOUBLE) AS improved FROM counted WHERE in_row >= {_LEAST}
)
"""


def _judge(row: Row) -> Suggestion | None:
    names, most = sorted(set(row["same"])), row["longest"]
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"{name} called {', '.join(names)} up to {most} times in a row, in "
            f"{row['runs']} {'run' if row['runs'] == 1 else 'runs'} ({row['calls']} calls, "
            f"{row['spent']:.1f} s). Whether it needed them, the calls do not show."
        ),
        change=(
            "Look at the tool's results in these calls: after an error, or an empty result that "
            "does not say what to do, models repeat the call. Limit the rounds "
            "(Agent(max_rounds=...))."
        ),
        setting="max_rounds",
        value=None,
    )


TOOL_LOOP: Final = Rule(
    kind="tool_loop",
    concerned=_CONCERNED,
    measures={
        "same": "min(tool_call_names)",
        "longest": "max(in_row)",
        "runs": "count(DISTINCT run)",
        "spent": "sum(duration)",
    },
    judge=_judge,
)
