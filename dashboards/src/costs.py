"""Queries of costs, budgets and slots that boards and rules share."""

from __future__ import annotations

from typing import Final, Literal

from dashboards.src.queries import Queries
from dashboards.src.vocabulary import BY_SERVER
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = [
    "BY_BUDGET",
    "BY_BUDGET_VALUE",
    "COMPUTING",
    "busy_share",
    "busy_slots",
    "slots",
    "used_share",
]

BY_BUDGET: Final = (names.BUDGET_NAME, names.BUDGET_UNIT, names.BUDGET_PERIOD)
BY_BUDGET_VALUE: Final = (*BY_BUDGET, names.BUDGET_OF)
"""A budget may have one limit for each user, model or tag."""
COMPUTING: Final = {names.PHASE: '=~"load|prompt_eval|eval"'}
"""Phases in which a call has a slot."""


def _on(*labels: str) -> str:
    return f"on ({', '.join(map(label_name, labels))})"


def used_share(queries: Queries, period: Literal["day", "month"]) -> str:
    """Return which share of each budget of a period was used in the window of the queries."""
    used = queries.total(
        rows.BUDGET_USED, by=BY_BUDGET_VALUE, where={names.BUDGET_PERIOD: f'="{period}"'}
    )
    limit = queries.gauge(rows.BUDGET_LIMIT, by=BY_BUDGET, how="max")
    return f"{used} / {_on(*BY_BUDGET)} group_left () {limit}"


def busy_slots(queries: Queries) -> str:
    """Return the mean number of calls that each server computed at the same time."""
    return queries.rate(rows.PHASE_TIME, by=BY_SERVER, where=COMPUTING)


def slots(queries: Queries) -> str:
    """Return the slots of each server, by the price file."""
    return queries.gauge(rows.SERVER_SLOTS, by=BY_SERVER, how="max")


def busy_share(queries: Queries) -> str:
    """Return which share of each server's slots was in use."""
    return f"{busy_slots(queries)} / {_on(*BY_SERVER)} {slots(queries)}"
