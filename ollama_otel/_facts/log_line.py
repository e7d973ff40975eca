"""Facts in one kind of line of the replay log: written, checked and read by the table."""

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

__all__ = ["LogLine", "plain"]

_TYPES: Final[Mapping[FactType, Any]] = {
    "text": str,
    "integer": int,
    # Neither infinite nor NaN.
    "number": Annotated[float, Meta(ge=-1e300, le=1e300)],
    "boolean": bool,
    "texts": tuple[str, ...],
    "object": dict[str, Any],
}


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
                [name for row, name in written if _is_rewritten(row)],
            )
            for section, written in by_section.items()
        ]

    def values(self, source: Any) -> dict[str, Any]:
        """Return what is known of a start or a record, as JSON."""
        values: dict[str, Any] = {}
        for section, get, keys, absences, rewritten in self._sections:
            known = {key: v for key, v in zip(keys, get(source)) if v is not None}  # noqa: B905
            for name, absent in absences:
                if name in known and known[name] == absent:
                    del known[name]
            for name in rewritten:
                if name in known:
                    known[name] = plain(known[name])
            if not section:
                values |= known
            elif known:
                values[section] = known
        return values

    def fields(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the fields that a line gives; see `FactTable.fields`."""
        fields: dict[str, dict[str, Any]] = {}
        for owner, section, kind, objects, derived in self._readers:
            if section and section not in values:
                fields[owner] = {}
                continue
            given = values[section] if section else values
            try:
                found = asdict(msgspec.convert(given, kind))
            except msgspec.ValidationError as error:
                raise ValueError(f"{section or 'line'}: {error}") from error
            for name in objects:
                if value := found[name]:
                    found[name] = frozen(value)
            for name in derived:
                del found[name]
            fields[owner] = found
        return fields

    @cached_property
    def _readers(self) -> list[tuple[str, str, Any, list[str], list[str]]]:
        """Return what reads each object of a record: a type, so that most of it happens in C."""
        owners: dict[tuple[str, str], list[tuple[Fact, str]]] = {}
        for row, key in self._rows:
            owner, section = row.path.rpartition(".")[0], key.rpartition(".")[0]
            owners.setdefault((owner, section), []).append((row, key.rpartition(".")[2]))
        readers = []
        for (owner, section), rows in owners.items():
            below = owner.removeprefix(self._prefix.rstrip(".")).lstrip(".")
            stored = {
                field.name: field.default
                for field in struct_fields(_record_at(self._record, below))
            }
            named = [(row.path.rpartition(".")[2], row, key) for row, key in rows]
            fields = [
                # What follows from other facts is checked, and then computed anew.
                (name, _type_of(row), msgspec.field(name=key, default=stored[name]))
                if name in stored
                else (name, _type_of(row) | None, msgspec.field(name=key, default=None))
                for name, row, key in named
            ]
            objects = [name for name, row, _ in named if row.type == "object" and name in stored]
            derived = [name for name, _, _ in named if name not in stored]
            kind = msgspec.defstruct(owner or self._line, fields, kw_only=True)
            readers.append((owner, section, kind, objects, derived))
        return readers


def _all_at_once(paths: list[str]) -> Callable[[Any], Iterable[Any]]:
    # With one name, `attrgetter` returns the value and not a tuple.
    get = attrgetter(*paths, "__class__")
    return lambda source: get(source)[:-1]


def plain(value: Any) -> Any:
    """Return a value as JSON writers take it; seconds to the microsecond."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _is_rewritten(row: Fact) -> bool:
    """Whether a value is not written as it is; what the server measured is, to the nanosecond."""
    is_exact = row.type == "number" and row.path.startswith("response.")
    return row.type in {"number", "texts", "object"} and not is_exact


def _record_at(record: type[Struct], path: str) -> type[Struct]:
    """Return the type of what a path leads to."""
    for name in filter(None, path.split(".")):
        record = get_type_hints(record)[name]
    return record


def _type_of(row: Fact) -> Any:
    return _TYPES[row.type] if row.also is None else _TYPES[row.type] | row.also
