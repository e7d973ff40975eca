"""Rule about calls that are cancelled one after another, for example one per keystroke."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, OF_SUBJECT, SUBJECT, Row, Rule, Suggestion

__all__ = ["CANCELS_IN_ROW"]

_LEAST: Final = 3
"""Calls in a row."""
_NEAR: Final = 30
"""Seconds between the end of one and the start of the next."""

_CONCERNED: Final = f"""
candidates AS (
    SELECT {SUBJECT} FROM calls WHERE outcome IN ('cancelled', 'abandoned') AND {IS_REQUEST}
    GROUP BY {OF_SUBJECT} HAVING count(*) >= {_LEAST}
),
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, ended_at, duration, operation, time_to_first_answer,
        coalesce(user_id, conversation_id, '') AS caller,
        outcome IN ('cancelled', 'abandoned') AS is_left
    FROM calls WHERE {IS_REQUEST} AND outcome IS NOT NULL
),
ordered AS (
    SELECT
        r.*,
        CASE WHEN row_number() OVER w > 1 AND lag(is_left) OVER w
            AND seconds_between(lag(ended_at) OVER w, started_at) < {_NEAR} THEN 0 ELSE 1 END
            AS is_apart
    FROM requests r JOIN candidates c ON r.host = c.host AND r.model_name = c.model_name
    WINDOW w AS (PARTITION BY r.host, r.model_name, operation, caller ORDER BY started_at)
),
numbered AS (
    SELECT
        *,
        sum(is_apart) OVER (
            PARTITION BY host, model_name, operation, caller ORDER BY started_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS series
    FROM ordered WHERE is_left
),
counted AS (
    SELECT *, count(*) OVER (PARTITION BY host, model_name, operation, caller, series) AS in_row
    FROM numbered
),
concerned AS (
    SELECT *, CAST(NULL AS DOUBLE) AS improved FROM counted WHERE in_row >= {_LEAST}
)
"""


def _judge(row: Row) -> Suggestion | None:
    unanswered = row["unanswered"]
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"{row['calls']} calls to {name} were cancelled or abandoned in a row, up to "
            f"{row['longest']} one after another; {unanswered} of them before the first word. "
            f"They took {row['spent']:.1f} s in all."
        ),
        change=(
            "Send a request only when the user has stopped typing (wait about 300 ms), and not "
            "while one of the same user runs."
            if 2 * unanswered >= row["calls"]
            else "If the rest of an answer is not needed, limit it with num_predict or a stop "
            "sequence instead of closing the stream."
        ),
        setting="the program",
    )


CANCELS_IN_ROW: Final = Rule(
    kind="cancels_in_row",
    concerned=_CONCERNED,
    measures={
        "longest": "max(in_row)",
        "spent": "sum(duration)",
        "unanswered": "count_if(time_to_first_answer IS NULL)",
    },
    judge=_judge,
)
