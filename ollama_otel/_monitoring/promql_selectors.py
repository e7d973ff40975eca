"""Extracts the selectors of a PromQL query: the series that it reads.

Accepts Grafana's variables. Does not validate the query; Prometheus does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Matcher", "Selector", "selectors_of"]

_TOKEN: Final = re.compile(
    r"""
    (?P<skipped>\s+ | \#[^\n]*)
  | (?P<string>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*`)
  | (?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)? | \.\d+)
  | (?P<variable>\$\{[^}]*\} | \$\w+ | \[\[\w+\]\])
  | (?P<window>\[[^\]]*\])
  | (?P<word>[a-zA-Z_:][\w:]*)
  | (?P<operator>=~ | !~ | != | == | >= | <= | .)
    """,
    re.VERBOSE,
)
_OPERATORS: Final = frozenset({"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"})
_BEFORE_LABELS: Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_AGGREGATIONS: Final = frozenset(
    {
        *("sum", "min", "max", "avg", "group", "stddev", "stdvar", "count", "count_values"),
        *("bottomk", "topk", "quantile", "limitk", "limit_ratio"),
    }
)
_WORDS: Final = _OPERATORS | _BEFORE_LABELS | _AGGREGATIONS
"""Keywords, which are not metrics even without a following parenthesis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """One label matcher of a selector."""

    label: str
    operator: str
    value: str
    """The text between the quotes."""

    @property
    def has_variable(self) -> bool:
        """Whether the value contains a variable of the board."""
        return "$" in self.value or "[[" in self.value

    def __str__(self) -> str:
        """Return it as PromQL."""
        return f'{self.label}{self.operator}"{self.value}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """The series of one metric that a query reads."""

    metric: str
    matchers: tuple[Matcher, ...] = ()
    window: bool = False
    """Whether it is a range selector, which needs more than one sample for a rate."""

    def text(self, *, variables: bool = True) -> str:
        """Return it as PromQL; without `variables` only matchers with fixed values."""
        kept = [str(matcher) for matcher in self.matchers if variables or not matcher.has_variable]
        return f"{self.metric}{{{','.join(kept)}}}"


def selectors_of(query: str) -> list[Selector]:
    """Return the distinct selectors of a query, in order."""
    return list(dict.fromkeys(_selectors(_tokens(query))))


def _tokens(query: str) -> list[tuple[str, str]]:
    return [
        (str(found.lastgroup), found.group())
        for found in _TOKEN.finditer(query)
        if found.lastgroup != "skipped"
    ]


def _selectors(tokens: list[tuple[str, str]]) -> Iterator[Selector]:
    position = 0
    while position < len(tokens):
        kind, text = tokens[position]
        after = tokens[position + 1][1] if position + 1 < len(tokens) else ""
        if text in _BEFORE_LABELS and after == "(":
            position = _end_of(")", tokens, position) + 1
        elif text == "{" or (kind == "word" and after == "{"):
            last = _end_of("}", tokens, position)
            yield _selector("" if text == "{" else text, tokens, position, last)
            position = last + 1
        else:
            if kind == "word" and after != "(" and text.lower() not in _WORDS:
                yield _selector(text, tokens, position, position)
            position += 1


def _end_of(closing: str, tokens: list[tuple[str, str]], position: int) -> int:
    """Return the position of the next `closing`; label lists and matchers do not nest."""
    while position < len(tokens) - 1 and tokens[position][1] != closing:
        position += 1
    return position


def _selector(metric: str, tokens: list[tuple[str, str]], first: int, last: int) -> Selector:
    matchers: list[Matcher] = []
    inside = tokens[first : last + 1]
    for (kind, label), (_, operator), (_, value) in zip(
        inside, inside[1:], inside[2:], strict=False
    ):
        if kind in {"word", "string"} and operator in {"=", "!=", "=~", "!~"}:
            name = label[1:-1] if kind == "string" else label
            matchers.append(Matcher(label=name, operator=operator, value=value[1:-1]))
    named = next((m.value for m in matchers if m.label == "__name__" and m.operator == "="), metric)
    window = last + 1 < len(tokens) and tokens[last + 1][0] == "window"
    return Selector(metric=named, matchers=tuple(matchers), window=window)
