"""Waits in an event loop until a time, more precisely than its timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["wait_until"]

_TIMER: Final = 0.0015
"""Seconds by which a timer of the event loop may be late: it counts in milliseconds."""


async def wait_until(moment: float, clock: Callable[[], float]) -> None:
    """Return when `clock` has reached `moment`, in seconds; immediately if it has passed.

    It sleeps until shortly before that time, and then yields to the loop repeatedly.
    """
    left = moment - clock()
    if left > _TIMER:
        await asyncio.sleep(left - _TIMER)
    while clock() < moment:  # noqa: ASYNC110 - nothing else says that the time has come
        await asyncio.sleep(0)
