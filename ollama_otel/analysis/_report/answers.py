"""The sections that need more than queries: cost, capacity and advice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from ollama_otel._prices.values import Prices
from ollama_otel.analysis._advice.advisor import advise
from ollama_otel.analysis._capacity.answer import capacity
from ollama_otel.analysis._capacity.workload import Workload
from ollama_otel.analysis._cost.report import cost
from ollama_otel.analysis._report.sections import advised, capacities, costs
from ollama_otel.analysis._report.values import Section
from ollama_otel.analysis._store.calls import Calls
from ollama_otel.errors import AnalysisError

__all__ = ["BUSIEST_SERVER", "computed"]

BUSIEST_SERVER: Final = """
    SELECT server, count(*) AS calls FROM calls WHERE total_duration IS NOT NULL
    GROUP BY server ORDER BY calls DESC, server LIMIT 1
"""
_FEWEST_CALLS: Final = 10
"""Fewer calls show neither the speed of a server nor its load, and simulating them takes long."""


def computed(
    calls: Calls,
    shown: Calls,
    prices: Prices | None,
    start: datetime,
    end: datetime,
    *,
    is_quick: bool,
) -> Iterator[Section]:
    """Yield the sections; `shown` are the calls of the period, `calls` all that share machines."""
    yield _costs(calls, prices, start, end)
    if not is_quick:
        yield _capacity(shown)
        yield advised.build(advise(shown))


def _costs(calls: Calls, prices: Prices | None, start: datetime, end: datetime) -> Section:
    if prices is None:
        return costs.missing()
    try:
        by_model, by_day = (
            cost(calls, prices, by=by, start=start, end=end) for by in ("model", "day")
        )
    except AnalysisError as error:
        return costs.missing(f"Unknown: {error}.")
    return costs.build(by_model, by_day)


def _capacity(shown: Calls) -> Section:
    try:
        busiest = next(iter(shown.rows(BUSIEST_SERVER)), None)
        if busiest is not None and busiest["calls"] < _FEWEST_CALLS:
            return capacities.missing(
                f"Unknown: a forecast takes at least {_FEWEST_CALLS} calls to one server, and the "
                f"most that one has is {busiest['calls']}."
            )
        server = None if busiest is None else busiest["server"]
        return capacities.build(capacity(Workload.from_calls(shown, server=server)))
    except AnalysisError as error:
        return capacities.missing(f"Unknown: {error}.")
