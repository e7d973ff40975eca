"""How two values differ: texts word by word, JSON field by field. Knows nothing of calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any, Final, Literal, NamedTuple

__all__ = [
    "FieldDifference",
    "Segment",
    "TextDifference",
    "differing_fields",
    "differing_text",
    "without_depths",
]

SegmentKind = Literal["same", "removed", "added", "skipped"]
FieldKind = Literal["changed", "type_changed", "missing", "added", "reordered"]


class Segment(NamedTuple):
    """A piece of a text, and which of two texts it stands in."""

    kind: SegmentKind
    text: str
    """Of a `skipped` one how long it is, such as `12 words`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDifference:
    """How a text differs from the one before it."""

    is_identical: bool
    similarity: float
    """0 to 1: the share of words, of both texts together, that stand in both in the same order."""
    segments: tuple[Segment, ...] = ()
    """The changed words and a few around them; empty where nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One place in which two JSON values differ."""

    path: str
    """Such as `$.items[2].price`; `$` is the whole value."""
    kind: FieldKind
    before: Any = None
    """None also where it was added."""
    after: Any = None
    """None also where it is missing."""

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


# --- texts --------------------------------------------------------------------------------

# Chinese and Japanese put no blanks between words; each of their characters counts as one.
_IDEOGRAPHS: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"\s*(?:[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+)|\s+")
_CONTEXT = 5
"""Words shown on each side of a change."""
_LONG_TEXT = 2_000
"""Words from which on frequent ones are no points to align by: that would take minutes."""


def differing_text(before: str, after: str) -> TextDifference:
    """Compare two texts by their words; the blanks before a word belong to it."""
    if before == after:
        return TextDifference(is_identical=True, similarity=1.0)
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _shared_start(old, new)
    end = _shared_start(old[start:][::-1], new[start:][::-1])
    # The shared ends, mostly long, need no search.
    matcher = SequenceMatcher(
        None,
        old[start : len(old) - end],
        new[start : len(new) - end],
        autojunk=max(len(old), len(new)) > _LONG_TEXT,
    )
    same = start + end + sum(block.size for block in matcher.get_matching_blocks())
    changes: list[tuple[str, list[str], list[str]]] = [
        ("equal", old[:start], new[:start]),
        *(
            (tag, old[start + a : start + b], new[start + c : start + d])
            for tag, a, b, c, d in matcher.get_opcodes()
        ),
        ("equal", old[len(old) - end :], new[len(new) - end :]),
    ]
    return TextDifference(
        is_identical=False,
        similarity=2 * same / (len(old) + len(new)),
        segments=tuple(_segments(changes)),
    )


def _shared_start(old: Sequence[str], new: Sequence[str]) -> int:
    pairs = zip(old, new, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _segments(changes: Sequence[tuple[str, list[str], list[str]]]) -> Iterator[Segment]:
    for index, (tag, old, new) in enumerate(changes):
        if tag == "equal":
            yield from _same(old, is_first=not index, is_last=index == len(changes) - 1)
            continue
        if old:
            yield Segment("removed", "".join(old))
        if new:
            yield Segment("added", "".join(new))


def _same(words: list[str], *, is_first: bool, is_last: bool) -> Iterator[Segment]:
    """Show what is next to a change, and how much is left out between or beyond."""
    head = 0 if is_first else _CONTEXT
    tail = 0 if is_last else _CONTEXT
    skipped = len(words) - head - tail
    if skipped <= 1:
        if words:
            yield Segment("same", "".join(words))
        return
    if head:
        yield Segment("same", "".join(words[:head]))
    yield Segment("skipped", f"{skipped} words")
    if tail:
        yield Segment("same", "".join(words[-tail:]))


# --- JSON ---------------------------------------------------------------------------------

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


def without_depths(value: Any, levels: int = _MAX_DEPTH) -> Any:
    """Copy JSON with a mark in place of what is nested deeper than anybody means to."""
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return _NESTED_TOO_DEEPLY
    if isinstance(value, dict):
        return {key: without_depths(item, levels - 1) for key, item in value.items()}
    return [without_depths(item, levels - 1) for item in value]


def differing_fields(before: Any, after: Any, path: str = "$") -> Iterator[FieldDifference]:
    """Compare two JSON values, object by object and item by item; 1 and 1.0 are the same."""
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
