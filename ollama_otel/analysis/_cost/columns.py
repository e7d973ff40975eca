"""Columns of calls as arrays, for computing costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from ollama_otel._prices.computation import REFUSED
from ollama_otel._wire.endpoints import ENDPOINTS
from ollama_otel.analysis._cost.sharing import Array
from ollama_otel.analysis._store.extras import imported

__all__ = [
    "AT_SERVER",
    "COMPUTED",
    "LEFT_OUT",
    "MODEL",
    "SERVER",
    "TO_SERVER",
    "Codes",
    "Table",
    "codes_of",
    "floats_of",
    "seconds_of",
]


_arrow: Final = imported("pyarrow")
_compute: Final = imported("pyarrow.compute")
Table = Any
"""A `pyarrow.Table`."""


def _texts(values: Any) -> str:
    return ", ".join(f"'{each}'" for each in values)


_OPERATIONS: Final = _texts(dict.fromkeys(each.name for each in ENDPOINTS if each.moves_model))
_INFERENCE: Final = (
    f"(operation IN ({_OPERATIONS}) OR purpose = 'load') AND COALESCE(purpose, 'call') <> 'unload'"
)
_OF_MACHINE: Final = (
    "remote_model IS NULL AND COALESCE(ending, '') NOT IN ('redirect', 'auth_round')"
)
_REPLAYED: Final = "COALESCE(outcome, '') = 'completed' AND NOT COALESCE(is_from_network, TRUE)"
_IS_REFUSED: Final = f"COALESCE(error_type, '') IN ({_texts(sorted(REFUSED))})"
COMPUTED: Final = (
    f"{_INFERENCE} AND duration IS NOT NULL AND {_OF_MACHINE}"
    f" AND NOT ({_REPLAYED}) AND NOT ({_IS_REFUSED})"
)
"""Condition of the calls that a machine computed."""
_LEFT_OUT: Final = {
    "without an end": "duration IS NULL",
    "of models that ran at another place": "remote_model IS NOT NULL",
    "that were answered by a replay": f"duration IS NOT NULL AND {_REPLAYED}",
    "that the server refused, or that did not reach it": _IS_REFUSED,
}
LEFT_OUT: Final[Mapping[str, str]] = {
    name: f"{_INFERENCE} AND ({condition})" for name, condition in _LEFT_OUT.items()
}
"""Conditions of inference calls that cost nothing, by label."""

SERVER: Final = (
    "CASE WHEN served_by IS NULL THEN server"
    " ELSE CONCAT(served_by, ':', CAST(served_at_port AS VARCHAR)) END"
)
"""The server that computed the call: a fallback, if one served it."""
MODEL: Final = "COALESCE(fallback_model, model)"
_DELAY: Final = "COALESCE(delay, 0)"
_QUEUE: Final = "(CASE WHEN total_duration IS NULL THEN 0 ELSE COALESCE(queue_estimate, 0) END)"
AT_SERVER: Final = f"LEAST(duration, {_DELAY} + {_QUEUE})"
"""Seconds from the start of the call to the time at which a machine computes it.

First come the waits of resilience, then the estimated queue, in which the machine computes others.
"""
TO_SERVER: Final = (
    f"GREATEST({AT_SERVER}, LEAST(duration, {_DELAY} + COALESCE(total_duration, duration)))"
)
"""Seconds from the start of the call until the machine has finished it.

That is the server's total, or the client's duration if the server reported none. A caller that
reads slowly does not occupy the machine.
"""


class Codes(NamedTuple):
    """A column of texts: each row has the number of its text, or -1 for none."""

    numbers: Array
    texts: tuple[str, ...]

    def of(self, text: str) -> Array:
        """Return for each row whether it has the text."""
        is_equal: Array = self.numbers == (
            self.texts.index(text) if text in self.texts else len(self.texts)
        )
        return is_equal

    def renamed(self, names: Mapping[str, str]) -> Codes:
        """Return the column with other texts; several may have the same new one."""
        texts = tuple(dict.fromkeys(names[each] for each in self.texts))
        new = np.array([texts.index(names[each]) for each in self.texts] or [-1])
        return Codes(np.where(self.numbers < 0, -1, new[self.numbers]), texts)


def codes_of(table: Table, name: str) -> Codes:
    """Return a column of texts."""
    column = table[name].combine_chunks()
    if not _arrow.types.is_dictionary(column.type):
        column = _compute.dictionary_encode(column.cast(_arrow.string()))
    if isinstance(column, _arrow.ChunkedArray):
        column = column.combine_chunks()
    numbers = _compute.fill_null(column.indices.cast(_arrow.int64()), -1).to_numpy(
        zero_copy_only=False
    )
    return Codes(numbers, tuple(column.dictionary.to_pylist()))


def floats_of(table: Table, name: str) -> Array:
    """Return a column of numbers; NaN is unknown."""
    numbers: Array = table[name].cast(_arrow.float64()).to_numpy()
    return numbers


def seconds_of(table: Table, name: str) -> Array:
    """Return a column of times, in seconds since the epoch."""
    column = table[name].cast(_arrow.timestamp("us"), safe=False)
    microseconds: Array = column.cast(_arrow.int64()).to_numpy()
    return microseconds / 1e6
