"""The columns of the table `calls`: one row per call; most follow from the table of facts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ollama_otel._facts import FACTS, Column

__all__ = [
    "COLUMNS",
    "END_COLUMNS",
    "LINE_COLUMNS",
    "REQUEST_COLUMNS",
    "literal",
    "quoted",
]

_FACTS: Final = FACTS.columns()
REQUEST_COLUMNS: Final = tuple(column for column in _FACTS if column.line == "request")
END_COLUMNS: Final = tuple(column for column in _FACTS if column.line == "end")

_OWN: Final[Mapping[str, tuple[str, str]]] = {
    "call_id": ("VARCHAR", "Id of the call in its log, or of its span."),
    "started_at": ("TIMESTAMP", "When the call began, in UTC."),
    "ended_at": ("TIMESTAMP", "When it ended, in UTC; NULL if it has no end."),
    "server": ("VARCHAR", "Host and port that the call was sent to."),
    "concurrency": (
        "DOUBLE",
        "Mean number of calls at this server during the call, itself included.",
    ),
}

COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    **_OWN,
    **{column.name: (column.sql_type, column.sentence) for column in _FACTS},
}
"""All columns, with their DuckDB type and description."""


def _line_columns() -> dict[str, Any]:
    """Return the keys of a log line that become columns; objects hold further keys."""
    # A time is read as text, since DuckDB would ignore its zone.
    keys: dict[str, Any] = {"v": "BIGINT", "event": "VARCHAR", "id": "VARCHAR", "at": "VARCHAR"}
    for column in _FACTS:
        *objects, last = column.key.split(".")
        holder = keys
        for name in objects:
            holder = holder.setdefault(name, {})
        holder.setdefault(last, column.sql_type)
    return keys


def _sql_type(keys: Any) -> str:
    if isinstance(keys, str):
        return keys
    inside = ", ".join(f"{quoted(name)} {_sql_type(kind)}" for name, kind in keys.items())
    return f"STRUCT({inside})"


def literal(value: Any) -> str:
    """Return a value of a column as SQL."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, tuple):
        return "CAST([] AS VARCHAR[])" if not value else _list(value)
    if isinstance(value, Mapping):
        return literal(json.dumps(dict(value)))
    return str(value)


def _list(values: Iterable[Any]) -> str:
    return "[" + ", ".join(literal(value) for value in values) + "]"


def quoted(name: str) -> str:
    """Return a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def column_of(column: Column) -> str:
    """Return the SQL that takes a column out of a line."""
    value = ".".join(quoted(name) for name in column.key.split("."))
    if column.sql_type == "JSON":
        value = f"CAST({value} AS VARCHAR)"
    if column.absent is not None:
        value = f"COALESCE({value}, {literal(column.absent)})"
    return f"{value} AS {quoted(column.name)}"


LINE_COLUMNS: Final = (
    "{" + ", ".join(f"{literal(k)}: {literal(_sql_type(v))}" for k, v in _line_columns().items())
) + "}"
"""The argument `columns` of DuckDB's `read_json`."""
