"""What is wrong with a drawn board, found in what it shows."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from tests.drawing.drawing import Drawn

_MOST_SERIES: Final = 20
"""Series in one graph that a person can still tell apart."""
_ALIKE: Final = 10.0
"""Distance of two colours (CIE 1976) below which thin lines of them look the same."""
_MOST_LOST: Final = 0.02
"""Share of a heat map's counts that may be out of its picture."""
_LONG_NAME: Final = 24
"""Characters."""
_BROKEN_TEXT: Final = re.compile(r"\bNaN\b|\bInfinity\b|\bundefined\b|\[object|\$\{|\{\{")
_FAILURE: Final = re.compile(r"\b(failed|error|errors)\b", re.IGNORECASE)
_GREEN: Final = (0.22, 0.45)
"""Hues, as parts of the circle."""
_WITHOUT_OWN_TEXT: Final = "state-timeline"
"""Grafana 11.6 shows a text of its own in such a panel without data; later versions the panel's."""

Empties = Mapping[tuple[str, str], str]
"""Panels that may have no data, by the board's uid and their title, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault."""

    panel: str
    fault: str

    def __str__(self) -> str:
        return f"{self.panel}: {self.fault}"


def findings(drawn: Drawn, empties: Empties | None = None) -> list[Finding]:
    """Return all faults of a drawn board.

    With `empties` each panel must have data but for these, and each of these must have none.
    """
    facts = drawn.facts
    found = [Finding(panel="the page", fault=line) for line in drawn.console]
    found += [
        Finding(panel=f"annotation {each['name']}", fault=each["error"])
        for each in facts["annotations"]
        if each["error"]
    ]
    for panel in facts["panels"]:
        faults = [*_faults(panel)]
        if empties is not None:
            faults += _unexpected(panel, empties.get((facts["board"], panel["title"])))
        found += [
            Finding(panel=panel["title"] or f"panel {panel['id']}", fault=each) for each in faults
        ]
    if empties is not None:
        found += _unknown(facts, empties)
    return found


def _faults(panel: Mapping[str, Any]) -> Iterator[str]:
    if panel["fault"]:
        yield f"could not be drawn: {panel['fault'].splitlines()[0]}"
    yield from _of_queries(panel)
    yield from _of_texts(panel)
    if not panel["hasData"]:
        yield from _of_emptiness(panel)
    yield from _of_colours(panel)
    yield from _of_legend(panel)
    yield from _of_values(panel)
    if panel["lost"] > _MOST_LOST:
        yield f"does not draw {panel['lost']:.0%} of what it counts: cells without a finite bound"
    if panel["repeats"]:
        yield "is repeated for a variable, which these tests cannot draw"
    for link in panel["links"]:
        if "${" in link["href"] or "${" in link["title"]:
            yield f"its link has a variable without a value: {link['href']}"


def _of_queries(panel: Mapping[str, Any]) -> Iterator[str]:
    for query in panel["queries"]:
        if query["error"]:
            yield f"query {query['ref']} fails: {query['error']}"


def _of_texts(panel: Mapping[str, Any]) -> Iterator[str]:
    for text in sorted(set(_BROKEN_TEXT.findall(panel["text"]))):
        yield f"shows {text!r}"
    cut = [text for text in panel["cut"] if not _is_long_name(panel, text)]
    if cut:
        yield f"cuts off {', '.join(map(repr, cut))}"
    if "cannot be drawn here" in panel["text"]:
        yield f"is of the type {panel['type']}, which these tests cannot draw"


def _is_long_name(panel: Mapping[str, Any], text: str) -> bool:
    """Whether it is a cell with a name that no column has room for; the pointer shows all of it."""
    return panel["type"] == "table" and len(text) > _LONG_NAME


def _of_emptiness(panel: Mapping[str, Any]) -> Iterator[str]:
    reason = panel["noValue"]
    if not reason:
        yield "has no data and does not say why"
    elif panel["type"] != _WITHOUT_OWN_TEXT and _words(reason) not in _words(panel["text"]):
        yield f"has no data and does not show its text {reason!r}"


def _words(text: str) -> str:
    return " ".join(text.split())


def _unexpected(panel: Mapping[str, Any], reason: str | None) -> Iterator[str]:
    if reason is None and not panel["hasData"]:
        yield "has no data, though everything happens in this hour"
    if reason is not None and panel["hasData"]:
        yield f"has data, so it need not be excused: {reason}"


def _unknown(facts: Mapping[str, Any], empties: Empties) -> Iterator[Finding]:
    titles = {panel["title"] for panel in facts["panels"]}
    for board, title in empties:
        if board == facts["board"] and title not in titles:
            yield Finding(panel=title, fault="is excused, and the board has no such panel")


def _of_colours(panel: Mapping[str, Any]) -> Iterator[str]:
    series = panel["series"]
    if len(series) > _MOST_SERIES:
        # Their colours cannot but be alike.
        yield f"has {len(series)} series, which nobody can tell apart"
        return
    for one, other in combinations(series, 2):
        if one["dash"] == other["dash"] and _distance(one["color"], other["color"]) < _ALIKE:
            yield f"draws {one['name']!r} and {other['name']!r} in one colour, {one['color']}"


def _of_legend(panel: Mapping[str, Any]) -> Iterator[str]:
    for item in panel["legend"]:
        if item["isHidden"] and _FAILURE.search(item["name"]):
            yield f"its legend hides {item['name']!r}"


def _of_values(panel: Mapping[str, Any]) -> Iterator[str]:
    for value in panel["values"]:
        # A board may say that nothing is none.
        is_none = value["text"] == panel["noValue"] == "0"
        if not value["isKnown"] and not is_none and _is_green(value["color"]):
            yield f"shows an unknown value in green: {value['text']!r}"


# --- colours ------------------------------------------------------------------------------------


def _rgb(color: str) -> tuple[float, float, float]:
    """Return red, green and blue from 0 to 1 of `#rrggbb`, `#rgb` or `rgb(...)`."""
    if color.startswith("#"):
        digits = color[1:]
        pairs = (
            [digits[i : i + 2] for i in (0, 2, 4)]
            if len(digits) >= 6
            else [2 * each for each in digits]
        )
        red, green, blue = (int(each, 16) / 255 for each in pairs[:3])
    else:
        red, green, blue = (float(each) / 255 for each in re.findall(r"[\d.]+", color)[:3])
    return red, green, blue


def _is_green(color: str | None) -> bool:
    if color is None:
        return False
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(color))
    return _GREEN[0] < hue < _GREEN[1] and saturation > 0.2 and 0.1 < lightness < 0.9


def _distance(one: str, other: str) -> float:
    """Return how different two colours look."""
    return sum((a - b) ** 2 for a, b in zip(_lab(one), _lab(other), strict=True)) ** 0.5


def _lab(color: str) -> tuple[float, float, float]:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _rgb(color)
    ]
    weights = (
        (0.4124 / 0.95047, 0.3576 / 0.95047, 0.1805 / 0.95047),
        (0.2126, 0.7152, 0.0722),
        (0.0193 / 1.08883, 0.1192 / 1.08883, 0.9505 / 1.08883),
    )
    x, y, z = (_root(sum(w * part for w, part in zip(row, linear, strict=True))) for row in weights)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _root(value: float) -> float:
    return value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116
