"""Groups of calls: the condition of each row of a report, and sums for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from ollama_otel._wire.model_names import key_of, short_name
from ollama_otel.analysis._cost.columns import MODEL, SERVER, Codes, Table, codes_of
from ollama_otel.analysis._cost.sharing import Array
from ollama_otel.analysis._store.columns import literal
from ollama_otel.errors import AnalysisError

__all__ = ["days_of", "expression_of", "group_codes", "model_codes", "months_of", "sums"]

_DAY: Final = 86_400
_EXPRESSIONS: Final = {
    "model": MODEL,
    "user": "user_id",
    "conversation": "conversation_id",
    "server": SERVER,
}


def expression_of(group: str) -> str:
    """Return the SQL of a group: `model`, `user`, `conversation`, `server` or `tag:NAME`.

    Raises `AnalysisError` for another one.
    """
    kind, _, name = group.partition(":")
    if kind == "tag" and name:
        return f"tag(tags, {literal(name)})"
    if group not in _EXPRESSIONS:
        known = ", ".join(_EXPRESSIONS)
        raise AnalysisError(f"expected {known}, day or tag:NAME to group by, found {group!r}")
    return _EXPRESSIONS[group]


def group_codes(table: Table, column: str, group: str) -> Codes:
    """Return the column of a group; spellings of a model's name are one."""
    codes = codes_of(table, column)
    return model_codes(codes) if group == "model" else codes


def model_codes(codes: Codes) -> Codes:
    """Return models by one name for all spellings."""
    return codes.renamed({each: short_name(key_of(each)) for each in codes.texts})


def days_of(times: Array) -> Codes:
    """Return the day of each time, in UTC."""
    days = np.floor_divide(times, _DAY).astype(np.int64)
    first = days.min()
    found = np.flatnonzero(np.bincount(days - first))
    numbers = np.zeros(int(found.max()) + 1, dtype=np.int64)
    numbers[found] = np.arange(len(found))
    dates = np.datetime_as_string((found + first).astype("datetime64[D]"))
    return Codes(numbers[days - first], tuple(map(str, dates)))


def months_of(days: Codes) -> Codes:
    """Return the month of each day."""
    return days.renamed({day: day[: len("2026-01")] for day in days.texts})


def sums(codes: Codes, columns: Mapping[str, Array | None]) -> dict[str, Array]:
    """Return the sums of columns for each text of the codes, and last for rows without a text.

    None as a column counts rows.
    """
    places = np.where(codes.numbers < 0, len(codes.texts), codes.numbers)
    count = len(codes.texts) + 1
    return {name: np.bincount(places, column, count) for name, column in columns.items()}
