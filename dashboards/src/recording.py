"""Recording rules: metrics independent of histogram storage, and ratios over long windows.

Alerts use them. Of the boards only the panels on alerts and on the objective do, so that the others
work without rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dashboards.src.costs import busy_share, used_share
from dashboards.src.queries import JOB, RULES, share
from dashboards.src.vocabulary import BY_MODEL, BY_SERVER, GENAI, SLOW_START, TOKENS
from ollama_otel import _names as names
from ollama_otel._monitoring.diagnosis import RULES_LOADED
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument

__all__ = ["CONNECT", "LOADED", "RECORDINGS", "RecordingRule", "record"]

CONNECT: Final = {names.ERROR_TYPE: '="connect"'}
_CONNECTED_FAILED: Final = {names.ERROR_TYPE: '!~"|connect"'}
"""Calls without a connection have their own alert."""

_DURATION: Final = GENAI.inference_duration
_START: Final = GENAI.time_to_first_chunk
_BY_APP: Final = (JOB, *BY_SERVER)
_BY_SERVER_AND_MODEL: Final = (*BY_SERVER, *BY_MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRule:
    """One recording rule."""

    record: str
    expr: str


def record(what: str, how: str) -> str:
    """Return the name of a rule, such as `ollama_otel:failed_calls:ratio_rate10m`."""
    return f"ollama_otel:{what}:{how}"


def _ratio(
    what: str,
    window: str,
    part: Instrument,
    by: Sequence[str],
    *,
    where: Mapping[str, str] | None = None,
) -> tuple[RecordingRule, RecordingRule]:
    """Return two rules: a share of the calls, and the number of those calls."""
    queries = RULES.over(window)
    of_all = share(queries.count(part, by=by, where=where), queries.count(_DURATION, by=by))
    gained = queries.count_increase(part, by=by, where=where)
    return (
        RecordingRule(record=record(what, f"ratio_rate{window}"), expr=of_all),
        RecordingRule(record=record(what, f"increase{window}"), expr=gained),
    )


LOADED: Final = RULES_LOADED
"""Tells "no alert" from "no rules"."""

_TEN: Final = RULES.over("10m")

RECORDINGS: Final[Sequence[RecordingRule]] = (
    RecordingRule(record=LOADED, expr="vector(1)"),
    RecordingRule(
        record=record("calls", "rate5m"),
        expr=RULES.count(
            _DURATION,
            by=(*_BY_APP, names.OPERATION_NAME, names.OUTCOME, names.ERROR_TYPE),
        ),
    ),
    RecordingRule(
        record=record("call_duration_seconds", "p90_rate5m"),
        expr=RULES.quantile(0.9, _DURATION, by=_BY_SERVER_AND_MODEL),
    ),
    RecordingRule(
        record=record("time_to_first_chunk_seconds", "p90_rate5m"),
        expr=RULES.quantile(0.9, _START, by=_BY_SERVER_AND_MODEL),
    ),
    RecordingRule(
        record=record("tokens", "rate5m"),
        expr=RULES.sum(TOKENS, by=(*_BY_APP, *BY_MODEL, names.TOKEN_TYPE)),
    ),
    *_ratio("connected_failed_calls", "10m", _DURATION, _BY_APP, where=_CONNECTED_FAILED),
    *_ratio("unconnected_calls", "5m", _DURATION, _BY_APP, where=CONNECT),
    *_ratio("cold_starts", "15m", rows.LOAD_DURATION, _BY_SERVER_AND_MODEL),
    RecordingRule(
        record=record("queue_wait_estimate_seconds", "p90_rate10m"),
        expr=_TEN.quantile(0.9, rows.QUEUE_DURATION, by=BY_SERVER),
    ),
    RecordingRule(
        record=record("queue_waits", "increase10m"),
        expr=_TEN.count_increase(rows.QUEUE_DURATION, by=BY_SERVER),
    ),
    RecordingRule(
        record=record("requests_active", "avg5m"),
        expr=RULES.gauge_over_time(rows.ACTIVE_REQUESTS, function="avg", by=BY_SERVER),
    ),
    *(
        RecordingRule(
            record=record("slow_starts", f"ratio_rate{window}"),
            expr=RULES.over(window).share_above(SLOW_START, _START, by=_BY_SERVER_AND_MODEL),
        )
        for window in ("5m", "30m", "1h", "6h", "3d")
    ),
    *(
        RecordingRule(
            record=record("starts", f"increase{window}"),
            expr=RULES.over(window).count_increase(_START, by=_BY_SERVER_AND_MODEL),
        )
        for window in ("1h", "6h", "3d")
    ),
    RecordingRule(
        record=record("budget_used", "ratio_rate1d"), expr=used_share(RULES.over("1d"), "day")
    ),
    RecordingRule(
        record=record("budget_used", "ratio_rate30d"), expr=used_share(RULES.over("30d"), "month")
    ),
    RecordingRule(
        record=record("budget_pace", "ratio_rate1h"), expr=used_share(RULES.over("1h"), "day")
    ),
    RecordingRule(
        record=record("budget_pace", "ratio_rate1d"), expr=used_share(RULES.over("1d"), "month")
    ),
    RecordingRule(record=record("busy_slots", "ratio_rate15m"), expr=busy_share(RULES.over("15m"))),
)
