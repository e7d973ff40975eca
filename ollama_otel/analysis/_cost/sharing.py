"""Shares a machine's time among its calls: concurrent calls share each instant equally.

The method is a running integral. With n(t) calls at time t, and a weight w(t) such as money for
each second, I(t) is the integral of w / n over the times with calls. A call from a to b has the
share I(b) - I(a). The shares of all calls add up to the integral of w over the times with calls.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Timeline"]

Array = npt.NDArray[Any]
"""One dimension; floats, or exact numbers as objects."""


class Timeline:
    """When the calls of one machine were computed, in a period that is divided into segments."""

    def __init__(self, starts: Array, ends: Array, bounds: Array) -> None:
        """`starts` and `ends` are times on one clock; `bounds` are the bounds of the segments.

        Bounds ascend. What is outside the first and the last one is cut off.
        """
        starts = np.clip(starts, bounds[0], bounds[-1])
        ends = np.maximum(starts, np.clip(ends, bounds[0], bounds[-1]))
        times = np.concatenate([starts, ends, bounds])
        # Stable: a log is almost in order, which makes that sort the fastest.
        order = np.argsort(times, kind="stable")
        places = np.empty(len(order), dtype=np.intp)
        places[order] = np.arange(len(order))
        self._from, self._to, edges = np.split(places, [len(starts), 2 * len(starts)])
        steps = np.zeros(len(times), dtype=np.int32)
        steps[: len(starts)] = 1
        steps[len(starts) : 2 * len(starts)] = -1
        running = steps[order].cumsum()[:-1]
        lengths = np.diff(times[order])
        is_busy = running > 0
        self._shared = lengths * is_busy / np.maximum(running, 1)
        self._segments = np.repeat(np.arange(len(bounds) - 1), np.diff(edges))
        self._first = edges[0]
        self.lengths = np.diff(bounds)
        """Length of each segment."""
        self.busy = np.diff(_integral(lengths * is_busy)[edges])
        """Time of each segment with at least one call."""

    @property
    def idle(self) -> Array:
        """Time of each segment without calls."""
        return self.lengths - self.busy

    def shares(self, weights: Array) -> Array:
        """Return each call's share of weights, of which each segment has one."""
        if (weights == weights[0]).all():
            shares: Array = self.seconds * weights[0]
            return shares
        # Before the first bound and after the last one, all steps are of length 0.
        weighted = self._shared.copy()
        weighted[self._first : self._first + len(self._segments)] *= weights[self._segments]
        return self._differences(weighted)

    @cached_property
    def seconds(self) -> Array:
        """Each call's share of the busy time."""
        return self._differences(self._shared)

    def _differences(self, steps: Array) -> Array:
        integral = _integral(steps)
        differences: Array = integral[self._to] - integral[self._from]
        return differences


def _integral(steps: Array) -> Array:
    """Return the sum of the steps before each one, and the sum of all."""
    return np.concatenate([np.zeros(1, dtype=steps.dtype), steps.cumsum()])
