"""Panels on the objective for the time to the first token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.objective import BURN_LIMITS, OBJECTIVE, budget_left, burn_rate, in_time
from dashboards.src.panels import Column, Panel, Target, Text, graph, stat, table
from dashboards.src.parts.models import MODEL_COLUMN
from dashboards.src.vocabulary import (
    BY_MODEL,
    SLOW_START,
)

__all__ = ["FIRST_TOKEN"]

_PAGE: Final = BURN_LIMITS["1h"]
FIRST_TOKEN: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Streams that start in time",
            means=f"Share of the streams in the time range whose first token came within "
            f"{SLOW_START} s. The objective is {OBJECTIVE:.0%}.",
            do="Below the objective: see cold starts, the wait for a slot, and prompt lengths.",
            no_value="no streams",
        ),
        Target(query=in_time()),
        unit="percentunit",
        decimals=1,
        steps=((None, "red"), (OBJECTIVE, "green")),
        width=4,
        height=8,
    ),
    stat(
        Text(
            title="Error budget left",
            means=f"Of the streams, {1 - OBJECTIVE:.0%} may start late. 100 %: none did. 0 %: as "
            "many as allowed, in the time range. Below 0 %: more.",
            do="Little left: do not change servers or models now, and find out what is slow.",
            no_value="no streams",
        ),
        Target(query=budget_left()),
        unit="percentunit",
        decimals=0,
        steps=((None, "red"), (0, "yellow"), (0.5, "green")),
        width=4,
        height=8,
    ),
    table(
        Text(
            title="Streams that start late, by model",
            means=f"Share of the streams of each model in the time range that took longer than "
            f"{SLOW_START} s to start, and the part of the error budget that is left.",
            do="A click opens the latency of that model.",
            no_value="no streams in this time",
        ),
        {
            **MODEL_COLUMN,
            "late": Column(
                title="Late",
                query=f"1 - ({in_time(by=BY_MODEL)})",
                unit="percentunit",
                decimals=1,
                steps=((None, "text"), (1 - OBJECTIVE, "red")),
                width=80,
            ),
            "left": Column(
                title="Budget left",
                query=budget_left(by=BY_MODEL),
                unit="percentunit",
                decimals=0,
                steps=((None, "red"), (0, "text")),
                width=100,
            ),
        },
        sort="Late",
        width=8,
    ),
    graph(
        Text(
            title="Burn rate of the error budget",
            means="How many times faster than allowed streams start late, in the last hour, 6 "
            "hours and 3 days; 1 uses the budget up exactly. By the recording rules, for all apps.",
            do=f"Above {_PAGE} in an hour the budget of a month is gone in two days: "
            "OllamaSlowFirstTokenFastBurn fires. The runbook says what to look at.",
            no_value="no streams, or no rules",
        ),
        *(Target(query=burn_rate(window), legend=window) for window in BURN_LIMITS),
        unit="suffix:x",
        colors={"1h": "red", "6h": "orange", "3d": "blue"},
        steps=((None, "green"), (_PAGE, "red")),
        width=8,
    ),
)
