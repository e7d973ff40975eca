"""Compares two JSON values, field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["FieldDifference", "FieldKind", "differing_fields", "plain"]

FieldKind = Literal["changed", "type_changed", "missing", "added", "reordered"]
"""How a field differs.

`changed`: another value of the same type. `type_changed`: a value of another type. `missing`: only
the first has it. `added`: only the second has it. `reordered`: the same items in another order.
"""

_MAX_DEPTH: Final = 64
_NESTED_TOO_DEEPLY: Final = "[nested too deeply]"
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TYPES: Final[dict[type, str]] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    type(None): "null",
    dict: "object",
    list: "array",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One difference between two JSON values."""

    path: str
    """Such as `$.items[2].price`; `$` is the whole value."""
    kind: FieldKind
    before: Any = None
    """None also if it was added."""
    after: Any = None
    """None also if it is missing."""

    def __str__(self) -> str:
        """Such as `$.items[2].price: 3 -> 4`."""
        match self.kind:
            case "missing":
                return f"{self.path}: {_compact(self.before)} is missing"
            case "added":
                return f"{self.path}: {_compact(self.after)} was added"
        change = f"{self.path}: {_compact(self.before)} -> {_compact(self.after)}"
        if self.kind == "reordered":
            return f"{change} (order)"
        if self.kind == "type_changed" and None not in (self.before, self.after):
            return f"{change} ({_type_of(self.before)} -> {_type_of(self.after)})"
        return change


def plain(value: Any, levels: int = _MAX_DEPTH) -> Any:
    """Return a copy with dicts and lists only; values nested too deeply become a mark."""
    if not isinstance(value, (dict, list, tuple)):
        return value
    if not levels:
        return _NESTED_TOO_DEEPLY
    if isinstance(value, dict):
        return {key: plain(item, levels - 1) for key, item in value.items()}
    return [plain(item, levels - 1) for item in value]


def differing_fields(before: Any, after: Any, path: str = "$") -> Iterator[FieldDifference]:
    """Compare two values of `plain` JSON, field by field; 1 and 1.0 are equal."""
    if _type_of(before) != _type_of(after):
        yield FieldDifference(path=path, kind="type_changed", before=before, after=after)
    elif isinstance(before, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            name = (
                f".{key}" if _PLAIN_KEY.match(key) else f"[{json.dumps(key, ensure_ascii=False)}]"
            )
            yield from _differing_entry(before, after, key, f"{path}{name}")
    elif isinstance(before, list):
        old, new = dict(enumerate(before)), dict(enumerate(after))
        for index in range(max(len(old), len(new))):
            yield from _differing_entry(old, new, index, f"{path}[{index}]")
    elif before != after:
        yield FieldDifference(path=path, kind="changed", before=before, after=after)


def _differing_entry(
    before: Mapping[Any, Any], after: Mapping[Any, Any], key: str | int, path: str
) -> Iterator[FieldDifference]:
    if key not in after:
        yield FieldDifference(path=path, kind="missing", before=before[key])
    elif key not in before:
        yield FieldDifference(path=path, kind="added", after=after[key])
    else:
        yield from differing_fields(before[key], after[key], path)


def _type_of(value: Any) -> str:
    return _TYPES.get(type(value), type(value).__name__)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
