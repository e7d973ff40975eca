"""Labels, matchers, legends and limits shared by boards and rules."""

from __future__ import annotations

from typing import Final, cast

from dashboards.src.queries import BOARD
from ollama_otel import _names as names
from ollama_otel._telemetry.instruments import GENAI_INSTRUMENTS, Instrument
from ollama_otel._telemetry.metric_names import label_name

__all__ = [
    "BY_LISTED_MODEL",
    "BY_MODEL",
    "BY_SERVER",
    "CUT",
    "FAILED",
    "GENAI",
    "GENERATED",
    "INPUT",
    "OUTPUT",
    "RANGE",
    "RANK",
    "REFUSED",
    "SERVER_LEGEND",
    "SERVER_TEXT",
    "SLOW_START",
    "TOKENS",
    "legend",
]

GENAI: Final = GENAI_INSTRUMENTS["v1.41"]
"""Boards and rules use the names of the default profile."""

TOKENS: Final = cast("Instrument", GENAI.token_usage)
"""One histogram for input and output tokens."""

RANGE: Final = BOARD.over("$__range")
"""Queries over the whole time range of the board."""

RANK: Final = RANGE.at_end()
"""Queries for ranks: over the whole time range of the board, the same at every point of a graph."""

BY_MODEL: Final = (names.REQUEST_MODEL,)
BY_SERVER: Final = (names.SERVER_ADDRESS, names.SERVER_PORT)
BY_LISTED_MODEL: Final = (names.MODEL_NAME, *BY_SERVER)
"""For models in memory: several servers may have loaded the same model."""

FAILED: Final = {names.ERROR_TYPE: '!=""'}
REFUSED: Final = {names.HTTP_STATUS: '!=""', names.ERROR_TYPE: '=""'}
"""Exports that the receiver answered with an error status; they have no error type."""
CUT: Final = {names.FINISH_REASON: '="length"'}
"""Answers that ended at `num_predict` or at the end of the context."""
GENERATED: Final = {names.OPERATION_NAME: '!="embeddings"'}
"""Calls that generate tokens."""
INPUT: Final = {names.TOKEN_TYPE: '="input"'}
OUTPUT: Final = {names.TOKEN_TYPE: '="output"'}

SLOW_START: Final = 2.56
"""Objective for the time to first token, in seconds; a bucket bound, so shares are exact."""


def legend(*attributes: str, before: str = "") -> str:
    """Return a legend that shows the values of labels, after a prefix."""
    values = " ".join(f"{{{{{label_name(attribute)}}}}}" for attribute in attributes)
    return f"{before} {values}".strip()


SERVER_LEGEND: Final = f"{legend(names.SERVER_ADDRESS)}:{legend(names.SERVER_PORT)}"

SERVER_TEXT: Final = (
    f"{{{{ $labels.{label_name(names.SERVER_ADDRESS)} }}}}:"
    f"{{{{ $labels.{label_name(names.SERVER_PORT)} }}}}"
)
"""Address and port of the server, for the text of an alert."""
