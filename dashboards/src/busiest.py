"""Limits panels to some models, as fifty lines cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.queries import BOARD
from dashboards.src.vocabulary import BY_LISTED_MODEL, BY_MODEL, GENAI
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["MOST_LOADED", "OTHERS", "busiest", "longest_loaded", "other_models"]

_MOST: Final = 10
MOST_LOADED: Final = 15
"""Models that `longest_loaded` keeps."""

OTHERS: Final = "other models"
"""Legend of `other_models`."""

_MODEL: Final = ", ".join(map(label_name, BY_MODEL))
# `@ end()` ranks the models once for the whole range, so that no line ends where another overtakes.
_CALLS: Final = BOARD.over("$__range").ranked(GENAI.inference_duration, by=BY_MODEL)
_BUSIEST: Final = f"on ({_MODEL}) topk({_MOST}, {_CALLS})"


def busiest(query: str) -> str:
    """Return the part of a query by model that is about the models with most calls in the range."""
    return f"({query}) and {_BUSIEST}"


def other_models(query: str, *, by: Sequence[str] = ()) -> str:
    """Return the sum over the other models, by other labels; nothing if there are none."""
    grouped = f" by ({', '.join(map(label_name, by))}) " if by else ""
    return f"sum{grouped}(({query}) unless {_BUSIEST})"


_HELD: Final = BOARD.over("$__range").samples(rows.GPU_SHARE, by=BY_LISTED_MODEL)
_LISTED: Final = ", ".join(map(label_name, BY_LISTED_MODEL))


def longest_loaded(query: str) -> str:
    """Return the part of a query by listed model that is about those longest in memory."""
    return f"({query}) and on ({_LISTED}) topk({MOST_LOADED}, {_HELD})"
