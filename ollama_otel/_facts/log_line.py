"""Writes, checks and reads the facts in one kind of line of the replay log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from operator import attrgetter
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict
from msgspec.structs import fields as struct_fields

from ollama_otel._facts.fact import Fact, FactType, Line
from ollama_otel._frozen import frozen

__all__ = ["LogLine", "plain", "record_at"]

_TYPES: Final[Mapping[FactType, Any]] = {
    "text": str,
    # Of 64 bits, as the server's and those of tables are.
    "integer": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    # Neither infinite nor NaN.
    "number": Annotated[float, Meta(ge=-1e300, le=1e300)],
    "boolean": bool,
    "texts": tuple[str, ...],
    "object": dict[str, Any],
}


_Reader = tuple[str, Any, str | None, list[str]]
"""A section of a line, its type, the object that has its fields, and the fields with JSON."""


class LogLine:
    """One kind of line in a log: writes its facts, checks them and reads them."""

    def __init__(
        self, rows: Iterable[Fact], line: Line, record: type[Struct], *, prefix: str = ""
    ) -> None:
        self._line = line
        self._record = record
        self._prefix = prefix
        self._rows = [(row, row.key) for row in rows if row.key is not None and row.line == line]
        by_section: dict[str, list[tuple[Fact, str]]] = {}
        for row, key in self._rows:
            section, _, name = key.rpartition(".")
            by_section.setdefault(section, []).append((row, name))
        self._sections = [
            (
                section,
                _all_at_once([row.path.removeprefix(prefix) for row, _ in written]),
                [name for _, name in written],
                [(name, row.absent) for row, name in written if row.absent is not None],
                [(name, row) for row, name in written if _is_rewritten(row)],
            )
            for section, written in by_section.items()
        ]

    def values(self, source: Any) -> dict[str, Any]:
        """Return the known facts of a start or a record, as JSON."""
        values: dict[str, Any] = {}
        for section, get, keys, absences, rewritten in self._sections:
            known = {key: v for key, v in zip(keys, get(source)) if v is not None}  # noqa: B905
            for name, absent in absences:
                if name in known and known[name] == absent:
                    del known[name]
            for name, row in rewritten:
                if name in known:
                    known[name] = plain(row, known[name])
            if not section:
                values |= known
            elif known:
                values[section] = known
        return values

    def fields(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the fields in a line; see `FactTable.fields`."""
        fields: dict[str, dict[str, Any]] = {}
        for section, kind, owner, objects in self._readers:
            if section and section not in values:
                continue
            try:
                read = msgspec.convert(values[section] if section else values, kind)
            except msgspec.ValidationError as error:
                place = f"`$.{section}" if section else "`$"
                raise ValueError(str(error).replace("`$", place)) from error
            if owner is None:
                continue
            fields[owner] = found = asdict(read)
            for name in objects:
                if value := found[name]:
                    found[name] = frozen(value)
        return fields

    @cached_property
    def _readers(self) -> list[_Reader]:
        """Return a struct type for each object of a record, so that msgspec checks them in C."""
        by_owner: dict[tuple[str, str | None], dict[str, Any]] = {}
        for row, key in self._rows:
            section, _, name = key.rpartition(".")
            owner, _, field = row.path.rpartition(".")
            holder = record_at(self._record, row.path.removeprefix(self._prefix))
            kind = _TYPES[row.type] if row.also is None else _TYPES[row.type] | row.also
            default = {each.name: each.default for each in struct_fields(holder)}.get(field)
            is_field = field in holder.__struct_fields__
            # Derived facts are checked, and then computed again.
            if default is msgspec.NODEFAULT or not is_field:
                default = msgspec.UNSET
            described = kind, msgspec.field(name=name, default=default)
            by_owner.setdefault((section, owner if is_field else None), {})[field] = described
        return [
            (
                section,
                msgspec.defstruct(self._line, [(name, *field) for name, field in fields.items()]),
                owner,
                [name for name, (kind, _) in fields.items() if kind is _TYPES["object"]],
            )
            for (section, owner), fields in by_owner.items()
        ]


def _all_at_once(paths: list[str]) -> Callable[[Any], Iterable[Any]]:
    # With one name, `attrgetter` returns the value and not a tuple.
    get = attrgetter(*paths, "__class__")
    return lambda source: get(source)[:-1]


def plain(row: Fact, value: Any) -> Any:
    """Return a value as JSON; seconds are rounded to microseconds."""
    if isinstance(value, float):
        return value if row.is_exact else round(value, 6)
    if isinstance(value, tuple):
        return list(value)
    if row.unit and isinstance(value, dict):
        return {key: round(item, 6) for key, item in value.items()}
    return value


def _is_rewritten(row: Fact) -> bool:
    """Whether a value is converted; the server's own durations stay exact to the nanosecond."""
    is_exact = row.is_exact or (row.type == "number" and row.path.startswith("response."))
    return row.type in {"number", "texts", "object"} and not is_exact


def record_at(record: type[Struct], path: str) -> type[Struct]:
    """Return the type of the object that the last name of a path belongs to."""
    for name in path.split(".")[:-1]:
        record = get_type_hints(record)[name]
    return record
