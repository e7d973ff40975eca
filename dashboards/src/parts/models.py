"""Queries, links and columns that all panels by called model share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dashboards.src.busiest import OTHERS, busiest, busiest_or_zero, other_models
from dashboards.src.colors import Color
from dashboards.src.links import CLICKED, LATENCY, label, to_board
from dashboards.src.panels import Column, Target
from dashboards.src.vocabulary import BY_MODEL, legend
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["MODEL_COLORS", "MODEL_COLUMN", "MODEL_LEGEND", "OF_MODEL", "by_model"]

_LABEL: Final = label_name(BY_MODEL[0])

MODEL_LEGEND: Final = legend(*BY_MODEL)
MODEL_COLORS: Final[Mapping[str, Color]] = {OTHERS: "text"}

OF_MODEL: Final = to_board(LATENCY, "Latency of this model", model=label(_LABEL))
"""Link of a series by model."""

MODEL_COLUMN: Final[Mapping[str, Column]] = {
    _LABEL: Column(
        title="Model",
        links=[to_board(LATENCY, "Latency of this model", model=CLICKED)],
        is_name=True,
    )
}
"""Column with the names of models, each of which leads to its latency."""


def of_busiest(query: str) -> Target:
    """Return the query for the busiest models, of what cannot be added."""
    return Target(query=busiest(query), legend=MODEL_LEGEND)


def by_model(query: str) -> tuple[Target, Target]:
    """Return the queries for the busiest models and for the sum of the others."""
    return (
        Target(query=busiest_or_zero(query), legend=MODEL_LEGEND),
        Target(query=other_models(query), legend=OTHERS),
    )
