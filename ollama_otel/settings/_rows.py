"""A group of settings is a frozen dataclass; each of its fields is a row with one setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from ollama_otel._display import logger
from ollama_otel.errors import SettingsError
from ollama_otel.settings._kinds import Kind
from ollama_otel.settings._messages import wrong_value

__all__ = ["Row", "read_variables", "rows_of", "setting"]

_rows: dict[type[_Group], tuple[Row, ...]] = {}

_log = logger()


@dataclass(frozen=True, slots=True)
class Row:
    """One setting."""

    name: str
    """Of the field in its group."""
    keyword: str
    """Of `configure` and `Settings`."""
    variable: str | None
    kind: Kind
    default: Any

    def checked(self, value: Any) -> Any:
        """Return what is kept of a value from code; raises `SettingsError` for a wrong one."""
        if not self.kind.accepts(value):
            raise wrong_value(self.keyword, self.kind.code, self.kind.shown(value))
        return self.kind.keep(value)

    def read(self, variable: str, text: str) -> Any:
        """Return the value that a variable's text stands for; raises `SettingsError`."""
        try:
            value = self.kind.read(text)
        except (ValueError, LookupError):
            is_right = False
        else:
            # Only code can say None; in a variable, an empty text means it.
            is_right = value is not None and self.kind.accepts(value)
        if not is_right:
            raise wrong_value(variable, self.kind.text, self.kind.shown(text))
        return value


def setting(default: Any, kind: Kind, variable: str | None, *, keyword: str | None = None) -> Any:
    """Return a row as a field; without a keyword of its own it has the name of the field."""
    return field(default=default, metadata={"row": (keyword, variable, kind)})


def rows_of(group: type[_Group]) -> tuple[Row, ...]:
    """Return the rows of a group, in order."""
    if group not in _rows:
        _rows[group] = tuple(map(_row, fields(group)))
    return _rows[group]


def _row(each: Field[Any]) -> Row:
    keyword, variable, kind = each.metadata["row"]
    return Row(each.name, keyword or each.name, variable, kind, each.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Settings of one concern. Raises `SettingsError` for a wrong value."""

    def __post_init__(self) -> None:
        for row in rows_of(type(self)):
            object.__setattr__(self, row.name, row.checked(getattr(self, row.name)))


def read_variables(
    rows: Iterable[Row], environ: Mapping[str, str], *, lenient: bool
) -> dict[str, Any]:
    """Return the values that variables set, by keyword.

    Raises `SettingsError` for a wrong one; with `lenient`, it logs a warning instead.
    """
    values: dict[str, Any] = {}
    for row in rows:
        # An empty variable counts as unset, as everywhere in OpenTelemetry.
        if row.variable is None or not (text := environ.get(row.variable, "").strip()):
            continue
        try:
            values[row.keyword] = row.read(row.variable, text)
        except SettingsError as error:
            if not lenient:
                raise
            _log.warning("%s; using the default", error)
    return values
