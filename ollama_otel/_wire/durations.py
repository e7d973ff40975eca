"""Parses durations in Go's format ("1h30m", "250ms"), the format of `keep_alive`."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Final

__all__ = ["read_keep_alive"]

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


@lru_cache(maxsize=32)
def read_keep_alive(text: str | None) -> float | None:
    """Return a request's `keep_alive` in seconds; infinite if negative, as for the server.

    The text is a number of seconds or a Go duration. None if it is neither.
    """
    if text is None:
        return None
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        try:
            seconds = float(text)
        except ValueError:
            return None
    if math.isnan(seconds):
        return None
    return math.inf if sign < 0 and seconds > 0 else seconds
