"""Section on capacity: the load and the number of users that a server can take, by simulation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ollama_otel.analysis._capacity.answer import CapacityAnswer
from ollama_otel.analysis._capacity.scenario import Estimate
from ollama_otel.analysis._report.quantities import change, quantity
from ollama_otel.analysis._report.tables import table
from ollama_otel.analysis._report.values import Figure, Mark, Plot, Section, Series

__all__ = ["build", "missing"]

_TITLE: Final = "Capacity"
_BEYOND: Final = 1.4
"""The plot ends at this multiple of the knee: above it all curves are steep."""


def missing(reason: str) -> Section:
    """Return the section without a forecast, with the reason."""
    return Section(name="capacity", title=_TITLE, lead=reason)


def build(found: CapacityAnswer) -> Section:
    """Return the section of a forecast."""
    server = quantity(found.workload.server, "text")
    return Section(
        name="capacity",
        title=_TITLE,
        lead=" ".join([f"Forecast for {server}.", *found.sentences, *_trust(found)]),
        notes=found.workload.notes,
        figures=(_curve(found), _users(found)),
    )


def _trust(found: CapacityAnswer) -> Iterator[str]:
    for name, pair in (
        ("median duration", found.backtest.duration_p50),
        ("p95 duration", found.backtest.duration_p95),
    ):
        if pair.error is not None:
            yield (
                f"Simulated, the recorded calls have a {name} of "
                f"{quantity(pair.simulated, 'seconds')}; recorded were "
                f"{quantity(pair.recorded, 'seconds')} ({change(pair.recorded, pair.simulated)})."
            )


def _curve(found: CapacityAnswer) -> Figure:
    knee = found.curve.knee
    points = found.curve.points
    shown = [
        point for point in points if knee is None or point.scenario.load <= knee.value * _BEYOND
    ]
    rows = [
        {
            "load": point.scenario.load,
            "arrivals": point.arrivals.value,
            "throughput": point.throughput.value,
            "p50": point.duration.p50.value,
            "p95": point.duration.p95.value,
            "first": point.time_to_first_token.p95.value,
            "refused": point.refused.value,
            "limit": point.limit,
            "state": "falls behind" if point.is_saturated else "keeps up",
        }
        for point in points
    ]
    return Figure(
        name="capacity_curve",
        table=table(
            rows,
            load=("Load", "number"),
            arrivals=("Calls come", "per_second"),
            throughput=("Completed", "per_second"),
            p50=("Duration p50", "seconds"),
            p95=("Duration p95", "seconds"),
            first=("First token p95", "seconds"),
            refused=("Refused", "share"),
            limit="Limit",
            state="Server",
        ),
        plot=Plot(
            kind="lines",
            unit="seconds",
            places=tuple(point.scenario.load for point in shown),
            series=(
                Series(
                    name="p95 duration",
                    values=tuple(point.duration.p95.value for point in shown),
                ),
                Series(
                    name="p95 first token",
                    values=tuple(point.time_to_first_token.p95.value for point in shown),
                ),
                Series(
                    name="median duration",
                    values=tuple(point.duration.p50.value for point in shown),
                ),
            ),
            marks=() if knee is None else (Mark(at=knee.value, label="knee"),),
            axis="times the recorded rate",
        ),
    )


def _users(found: CapacityAnswer) -> Figure:
    rows = [
        {
            "slots": str(limit.scenario.num_parallel),
            "users": ("more than " if limit.is_more else "") + quantity(limit.users.value, "count"),
            "range": _range(limit.users),
            "limit": limit.limit,
        }
        for limit in found.users
    ]
    first = found.users[0]
    return Figure(
        name="capacity_users",
        table=table(
            rows,
            f"Users with a p{first.quantile * 100:g} of the first token below "
            f"{quantity(first.time_to_first_token, 'seconds')}; between an answer and their next "
            f"call they think {quantity(first.scenario.think_time, 'seconds')}. The first row is "
            "the server as it is.",
            slots="NUM_PARALLEL",
            users="Users",
            range="In 9 of 10 runs",
            limit="Limit",
        ),
    )


def _range(estimate: Estimate) -> str:
    return f"{quantity(estimate.low, 'count')} to {quantity(estimate.high, 'count')}"
