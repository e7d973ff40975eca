"""Generates span attributes, log lines, columns and the reference page from the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from ollama_otel._facts.fact import Column, Fact, FactType, Line
from ollama_otel._facts.log_line import LogLine, plain, record_at
from ollama_otel.records import CallRecord, CallStart

__all__ = ["FactTable"]

_SQL_TYPES: Final[Mapping[FactType, str]] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "texts": "VARCHAR[]",
    "object": "JSON",
}
_DEFAULTS: Final[Mapping[str, Struct]] = {
    prefix + field.name: field.default
    for prefix, record in (("", CallRecord), ("start.", CallStart))
    for field in fields(record)
    if isinstance(field.default, Struct)
}
"""The parts of a record that have a default, by path."""
_SHOWN: Final[Mapping[FactType, str]] = {"texts": "list of texts"}


class FactTable:
    """The rows, compiled for each of their uses."""

    def __init__(self, rows: Iterable[Fact]) -> None:
        self.rows = tuple(rows)
        on_spans = [row for row in self.rows if row.attribute or row.spread]
        at_end = [row for row in on_spans if not row.is_at_start]
        always = [row for row in at_end if not row.is_of_completions]
        self._start_attributes = _compiled(
            (row for row in on_spans if row.is_at_start), below="start."
        )
        self._end_attributes = _compiled(always)
        self._completion_attributes = _compiled(at_end)
        self._columns = tuple(
            (
                row.column,
                row,
                row.path.startswith("start."),
                attrgetter(row.path.removeprefix("start.")),
            )
            for row in self.rows
            if row.column is not None and row.key is not None
        )
        self._lines: dict[Line, LogLine] = {
            "request": LogLine(self.rows, "request", CallStart, prefix="start."),
            "end": LogLine(self.rows, "end", CallRecord),
        }

    # --- spans ----------------------------------------------------------------------------

    def start_attributes(self, start: CallStart) -> dict[str, Any]:
        """Return the span attributes that are set before sampling."""
        return self._start_attributes(start)

    def end_attributes(self, record: CallRecord) -> dict[str, Any]:
        """Return the span attributes of a finished call; unknown values are left out."""
        if record.start.endpoint.response == "completion":
            return self._completion_attributes(record)
        return self._end_attributes(record)

    # --- the replay log -------------------------------------------------------------------

    def request_values(self, start: CallStart) -> dict[str, Any]:
        """Return the facts in the request line of a log."""
        return self._lines["request"].values(start)

    def end_values(self, record: CallRecord) -> dict[str, Any]:
        """Return the facts in the end line of a log."""
        return self._lines["end"].values(record)

    def fields(self, values: Mapping[str, Any], line: Line) -> dict[str, dict[str, Any]]:
        """Return the record fields in a log line, by the object that has them.

        For example `{"start.request": {"model": "llama3.2"}}`. Derived facts and keys that are
        not in the table are left out. An absent field has its default, or `msgspec.UNSET`.
        Raises ValueError if a value has the wrong type.
        """
        return self._lines[line].fields(values)

    # --- analysis, --json and docs --------------------------------------------------------

    def columns(self) -> tuple[Column, ...]:
        """Return the columns of a table with one row per call."""
        return tuple(
            Column(
                name=row.column,
                sql_type=_SQL_TYPES[row.type] if row.also is None else "VARCHAR",
                key=row.key,
                line=row.line,
                unit=row.unit,
                sentence=row.sentence,
                absent=_absent(row),
            )
            for row in self.rows
            if row.column is not None and row.key is not None
        )

    def flat(self, start: CallStart, record: CallRecord | None) -> dict[str, Any]:
        """Return every column of a call by its name; None is unknown."""
        values: dict[str, Any] = {}
        for column, row, of_start, get in self._columns:
            source: Any = start if of_start else record
            value = None if source is None else get(source)
            values[column] = None if value is None else plain(row, value)
        return values

    def markdown(self) -> str:
        """Return the table for the reference page."""
        head = ("Fact", "Type", "Unit", "Source", "Span attribute", "Log line", "Column")
        lines = [" | ".join(head), " | ".join("---" for _ in head)]
        lines += [
            " | ".join(
                (
                    row.sentence.replace("|", "\\|"),
                    _SHOWN.get(row.type, row.type) + (" or text" if row.also is str else ""),
                    _code(row.unit),
                    row.source,
                    _code(row.attribute or row.spreads_to),
                    _code(None if row.key is None else f"{row.line}: {row.key}"),
                    _code(row.column),
                )
            )
            for row in self.rows
        ]
        return "".join(f"| {line} |\n" for line in lines)


def _absent(row: Fact) -> Any:
    """Return the value of a record that is read from a line without the fact; None is unknown."""
    of_start = row.path.startswith("start.")
    path = row.path.removeprefix("start.")
    holder = record_at(CallStart if of_start else CallRecord, path)
    name = path.rpartition(".")[2]
    if name not in holder.__struct_fields__:
        # It follows from others.
        return row.absent
    default = {field.name: field.default for field in fields(holder)}[name]
    return None if default is NODEFAULT else default


def _compiled(rows: Iterable[Fact], *, below: str = "") -> Callable[[Any], dict[str, Any]]:
    """Compile rows to one function that returns their attributes for a record.

    It runs for every call; generic look-ups took four times as long (6 us). For each attribute
    it has a line `if (value := response.model) is not None: found["..."] = value`; those of a
    section that no enricher has added are skipped at once.
    """
    body: list[str] = []
    scope: dict[str, Any] = {}
    for owner, group in groupby(rows, lambda row: _owner(row, below)):
        part = owner.replace(".", "_") or "source"
        lines = [line for row in group for line in _assignment(row, part, scope)]
        default = _DEFAULTS.get(below + owner)
        if default is not None:
            scope[f"default_{part}"] = default
            body.append(f"if ({part} := source.{owner}) is not default_{part}:")
            lines = [f"    {line}" for line in lines]
        elif owner:
            body.append(f"{part} = source.{owner}")
        body += lines
    lines = ["def attributes(source):", "    found = {}", *(f"    {line}" for line in body)]
    exec("\n".join([*lines, "    return found"]), scope)  # noqa: S102 - our own table, no input
    compiled: Callable[[Any], dict[str, Any]] = scope["attributes"]
    return compiled


def _owner(row: Fact, below: str) -> str:
    return row.path.removeprefix(below).rpartition(".")[0]


def _assignment(row: Fact, part: str, scope: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that add one attribute; what they call goes into `scope`."""
    test = " is not None" if row.absent is None else f" not in (None, {row.absent!r})"
    if row.absent is not None and not row.absent:
        # It is the only falsy value of its type.
        test = ""
    yield f"if (value := {part}.{row.path.rpartition('.')[2]}){test}:"
    if row.spread is not None:
        scope[f"spread_{len(scope)}"] = row.spread
        yield f"    found.update(spread_{len(scope) - 1}(value))"
    else:
        yield f"    found[{row.attribute!r}] = value"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""
