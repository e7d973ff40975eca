"""Plots: round numbers on axes, gaps where a value is unknown, names that fit."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ollama_otel.analysis._report.plots import legend, svg, ticks
from ollama_otel.analysis._report.values import Mark, Plot, Series

from .pages import Element, parsed

DAY = datetime(2026, 11, 28, tzinfo=UTC)


def plot(*values: float | None, kind: Any = "lines", **options: Any) -> Plot:
    return Plot(
        kind=kind,
        unit=options.pop("unit", "seconds"),
        places=options.pop(
            "places", tuple(DAY + timedelta(hours=hour) for hour in range(len(values)))
        ),
        series=(Series(name="p50", values=values), *options.pop("more", ())),
        **options,
    )


def drawn(plot: Plot) -> Element:
    return parsed(svg(plot, name="p", title="Title", text="Text"))


def paths(element: Element, name: str) -> list[str]:
    return [
        path.attributes["d"]
        for path in element.all("path")
        if name in path.attributes["class"].split()
    ]


@pytest.mark.parametrize(
    ("most", "unit", "texts"),
    [
        (0, "number", ["0", "1"]),
        (7, "number", ["0", "2", "4", "6", "8"]),
        (4_000_000, "number", ["0", "1 M", "2 M", "3 M", "4 M"]),
        (0.04, "seconds", ["0 ms", "10 ms", "20 ms", "30 ms", "40 ms"]),
        (7.2, "seconds", ["0 s", "2 s", "4 s", "6 s", "8 s"]),
        (400, "seconds", ["0 min", "2 min", "4 min", "6 min", "8 min"]),
        (40_000, "seconds", ["0 h", "5 h", "10 h", "15 h"]),
        (0.09, "share", ["0 %", "2.5 %", "5 %", "7.5 %", "10 %"]),
    ],
)
def test_ticks_are_round(most: float, unit: Any, texts: list[str]) -> None:
    found = ticks(most, unit)
    assert [text for _, text in found] == texts
    assert found[0][0] == 0
    assert found[-1][0] >= most


def test_a_line_ends_where_a_value_is_unknown() -> None:
    line, dot = paths(drawn(plot(1.0, 2.0, None, 3.0, None, 1.0, 1.0)), "line")
    assert line.count("M") == 2
    assert dot.count("M") == 1


def test_columns_are_stacked() -> None:
    more = (Series(name="more", values=(1.0, None)),)
    found = drawn(plot(1.0, 3.0, kind="columns", more=more))
    first = paths(found, "f0")[0]
    second = paths(found, "f1")[0]
    top = re.search(r"V([\d.]+)h", first)
    bottom = re.search(r"M[\d.]+ ([\d.]+)V", second)
    assert top is not None
    assert bottom is not None
    assert top[1] == bottom[1]
    assert second.count("M") == 1


@pytest.mark.parametrize("kind", ["lines", "columns", "bars"])
@pytest.mark.parametrize("values", [(None,), (0.0,), (5.0,), (None, None), (0.0, 1e-9), (1e12, 3)])
def test_any_values_can_be_drawn(kind: Any, values: tuple[float | None, ...]) -> None:
    places = {"places": tuple(f"n{at}" for at in range(len(values)))} if kind == "bars" else {}
    found = drawn(plot(*values, kind=kind, **places))
    for element in found.all():
        assert not re.search(r"nan|inf|None", " ".join(element.attributes.values()))


def test_the_values_of_a_place_are_shown_under_the_pointer() -> None:
    found = drawn(plot(1.0, None))
    assert [hint.all("title")[0].text for hint in found.all("rect")] == [
        "2026-11-28 00:00:00\np50: 1.00 s",
        "2026-11-28 01:00:00\np50: \N{EN DASH}",
    ]


def test_texts_are_escaped_and_long_names_are_cut() -> None:
    name = "<script>" + "x" * 40
    places = (name,)
    found = svg(plot(1.0, kind="bars", places=places), name="p", title=name, text=name)
    assert "<script>" not in found
    [row] = [text.text for text in parsed(found).all("text") if "…" in text.text]
    assert row == "<script>" + "x" * 11 + "…"


def test_a_mark_has_its_label() -> None:
    found = drawn(plot(1.0, 2.0, 3.0, places=(1, 2, 4), marks=(Mark(at=2, label="knee"),)))
    assert len(paths(found, "mark")) == 1
    assert "knee" in found.text


def test_one_series_needs_no_legend() -> None:
    assert legend(plot(1.0)) == ""
    both = parsed(legend(plot(1.0, more=(Series(name="<p95>", values=(1.0,)),))))
    assert [item.text.strip() for item in both.all("li")] == ["p50", "<p95>"]
