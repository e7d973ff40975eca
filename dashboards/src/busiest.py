"""Limits graphs to the busiest models, agents or tools, as fifty lines cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.queries import BOARD, MODEL, by_plain_model
from dashboards.src.vocabulary import BY_MODEL, GENAI
from ollama_otel import _names as names
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["OTHERS", "busiest", "busiest_of", "busiest_plain", "other_models", "others_of"]

_MOST: Final = 10

OTHERS: Final = "other models"
"""Legend of `other_models`."""


def _top(row: Instrument, by: Sequence[str]) -> str:
    """Return those with most records in the range.

    `@ end()` ranks them once for the whole range, so that no line ends where another overtakes.
    """
    return f"topk({_MOST}, {BOARD.over('$__range').ranked(row, by=by)})"


def busiest_of(row: Instrument, query: str, *, by: Sequence[str]) -> str:
    """Return the part of a query for those with most records of a histogram in the range."""
    return f"({query}) and on ({_labels(by)}) {_top(row, by)}"


def others_of(row: Instrument, query: str, *, by: Sequence[str]) -> str:
    """Return the sum over those that `busiest_of` leaves out; nothing if there are none."""
    return f"sum(({query}) unless on ({_labels(by)}) {_top(row, by)})"


def busiest(query: str) -> str:
    """Return the part of a query by model that is about the models with most calls in the range."""
    return busiest_of(GENAI.inference_duration, query, by=BY_MODEL)


def other_models(query: str) -> str:
    """Return the sum over the other models; nothing if there are none."""
    return others_of(GENAI.inference_duration, query, by=BY_MODEL)


def busiest_plain(query: str) -> str:
    """Return `busiest` for a query by the label that `by_plain_model` makes."""
    models = by_plain_model(_top(GENAI.inference_duration, BY_MODEL), names.REQUEST_MODEL)
    return f"({query}) and on ({MODEL}) {models}"


def _labels(by: Sequence[str]) -> str:
    return ", ".join(map(label_name, by))
