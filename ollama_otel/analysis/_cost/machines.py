"""Cost of the calls of one machine: their busy time, their energy, and a share of the idle time.

The amounts of all calls, plus the unallocated cost, add up to the cost of the machine in the
period.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ollama_otel._prices.values import Machine, start_of
from ollama_otel.analysis._cost.power import Measured
from ollama_otel.analysis._cost.sharing import Array, Timeline
from ollama_otel.errors import PriceError

__all__ = ["Segments", "SharedCost", "segments_of", "share_cost"]


class Segments(NamedTuple):
    """The price of a machine in each segment of a period, in which it is constant."""

    bounds: Array
    """Times; one more than there are parts."""
    per_second: Array
    """Money for each second, without energy."""
    per_joule: Array
    """Money for each joule."""
    idle_watts: Array
    """Power without calls."""
    busy_watts: Array
    """Power while calls are computed."""


class SharedCost(NamedTuple):
    """The shares of the calls of one machine, in their order, and its totals."""

    seconds: Array
    """Share of the busy time."""
    machine: Array
    """Money for that time: purchase and rent."""
    energy: Array
    """Money for the energy of that time."""
    joules: Array
    """Energy of that time."""
    idle: Array
    """Money for a share of the idle time, by share of the busy time."""
    total: float
    """Cost of the machine in the period."""
    unallocated: float
    """Cost of idle time that is not allocated, as no call was computed."""
    period: float
    """Seconds of the period."""
    busy: float
    """Seconds with at least one call."""
    idle_joules: float
    """Energy of the idle time."""

    @property
    def cost(self) -> Array:
        """Money for each call: machine, energy and idle share."""
        total: Array = self.machine + self.energy + self.idle
        return total

    def rates(self, segments: Segments) -> tuple[float, float]:
        """Return the mean money for a second without calls, and for one with calls."""
        lengths = np.diff(segments.bounds)
        fixed, idle, busy = (
            float(np.average(each, weights=lengths))
            for each in (
                segments.per_second,
                _money(segments.idle_watts, segments.per_joule),
                _money(segments.busy_watts, segments.per_joule),
            )
        )
        return fixed + idle, fixed + busy


def share_cost(starts: Array, ends: Array, segments: Segments) -> SharedCost:
    """Share the cost of a machine among its calls.

    The numbers are floats, or exact numbers as objects: all of them of one kind.
    """
    timeline = Timeline(starts, ends, segments.bounds)
    seconds = timeline.seconds
    of_idle = segments.per_second + _money(segments.idle_watts, segments.per_joule)
    idle_cost = (timeline.idle * of_idle).sum()
    machine = timeline.shares(segments.per_second)
    of_energy = _money(segments.busy_watts, segments.per_joule)
    energy = timeline.shares(of_energy)
    busy_cost = (timeline.busy * (segments.per_second + of_energy)).sum()
    all_seconds = seconds.sum()
    is_charged = all_seconds > 0
    return SharedCost(
        seconds=seconds,
        machine=machine,
        energy=energy,
        joules=timeline.shares(segments.busy_watts),
        idle=seconds * (idle_cost / all_seconds) if is_charged else seconds * 0,
        total=busy_cost + idle_cost,
        unallocated=idle_cost * 0 if is_charged else idle_cost,
        period=timeline.lengths.sum(),
        busy=timeline.busy.sum(),
        idle_joules=(timeline.idle * segments.idle_watts).sum(),
    )


def _money(watts: Array, per_joule: Array) -> Array:
    """Return money for each second of a power; energy without a price needs no known power."""
    return np.where(per_joule == 0, per_joule, watts * per_joule)


def segments_of(
    machine: Machine,
    period: tuple[float, float],
    busy: tuple[Array, Array],
    measured: Measured | None = None,
) -> Segments:
    """Divide a period at changes of prices and of the measured power.

    `period` and `busy` (starts and ends of the calls) are in seconds since the epoch; the bounds
    of the result are seconds since the start of the period, which are more exact.

    Raises `PriceError` if the period begins before the first price, or if a power is unknown.
    """
    start, end = period
    days = np.array([start_of(price.from_) for price in machine.price])
    if days[0] > start:
        raise PriceError(
            f"machine {machine.name!r} has no price for the time before "
            f"{machine.price[0].from_}: add an older entry to the price file"
        )
    times = [days] if measured is None else [days, measured.starts, measured.ends]
    bounds = np.unique(np.clip(np.concatenate([*times, [start, end]]), start, end))
    entry = np.searchsorted(days, bounds[:-1], side="right") - 1
    idle, used = (
        np.array([getattr(price, name) for price in machine.price], dtype=float)[entry]
        for name in ("idle_watts", "busy_watts")
    )
    if measured is not None:
        idle, used = _measured_watts(measured, bounds, busy, (idle, used))
    per_joule = np.array([price.per_joule for price in machine.price])[entry]
    is_unknown = np.isnan(idle + used) & (per_joule > 0)
    if is_unknown.any():
        raise PriceError(
            f"machine {machine.name!r} has no idle_watts and busy_watts in the price file, and no "
            "measured energy for a part of the time: add the watts"
        )
    return Segments(
        bounds=bounds - start,
        per_second=np.array([price.per_second for price in machine.price])[entry],
        per_joule=per_joule,
        idle_watts=idle,
        busy_watts=used,
    )


def _measured_watts(
    measured: Measured, bounds: Array, busy: tuple[Array, Array], of_file: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the idle and busy watts of each segment, from the file where nothing is measured.

    In a measured interval, idle time is charged with the idle power, and calls with the rest of the
    energy. The additional power of a loaded model is part of the rest, as the calls keep it loaded.
    """
    lefts, start = bounds[:-1], bounds[0]
    timeline = Timeline(busy[0] - start, busy[1] - start, bounds - start)
    interval = np.searchsorted(measured.starts, lefts, side="right") - 1
    is_measured = (interval >= 0) & (lefts < measured.ends[interval])
    of = interval[is_measured]
    count = len(measured.starts)
    length = np.bincount(of, timeline.lengths[is_measured], count)[of]
    busy_time = np.bincount(of, timeline.busy[is_measured], count)[of]
    mean = (measured.joules / (measured.ends - measured.starts))[of]
    idle, used = of_file[0].copy(), of_file[1].copy()
    known = idle[is_measured] if measured.idle_watts is None else measured.idle_watts
    is_mixed = (busy_time > 0) & (busy_time < length)
    if np.isnan(np.where(is_mixed, known, 0.0)).any():
        raise PriceError(
            "the power of the idle machine is unknown: add idle_watts to the price file, or "
            "models_loaded to the measurements, with some time in which it is 0"
        )
    idle_watts = np.where(is_mixed, np.minimum(known, mean), mean)
    idle[is_measured] = idle_watts
    with_calls = np.maximum(busy_time, np.finfo(float).tiny)
    used[is_measured] = np.where(
        is_mixed, (mean * length - idle_watts * (length - busy_time)) / with_calls, mean
    )
    return idle, used
