"""Rule about models that are unloaded while they are still in use, as `keep_alive` is short."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from ollama_otel._wire.durations import read_keep_alive
from ollama_otel.analysis._advice.rule import (
    IS_REQUEST,
    OF_SUBJECT,
    SUBJECT,
    WITHOUT_LOAD,
    Row,
    Rule,
    Suggestion,
)
from ollama_otel.analysis._store.calls import Calls

__all__ = ["KEEP_ALIVE_SHORT"]

_LEAST: Final = 3
_DEFAULT: Final = 300
"""Ollama's OLLAMA_KEEP_ALIVE, seconds."""
_DAY: Final = 86_400
"""Longest pause for which a model is worth its memory, seconds."""
_FOREVER: Final = 1e15
_STEPS: Final = {
    "1m": 60,
    "5m": 300,
    "10m": 600,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14_400,
    "8h": 28_800,
    "24h": _DAY,
}

_CONCERNED: Final = f"""
candidates AS (
    SELECT {SUBJECT} FROM calls WHERE cold_start AND {IS_REQUEST}
    GROUP BY {OF_SUBJECT} HAVING count(*) >= {_LEAST}
),
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, ended_at, duration, load_duration, cold_start, purpose,
        reload_cause, keep_alive
    FROM calls WHERE model IS NOT NULL AND ({IS_REQUEST} OR purpose = 'load')
),
ordered AS (
    SELECT
        r.*,
        row_number() OVER w AS place,
        lag(keep_alive) OVER w AS kept,
        max(ended_at) OVER (
            PARTITION BY r.host, r.model_name ORDER BY started_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS ended_before
    FROM requests r JOIN candidates c ON r.host = c.host AND r.model_name = c.model_name
    WINDOW w AS (PARTITION BY r.host, r.model_name ORDER BY started_at)
),
models AS (
    SELECT
        host, model_name,
        exact_quantile(CASE WHEN NOT cold_start THEN load_duration END, 0.5) AS warm_load
    FROM ordered GROUP BY host, model_name
),
paused AS (
    SELECT
        o.*, m.warm_load AS warm_load,
        coalesce(
            option_number(
                $kept, CASE WHEN strpos($known, '|' || kept || '|') > 0 THEN kept ELSE 'none' END
            ),
            {_DEFAULT}
        ) AS kept_seconds,
        seconds_between(ended_before, started_at) AS pause
    FROM ordered o JOIN models m ON o.host = m.host AND o.model_name = m.model_name
    WHERE cold_start AND purpose = 'call' AND place > 1 AND ended_before <= started_at
),
concerned AS (
    SELECT *, {WITHOUT_LOAD} AS improved FROM paused
    WHERE pause <= {_DAY} AND (
        reload_cause = 'expired'
        -- A keep_alive of 0 is a request to unload.
        OR coalesce(reload_cause, 'requested') = 'requested' AND pause >= kept_seconds
    )
)
"""


def _kept(calls: Calls) -> dict[str, Any]:
    """Return `keep_alive` as sent, in seconds, as the text of a JSON object.

    `known` lists its keys: a log may hold any text, and not every text can be looked up.
    """
    rows = calls.rows(
        "SELECT DISTINCT keep_alive AS sent FROM calls WHERE keep_alive IS NOT NULL "
        "ORDER BY sent LIMIT 1000"
    )
    found = {row["sent"]: read_keep_alive(row["sent"]) for row in rows}
    seconds = {
        text: value if math.isfinite(value) else _FOREVER
        for text, value in found.items()
        if value is not None
    }
    return {"kept": json.dumps(seconds), "known": f"|{'|'.join(seconds)}|" if seconds else ""}


def _judge(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    name, usual = row["model_name"], row["usual_pause"]
    value = next((text for text, seconds in _STEPS.items() if seconds >= usual), "24h")
    kept = ""
    if row["least_pause"] >= row["kept_least"]:
        default = ", Ollama's default" if row["kept_least"] == _DEFAULT else ""
        kept = f" ({row['kept_least']:.0f} s{default})"
    return Suggestion(
        seen=(
            f"{name} was loaded again {row['calls']} times after a pause that was longer than "
            f"its keep_alive{kept}; nine of ten of these pauses were at most {usual:.0f} s."
        ),
        change=(
            f"Send keep_alive {value} with calls to {name}, or set OLLAMA_KEEP_ALIVE={value} on "
            "the server. The model keeps its memory for that long."
        ),
        setting="keep_alive",
        value=value,
        computed=(
            "duration without load_duration, plus the median load_duration of calls that found "
            "the model in memory"
        ),
    )


KEEP_ALIVE_SHORT: Final = Rule(
    kind="keep_alive_short",
    concerned=_CONCERNED,
    measures={
        "usual_pause": "exact_quantile(pause, 0.9)",
        "least_pause": "min(pause)",
        "kept_least": "min(kept_seconds)",
    },
    judge=_judge,
    parameters=_kept,
)
