"""Rule about requests that are sent again and again in a short time."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, SUBJECT, Row, Rule, Suggestion

__all__ = ["RETRY_STORM"]

_LEAST: Final = 5
"""Further requests in one minute."""
_NEAR: Final = 10
"""Seconds after a failed call in which an equal one repeats it."""
_FAILURES: Final = (
    "'server_busy', 'rate_limited', 'connect', 'timeout', 'network', 'incomplete', "
    "'out_of_memory', 'runner_crashed', 'load_failed', 'upstream', 'server_error'"
)

_CONCERNED: Final = f"""
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, ended_at, duration, error_type, operation,
        coalesce(request_size, -1) AS size, coalesce(user_id, conversation_id, '') AS caller,
        coalesce(attempts, 1) AS attempts
    FROM calls WHERE {IS_REQUEST}
),
failed AS (
    SELECT DISTINCT
        {SUBJECT}, operation, coalesce(request_size, -1) AS size,
        coalesce(user_id, conversation_id, '') AS caller
    FROM calls WHERE {IS_REQUEST} AND error_type IN ({_FAILURES})
),
ordered AS (
    SELECT
        r.*,
        row_number() OVER w AS place,
        lag(error_type) OVER w AS error_before,
        lag(ended_at) OVER w AS ended_before
    FROM requests r JOIN failed f ON r.host = f.host AND r.model_name = f.model_name
        AND r.operation = f.operation AND r.size = f.size AND r.caller = f.caller
    WINDOW w AS (
        PARTITION BY r.host, r.model_name, r.operation, r.size, r.caller ORDER BY started_at
    )
),
repeated AS (
    SELECT
        host, model_name, call_id, started_at, duration, 1 AS further, error_before AS reason,
        CAST(NULL AS DOUBLE) AS improved
    FROM ordered
    WHERE place > 1 AND error_before IN ({_FAILURES}) AND attempts <= 1
        AND seconds_between(ended_before, started_at) BETWEEN 0 AND {_NEAR}
    UNION ALL
    SELECT
        {SUBJECT}, call_id, started_at, duration, attempts - 1 AS further,
        CAST(NULL AS VARCHAR) AS reason,
        CASE WHEN outcome = 'completed' THEN duration - delay END AS improved
    FROM calls WHERE {IS_REQUEST} AND attempts > 1
),
minutes AS (
    SELECT
        *,
        sum(further) OVER (
            PARTITION BY host, model_name, time_bucket_of(started_at, 60)
        ) AS in_minute
    FROM repeated
),
concerned AS (
    SELECT * FROM minutes WHERE in_minute >= {_LEAST}
)
"""


def _judge(row: Row) -> Suggestion | None:
    reason = row["reason"]
    after = f" after {reason}" if reason is not None and reason == row["other_reason"] else ""
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"{row['calls']} calls to {name} sent {row['further']} requests more{after}, "
            f"up to {row['most']} in one minute. A server that is overloaded gets more load from "
            "them."
        ),
        change=(
            "Find out why the first requests fail (ollama-otel show LOG --failed). Limit the "
            "calls at a time, and wait longer after each failure: "
            "Resilience(limiter=Limiter(concurrency=...), retries=Retries()), see "
            "docs/resilience.md."
        ),
        setting="the program",
        computed="duration without the time before the answered attempt was sent",
    )


RETRY_STORM: Final = Rule(
    kind="retry_storm",
    concerned=_CONCERNED,
    measures={
        "further": "sum(further)",
        "most": "max(in_minute)",
        "reason": "min(reason)",
        "other_reason": "max(reason)",
    },
    judge=_judge,
)
