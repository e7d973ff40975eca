"""Legends, labels and queries that several boards have in common."""

from __future__ import annotations

from typing import Final, cast

from dashboards.promql import BOARD
from ollama_otel import _names as names
from ollama_otel._telemetry.instruments import GENAI_INSTRUMENTS, Instrument
from ollama_otel._telemetry.prometheus import label_name

__all__ = [
    "BY_LISTED_MODEL",
    "BY_MODEL",
    "BY_SERVER",
    "FAILED",
    "GENAI",
    "INPUT",
    "OUTPUT",
    "RANGE",
    "REFUSED",
    "SERVER_LEGEND",
    "SERVER_TEXT",
    "SLOW_START",
    "TOKENS",
    "legend",
]

GENAI: Final = GENAI_INSTRUMENTS["v1.41"]
"""Boards and rules are made for the default profile."""

TOKENS: Final = cast("Instrument", GENAI.token_usage)
"""Of that profile, one histogram for both sides."""

RANGE: Final = BOARD.over("$__range")
"""Of numbers that are about all the time a board shows."""

BY_MODEL: Final = (names.REQUEST_MODEL,)
BY_SERVER: Final = (names.SERVER_ADDRESS, names.SERVER_PORT)
BY_LISTED_MODEL: Final = (names.MODEL_NAME, *BY_SERVER)
"""Of what the server holds: a model may be in the memory of several servers."""

FAILED: Final = {names.ERROR_TYPE: '!=""'}
REFUSED: Final = {names.HTTP_STATUS: '!=""', names.ERROR_TYPE: '=""'}
"""Of exports: the receiver answered, and not with success. Those have no error type."""
INPUT: Final = {names.TOKEN_TYPE: '="input"'}
OUTPUT: Final = {names.TOKEN_TYPE: '="output"'}

SLOW_START: Final = 2.56
"""Seconds within which a stream should begin; a bound of the buckets, so its share is exact."""


def legend(*attributes: str, before: str = "") -> str:
    """Return a legend of labels' values, after a word."""
    values = " ".join(f"{{{{{label_name(attribute)}}}}}" for attribute in attributes)
    return f"{before} {values}".strip()


SERVER_LEGEND: Final = f"{legend(names.SERVER_ADDRESS)}:{legend(names.SERVER_PORT)}"

SERVER_TEXT: Final = (
    f"{{{{ $labels.{label_name(names.SERVER_ADDRESS)} }}}}:"
    f"{{{{ $labels.{label_name(names.SERVER_PORT)} }}}}"
)
"""The same in an alert's text."""
