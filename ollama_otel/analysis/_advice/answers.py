"""Rules about `num_predict` and `temperature`."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, OF_SUBJECT, SUBJECT, Row, Rule, Suggestion

__all__ = ["ANSWER_CUT", "ANSWER_RUNAWAY", "JSON_TEMPERATURE"]

_LEAST: Final = 3
_USUAL: Final = 20
"""Calls that a usual value needs."""
_FACTOR: Final = 5
"""A runaway answer has this multiple of the third quartile of tokens."""
_LONG: Final = 500
"""Least tokens of a runaway answer."""

_RUNAWAY: Final = f"""
usual AS (
    SELECT {SUBJECT}, exact_quantile(output_tokens, 0.75) AS usual_tokens
    FROM calls WHERE {IS_REQUEST} AND output_tokens IS NOT NULL
    GROUP BY {OF_SUBJECT} HAVING count(*) >= {_USUAL}
),
requests AS (
    SELECT {SUBJECT}, call_id, started_at, duration, output_tokens, eval_duration, options
    FROM calls WHERE {IS_REQUEST} AND output_tokens >= {_LONG}
),
outliers AS (
    SELECT
        r.*, usual_tokens, option_number(options, 'num_predict') AS num_predict
    FROM requests r JOIN usual u ON r.host = u.host AND r.model_name = u.model_name
    WHERE output_tokens >= {_FACTOR} * usual_tokens
),
concerned AS (
    SELECT
        *,
        duration - eval_duration * (1 - 2 * usual_tokens / output_tokens) AS improved
    FROM outliers WHERE coalesce(num_predict, -1) < 0
)
"""


def _runaway(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    usual = row["usual"]
    value = max(1, round(2 * usual))
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"{row['calls']} answers of {name} ran on to {row['longest']} tokens, where "
            f"three of four have at most {usual:.0f}; these calls had no num_predict."
        ),
        change=f"Send num_predict {value}, twice the usual, with such calls to {name}.",
        setting="num_predict",
        value=str(value),
        computed=f"duration with eval_duration for {value} tokens only",
    )


ANSWER_RUNAWAY: Final = Rule(
    kind="answer_runaway",
    concerned=_RUNAWAY,
    measures={"longest": "max(output_tokens)", "usual": "max(usual_tokens)"},
    judge=_runaway,
)

_CUT_SHARE: Final = 0.2
_LEAST_CUT: Final = 5
_CHOSEN_SHORT: Final = 16
"""A smaller `num_predict` is intentional: a label, a number."""

_CUT: Final = f"""
limited AS (
    SELECT {SUBJECT}, options, count(*) AS sent
    FROM calls WHERE {IS_REQUEST} AND outcome = 'completed' AND output_tokens IS NOT NULL
    GROUP BY {OF_SUBJECT}, options
),
models AS (
    SELECT host, model_name, sum(sent) AS sent FROM limited
    WHERE option_number(options, 'num_predict') >= {_CHOSEN_SHORT} GROUP BY host, model_name
),
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, duration, output_tokens, asks_for_json,
        option_number(options, 'num_predict') AS num_predict
    FROM calls WHERE {IS_REQUEST} AND done_reason = 'length'
),
concerned AS (
    SELECT r.*, sent, CAST(NULL AS DOUBLE) AS improved
    FROM requests r JOIN models m ON r.host = m.host AND r.model_name = m.model_name
    WHERE num_predict >= {_CHOSEN_SHORT} AND output_tokens >= num_predict
)
"""


def _cut(row: Row) -> Suggestion | None:
    calls, sent, json = row["calls"], row["sent"], row["json"]
    if calls < _LEAST_CUT or (calls < _CUT_SHARE * sent and not json):
        return None
    broken = f"; {json} of them are JSON, which ends in the middle" if json else ""
    value = round(2 * row["num_predict"])
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"num_predict cut {calls} of {sent} answers of {name}{broken}. Users often repeat "
            "such a request."
        ),
        change=(
            f"Send a num_predict of {value} or more, or ask for a shorter answer in the prompt."
        ),
        setting="num_predict",
        value=str(value),
    )


ANSWER_CUT: Final = Rule(
    kind="answer_cut",
    concerned=_CUT,
    measures={
        "sent": "max(sent)",
        "json": "count_if(asks_for_json)",
        "num_predict": "max(num_predict)",
    },
    judge=_cut,
)

_HOT: Final = 0.5
_LEAST_JSON: Final = 5

_JSON: Final = f"""
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, duration,
        option_number(options, 'temperature') AS temperature
    FROM calls WHERE {IS_REQUEST} AND asks_for_json
),
concerned AS (
    SELECT *, CAST(NULL AS DOUBLE) AS improved FROM requests WHERE temperature >= {_HOT}
)
"""


def _json(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST_JSON:
        return None
    name = row["model_name"]
    return Suggestion(
        seen=(
            f"{row['calls']} calls to {name} ask for JSON at a temperature of up to "
            f"{row['temperature']:g}: equal questions get different values, and more "
            "answers are invalid."
        ),
        change="Send temperature 0 with calls that ask for JSON.",
        setting="temperature",
        value="0",
    )


JSON_TEMPERATURE: Final = Rule(
    kind="json_temperature",
    concerned=_JSON,
    measures={"temperature": "max(temperature)"},
    judge=_json,
)
