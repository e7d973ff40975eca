"""Plots as SVG: no JavaScript, colours and patterns from the style sheet of the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Any, Final

from ollama_otel.analysis._report.quantities import quantity
from ollama_otel.analysis._report.values import Plot, Series, Unit

__all__ = ["legend", "svg", "ticks"]

_WIDTH: Final = 600
_HEIGHT: Final = 226
_LEFT: Final = 56
_RIGHT: Final = 14
_TOP: Final = 20
_BOTTOM: Final = 36
_BAR: Final = 30
"""Height of a bar and the space to the next one."""
_NAMES: Final = 140
"""Width of the names beside bars."""
_LONGEST_NAME: Final = 20
_AXIS_TICKS: Final = 6
_HALF_A_LABEL: Final = 20
_HOUR: Final = 3600
_TIMES: Final = ((5400, _HOUR, "h"), (90, 60, "min"), (0.4, 1, "s"), (0, 0.001, "ms"))
"""Units of a time axis: the least maximum in seconds, the seconds of the unit, and its symbol."""
_DAY: Final = 24 * _HOUR


def svg(plot: Plot, *, name: str, title: str, text: str) -> str:
    """Return a plot as an SVG element; `title` and `text` describe it for screen readers.

    `name` is unique on the page.
    """
    drawn, height = _bars(plot) if plot.kind == "bars" else (_over_axis(plot), _HEIGHT)
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(text)}</desc>{"".join(drawn)}</svg>'
    )


def legend(plot: Plot) -> str:
    """Return the names of the series, each with its colour and pattern."""
    if len(plot.series) == 1:
        return ""
    items = []
    for number, series in enumerate(plot.series):
        if plot.kind == "lines":
            sample = f'<path class="line l{number}" d="M0 6H22"/>'
        else:
            sample = f'<rect class="f{number}" width="22" height="12"/>'
        items.append(
            f'<li><svg class="sample" width="22" height="12" aria-hidden="true">{sample}</svg> '
            f"{_text(series.name)}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def ticks(most: float, unit: Unit = "number") -> tuple[tuple[float, str], ...]:
    """Return about four round values from 0 on, with their texts; the last is not below `most`."""
    if unit == "seconds":
        size, sign = next((size, sign) for least, size, sign in _TIMES if most >= least)
        return tuple((tick * size, f"{tick:g} {sign}") for tick in _round_numbers(most / size))
    if unit == "share":
        return tuple((tick / 100, f"{tick:g} %") for tick in _round_numbers(most * 100))
    return tuple((tick, quantity(tick, "number")) for tick in _round_numbers(most))


def _round_numbers(most: float) -> tuple[float, ...]:
    if most <= 0:
        return (0.0, 1.0)
    rough = most / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if rough <= size * factor * 1.0001)
    return tuple(round(step * number, 12) for number in range(math.ceil(most / step - 1e-9) + 1))


# --- lines and columns --------------------------------------------------------------------


def _over_axis(plot: Plot) -> Iterator[str]:
    places = [_number(place) for place in plot.places]
    sums = [
        sum(value or 0.0 for value in values) if plot.kind == "columns" else _most(values)
        for values in zip(*(series.values for series in plot.series), strict=True)
    ]
    scale = ticks(max(sums, default=0.0), plot.unit)
    width = _WIDTH - _LEFT - _RIGHT
    step = min((b - a for a, b in pairwise(places)), default=1.0) or 1.0
    is_columns = plot.kind == "columns"
    # Columns stand between their start and the next one; a line goes through its places.
    first, last = places[0], places[-1] + (step if is_columns else 0.0)
    span = (last - first) or 1.0

    def x(place: float) -> float:
        return _LEFT + (place - first) / span * width

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / scale[-1][0] * (_HEIGHT - _TOP - _BOTTOM)

    yield from _grid(scale, y)
    yield from _axis(plot, first, last, x)
    if is_columns:
        yield from _columns(plot, places, x, y, step)
    else:
        for number, series in enumerate(plot.series):
            yield from _line(number, series, [x(place) for place in places], y)
    for mark in plot.marks:
        yield from _mark(x(_number(mark.at)), mark.label)
    yield from _hints(plot, places, x, step)


def _grid(scale: Sequence[tuple[float, str]], y: Any) -> Iterator[str]:
    for tick, text in scale:
        at = f"{y(tick):.1f}"
        yield f'<path class="grid" d="M{_LEFT} {at}H{_WIDTH - _RIGHT}"/>'
        yield (f'<text class="end" x="{_LEFT - 6}" y="{float(at) + 4:.1f}">{escape(text)}</text>')


def _axis(plot: Plot, first: float, last: float, x: Any) -> Iterator[str]:
    if isinstance(plot.places[0], datetime):
        found = list(_time_ticks(first, last))
    else:
        found = [(tick, text) for tick, text in ticks(last) if first <= tick <= last]
    for at, text in found:
        yield f'<path class="tick" d="M{x(at):.1f} {_HEIGHT - _BOTTOM}v5"/>'
        is_last = x(at) > _WIDTH - _RIGHT - _HALF_A_LABEL
        place = f'class="end" x="{_WIDTH}"' if is_last else f'class="middle" x="{x(at):.1f}"'
        yield f'<text {place} y="{_HEIGHT - _BOTTOM + 17}">{escape(text)}</text>'
    if plot.axis:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - 3
        yield f'<text class="end" x="{right}" y="{bottom}">{escape(plot.axis)}</text>'


def _time_ticks(first: float, last: float) -> Iterator[tuple[float, str]]:
    rough = (last - first) / _AXIS_TICKS
    steps = (1, 5, 15, 30, 60, 300, 900, 1800, _HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR)
    days = (1, 2, 7, 14, 28, 56, 112, 365)
    wanted = (*steps, *(_DAY * number for number in days))
    step = next((width for width in wanted if width >= rough), wanted[-1])
    form = "%H:%M:%S" if step < 60 else "%H:%M" if last - first <= _DAY else "%d %b %H:%M"  # noqa: PLR2004
    form = "%d %b" if step >= _DAY else form
    form = "%b %Y" if step >= 112 * _DAY else form
    at = math.ceil(first / step) * step
    while at <= last:
        yield at, datetime.fromtimestamp(at, UTC).strftime(form)
        at += step


def _columns(plot: Plot, places: Sequence[float], x: Any, y: Any, step: float) -> Iterator[str]:
    base = [0.0] * len(places)
    width = max(x(places[0] + step) - x(places[0]) - 0.6, 0.6)
    for number, series in enumerate(plot.series):
        path = []
        for place, value in enumerate(series.values):
            if value:
                top, bottom = y(base[place] + value), y(base[place])
                path.append(
                    f"M{x(places[place]):.1f} {bottom:.1f}V{top:.1f}h{width:.1f}V{bottom:.1f}z"
                )
                base[place] += value
        yield f'<path class="f{number}" d="{"".join(path)}"/>'


def _line(number: int, series: Series, xs: Sequence[float], y: Any) -> Iterator[str]:
    """Draw the known values; a line ends where one is unknown, and a single value is a dot."""
    path, dots, is_open = [], [], False
    for place, value in enumerate(series.values):
        if value is None:
            is_open = False
            continue
        at = f"{xs[place]:.1f} {y(value):.1f}"
        if not is_open and (place + 1 == len(xs) or series.values[place + 1] is None):
            dots.append(f"M{at}h.1")
        else:
            path.append(f"{'L' if is_open else 'M'}{at}")
        is_open = True
    yield f'<path class="line l{number}" d="{"".join(path)}"/>'
    if dots:
        yield f'<path class="line l{number} single" d="{"".join(dots)}"/>'


def _mark(x: float, label: str) -> Iterator[str]:
    side = "end" if x > _WIDTH / 2 else "start"
    yield f'<path class="mark" d="M{x:.1f} {_TOP - 8}V{_HEIGHT - _BOTTOM}"/>'
    yield (
        f'<text class="{side} label" x="{x + (-5 if side == "end" else 5):.1f}" y="{_TOP - 6}">'
        f"{_text(label)}</text>"
    )


def _hints(plot: Plot, places: Sequence[float], x: Any, step: float) -> Iterator[str]:
    """Show the values of a place under the pointer."""
    is_columns = plot.kind == "columns"
    for place, at in enumerate(places):
        left = x(at if is_columns else at - step / 2)
        values = "\n".join(
            f"{quantity(series.name, 'text')}: {quantity(series.values[place], plot.unit)}"
            for series in plot.series
        )
        name = plot.places[place]
        head = name.strftime("%Y-%m-%d %H:%M:%S") if isinstance(name, datetime) else f"{name:g}"
        yield (
            f'<rect class="hint" x="{left:.1f}" y="{_TOP}" width="{x(at + step) - x(at):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>{escape(head)}\n{escape(values)}</title>'
            "</rect>"
        )


# --- bars ---------------------------------------------------------------------------------


def _bars(plot: Plot) -> tuple[Iterator[str], int]:
    return _drawn_bars(plot), _TOP + _BAR * len(plot.places) + _BOTTOM


def _drawn_bars(plot: Plot) -> Iterator[str]:
    sums = [
        sum(value or 0.0 for value in values)
        for values in zip(*(series.values for series in plot.series), strict=True)
    ]
    scale = ticks(max(sums, default=0.0), plot.unit)
    bottom = _TOP + _BAR * len(plot.places)
    width = _WIDTH - _NAMES - 2 * _RIGHT - 50
    for tick, text in scale:
        at = _NAMES + tick / scale[-1][0] * width
        yield f'<path class="grid" d="M{at:.1f} {_TOP - 6}V{bottom}"/>'
        yield (f'<text class="middle" x="{at:.1f}" y="{bottom + 18}">{escape(text)}</text>')
    for row, name in enumerate(plot.places):
        top, at = _TOP + row * _BAR, float(_NAMES)
        yield f'<text class="end" x="{_NAMES - 8}" y="{top + 16}">{_short(name)}</text>'
        for number, series in enumerate(plot.series):
            value = series.values[row] or 0.0
            length = value / scale[-1][0] * width
            if length:
                hint = f"{quantity(name, 'text')}, {series.name}: {quantity(value, plot.unit)}"
                yield (
                    f'<rect class="f{number}" x="{at:.1f}" y="{top}" width="{length:.1f}" '
                    f'height="{_BAR - 8}"><title>{escape(hint)}</title></rect>'
                )
            at += length
        yield (
            f'<text class="start" x="{at + 6:.1f}" y="{top + 16}">'
            f"{escape(quantity(sums[row], plot.unit))}</text>"
        )


def _short(name: Any) -> str:
    text = quantity(name, "text")
    return escape(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…")


def _text(value: Any) -> str:
    return escape(quantity(value, "text"))


def _number(place: Any) -> float:
    if isinstance(place, datetime):
        return place.replace(tzinfo=place.tzinfo or UTC).timestamp()
    return float(place)


def _most(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)
