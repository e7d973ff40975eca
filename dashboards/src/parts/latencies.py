"""Queries and links that the panels of the latency board share."""

from __future__ import annotations

from typing import Final

from dashboards.src.colors import QUANTILES
from dashboards.src.links import CLICKED, LATENCY, SERVER, label, to_board
from dashboards.src.panels import Target
from dashboards.src.parts.models import of_busiest
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import MODEL, not_nan
from dashboards.src.vocabulary import (
    BY_MODEL,
)
from ollama_otel import _names as names
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.metric_names import label_name

__all__ = [
    "OF_PLAIN_SERIES",
    "OF_ROW",
    "OF_SERIES",
    "PLAIN_MODEL",
    "bounds",
    "mean_by_model",
    "quantiles",
]

PLAIN_MODEL: Final = f"{{{{{MODEL}}}}}"
"""Legend by the label that `by_plain_model` makes."""

_THIS_MODEL: Final = to_board(
    LATENCY, "Only this model", model=label(label_name(names.REQUEST_MODEL))
)
_ITS_MEMORY: Final = to_board(
    SERVER, "Its memory and servers", model=label(label_name(names.REQUEST_MODEL))
)
OF_SERIES: Final = (_THIS_MODEL, _ITS_MEMORY)
OF_ROW: Final = (
    to_board(LATENCY, "Only this model", model=CLICKED),
    to_board(SERVER, "Its memory and servers", model=CLICKED),
)
OF_PLAIN_SERIES: Final = (to_board(SERVER, "Its memory and servers", model=label(MODEL)),)


def mean_by_model(row: Instrument) -> Target:
    """Return the mean of a histogram by model, for the busiest models.

    Without NaN: the legend shows the text for no data beside a model that has nothing else.
    """
    return of_busiest(not_nan(Q.mean(row, by=BY_MODEL)))


def quantiles(row: Instrument) -> list[Target]:
    """Return the queries for p50, p90 and p99 of a histogram."""
    return [Target(query=Q.quantile(int(name[1:]) / 100, row), legend=name) for name in QUANTILES]


def bounds(row: Instrument, low: float, high: float) -> list[float]:
    """Return the bucket bounds that calls reach; the buckets at the ends contain all others."""
    return [bound for bound in row.buckets or () if low <= bound <= high]
