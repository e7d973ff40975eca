"""Limits graphs to the busiest models, as fifty lines cannot be told apart."""

from __future__ import annotations

from typing import Final

from dashboards.src.queries import BOARD
from dashboards.src.vocabulary import BY_MODEL, GENAI
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["OTHERS", "busiest", "other_models"]

_MOST: Final = 10

OTHERS: Final = "other models"
"""Legend of `other_models`."""

_MODEL: Final = ", ".join(map(label_name, BY_MODEL))
# `@ end()` ranks the models once for the whole range, so that no line ends where another overtakes.
_CALLS: Final = BOARD.over("$__range").ranked(GENAI.inference_duration, by=BY_MODEL)
_BUSIEST: Final = f"on ({_MODEL}) topk({_MOST}, {_CALLS})"


def busiest(query: str) -> str:
    """Return the part of a query by model that is about the models with most calls in the range."""
    return f"({query}) and {_BUSIEST}"


def other_models(query: str) -> str:
    """Return the sum over the other models; nothing if there are none."""
    return f"sum(({query}) unless {_BUSIEST})"
