"""Limits graphs to the busiest models, agents or tools, as fifty lines cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.queries import BOARD, MODEL, by_plain_model, sum_of_others, top, top_by
from dashboards.src.vocabulary import BY_LISTED_MODEL, BY_MODEL, GENAI, RANK
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument

__all__ = [
    "MOST_LOADED",
    "OTHERS",
    "busiest",
    "busiest_of",
    "busiest_or_zero",
    "busiest_plain",
    "longest_loaded",
    "other_models",
    "others_of",
]

_MOST: Final = 8
MOST_LOADED: Final = 15
"""Models that `longest_loaded` keeps."""

OTHERS: Final = "other models"
"""Legend of `other_models`."""

_NONE: Final = "0 * " + BOARD.gauge(
    rows.ACTIVE_REQUESTS, by=BY_MODEL, where={names.OPERATION_NAME: '!=""'}
)
"""0 for every model while an app that has called it runs."""

_CALLS: Final = RANK.count_increase(GENAI.inference_duration, by=BY_MODEL)


def busiest(query: str) -> str:
    """Return the part of a query by model that is about the models with most calls in the range."""
    return top_by(_MOST, query, rank=_CALLS, by=BY_MODEL)


def busiest_or_zero(query: str) -> str:
    """Return `busiest` of what can be added, with 0 for a model that has none.

    All graphs then have the same models in the same order, so each model has the same colour.
    """
    return f"{busiest(query)} or {busiest(_NONE)}"


def other_models(query: str, *, kept: Sequence[str] = ()) -> str:
    """Return the sum over the other models, by the `kept` labels; nothing if there are none."""
    return sum_of_others(_MOST, query, rank=_CALLS, by=BY_MODEL, kept=kept)


_HELD: Final = RANK.samples(rows.GPU_SHARE, by=BY_LISTED_MODEL)


def longest_loaded(query: str) -> str:
    """Return the part of a query by listed model that is about those longest in memory."""
    return top_by(MOST_LOADED, query, rank=_HELD, by=BY_LISTED_MODEL)


def busiest_plain(query: str) -> str:
    """Return `busiest` for a query by the label that `by_plain_model` makes."""
    models = by_plain_model(top(_MOST, _CALLS), names.REQUEST_MODEL)
    return f"({query}) and on ({MODEL}) {models}"


def busiest_of(row: Instrument, query: str, *, by: Sequence[str]) -> str:
    """Return the part of a query for those with most records of a histogram in the range."""
    return top_by(_MOST, query, rank=RANK.count_increase(row, by=by), by=by)


def others_of(row: Instrument, query: str, *, by: Sequence[str]) -> str:
    """Return the sum over those that `busiest_of` leaves out; nothing if there are none."""
    return sum_of_others(_MOST, query, rank=RANK.count_increase(row, by=by), by=by)
