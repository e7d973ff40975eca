"""Rules about conversations whose turns are read from the beginning, as the cache was lost."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, OF_SUBJECT, SUBJECT, Row, Rule, Suggestion

__all__ = ["CACHE_BROKEN", "CACHE_TAKEN"]

_MOST_SLOTS: Final = 16
_LEAST: Final = 3
_LEAST_TOKENS: Final = 100
"""Prompts with fewer say little about the rate."""
_LOST: Final = 0.5
"""Part of a whole prompt's time from which the cache was lost."""
_OFTEN: Final = 0.5
"""Part of a conversation's turns that lost it; fewer may be those of a busy machine."""
_MOST_NEW: Final = 0.5
"""Part of the prompt that is new, above which the cache matters little."""
_MATTERS: Final = 0.05
"""Part of the duration that the cache would save."""

_CONCERNED: Final = f"""
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, duration, cold_start, conversation_id, input_tokens,
        output_tokens, prompt_eval_duration,
        row_number() OVER (
            PARTITION BY {OF_SUBJECT}
            ORDER BY started_at
        ) AS place
    FROM calls WHERE {IS_REQUEST} AND input_tokens IS NOT NULL
),
ordered AS (
    SELECT
        *,
        row_number() OVER w AS turn,
        lag(host) OVER w AS host_before,
        lag(model_name) OVER w AS name_before,
        lag(input_tokens) OVER w AS read_before,
        lag(input_tokens + coalesce(output_tokens, 0)) OVER w AS known_before,
        place - lag(place) OVER w - 1 AS others
    FROM requests WHERE conversation_id IS NOT NULL
    WINDOW w AS (PARTITION BY conversation_id ORDER BY started_at)
),
rates AS (
    SELECT
        host, model_name, exact_quantile(prompt_eval_duration / input_tokens, 0.9) AS per_token
    FROM ordered WHERE (turn = 1 OR cold_start) AND input_tokens >= {_LEAST_TOKENS}
    GROUP BY host, model_name
),
turns AS (
    SELECT
        o.*, per_token,
        CASE WHEN input_tokens > known_before THEN input_tokens - known_before ELSE 0 END
            AS new_tokens,
        prompt_eval_duration > {_LOST} * per_token * input_tokens AS is_lost
    FROM ordered o JOIN rates r ON o.host = r.host AND o.model_name = r.model_name
    WHERE turn > 1 AND host_before = o.host AND name_before = o.model_name AND {{cause}}
        AND NOT coalesce(cold_start, false)
        AND input_tokens >= {_LEAST_TOKENS} AND input_tokens >= read_before
),
conversations AS (
    SELECT *, avg(is_lost::INT) OVER (PARTITION BY conversation_id) AS lost_share FROM turns
),
concerned AS (
    SELECT *, duration - prompt_eval_duration + per_token * new_tokens AS improved
    FROM conversations
    WHERE is_lost AND lost_share > {_OFTEN} AND new_tokens <= {_MOST_NEW} * input_tokens
        AND prompt_eval_duration - per_token * new_tokens > {_MATTERS} * duration
)
"""
_MEASURES: Final = {
    "turns": "count(DISTINCT conversation_id)",
    "tokens": "exact_quantile(input_tokens, 0.5)",
    "new": "exact_quantile(new_tokens, 0.5)",
    "others": "exact_quantile(others, 0.5)",
}
_COMPUTED: Final = (
    "duration with prompt_eval_duration for the new tokens only, at the rate of prompts that "
    "were read from the beginning"
)


def _seen(row: Row) -> str:
    name = row["model_name"]
    return (
        f"{name} read {row['calls']} later turns of {row['turns']} conversations from the "
        f"beginning ({row['tokens']:.0f} tokens, of which about {row['new']:.0f} were new)"
    )


def _taken(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    return Suggestion(
        seen=(
            f"{_seen(row)}: since the turn before, the model had {row['others']:.0f} other "
            "requests, and each slot has the cache of one conversation."
        ),
        change=(
            f"{_more_slots(1 + round(row['others']))} the turns of a conversation follow each "
            "other."
        ),
        setting="OLLAMA_NUM_PARALLEL",
        computed=_COMPUTED,
    )


def _more_slots(requests: int) -> str:
    """Return how more slots would help; a server does not have any number of them."""
    if requests > _MOST_SLOTS:
        return "No number of slots keeps a cache for so long: let"
    return (
        f"Set OLLAMA_NUM_PARALLEL to the number of conversations at a time (at most {requests} "
        "here; each one takes the memory of a context), or let"
    )


def _broken(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    return Suggestion(
        seen=(
            f"{_seen(row)}, although the turn before was the model's last request in this log: "
            "the prompt did not begin with the same text, or a request that is not in this log "
            "came between."
        ),
        change=(
            "Keep the beginning of the prompt the same: the time, the user's data and found "
            "documents at its end, tools in the same order, and old messages unchanged."
        ),
        setting="the prompt",
        computed=_COMPUTED,
    )


CACHE_TAKEN: Final = Rule(
    kind="cache_taken",
    concerned=_CONCERNED.format(cause="others > 0"),
    measures=_MEASURES,
    judge=_taken,
    needs=("conversations",),
)
CACHE_BROKEN: Final = Rule(
    kind="cache_broken",
    concerned=_CONCERNED.format(cause="others = 0"),
    measures=_MEASURES,
    judge=_broken,
    needs=("conversations",),
)
