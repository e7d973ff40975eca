"""Power of a machine: its measured energy, or else the watts of the price file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ollama_otel.errors import PriceError

__all__ = ["Measured", "measured_from", "read_measured"]

_LONGEST_GAP: Final = 60.0
"""Longest interval between two readings of power, seconds; in longer ones it may have changed."""
_COLUMNS: Final = frozenset({"time", "joules", "watts", "models_loaded"})


class Reading(NamedTuple):
    """One row of a file with measurements."""

    time: float
    """Seconds since the epoch."""
    joules: float | None
    """An energy counter, which may restart."""
    watts: float | None
    models_loaded: float | None


class Measured(NamedTuple):
    """The measured energy of a machine."""

    starts: npt.NDArray[np.float64]
    """Seconds since the epoch at which each measured interval starts."""
    ends: npt.NDArray[np.float64]
    joules: npt.NDArray[np.float64]
    """Energy of each interval."""
    idle_watts: float | None
    """Mean power while no model was loaded; None if that was not measured."""

    def inside(self, start: float, end: float) -> float:
        """Return the number of measured seconds in a period."""
        lengths = np.clip(self.ends, start, end) - np.clip(self.starts, start, end)
        return float(lengths.sum())


def read_measured(path: str | os.PathLike[str]) -> Measured:
    """Read a CSV file with columns `time`, `joules` or `watts`, and perhaps `models_loaded`.

    `time` is in seconds since the epoch, or a date and time by ISO 8601, UTC if it has no offset.
    `joules` is an energy counter; with both, it is used where it can be.

    Raises `PriceError` if the file cannot be read, with the line and what was expected.
    """
    name = os.fspath(path)
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return measured_from(list(_readings(csv.DictReader(file), name)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PriceError(f"the measurements {name} cannot be read: {error}") from None


def measured_from(readings: list[Reading]) -> Measured:
    """Return the intervals between consecutive readings whose energy is known."""
    starts, ends, joules, idle = [], [], [], []
    for before, after in pairwise(sorted(readings)):
        energy = _energy(before, after)
        if energy is None:
            continue
        starts.append(before.time)
        ends.append(after.time)
        joules.append(energy)
        if before.models_loaded == 0 and after.models_loaded == 0:
            idle.append((energy, after.time - before.time))
    idle_time = sum(length for _, length in idle)
    return Measured(
        starts=np.array(starts, dtype=float),
        ends=np.array(ends, dtype=float),
        joules=np.array(joules, dtype=float),
        idle_watts=sum(energy for energy, _ in idle) / idle_time if idle_time else None,
    )


def _energy(before: Reading, after: Reading) -> float | None:
    """Return the joules between two readings: by the counter, or by power and time."""
    length = after.time - before.time
    if length <= 0:
        return None
    if before.joules is not None and after.joules is not None and after.joules >= before.joules:
        return after.joules - before.joules
    if before.watts is None or after.watts is None or length > _LONGEST_GAP:
        return None
    return (before.watts + after.watts) / 2 * length


def _readings(rows: csv.DictReader[str], name: str) -> Iterator[Reading]:
    columns = set(rows.fieldnames or ())
    if "time" not in columns or not columns & {"joules", "watts"} or not columns <= _COLUMNS:
        expected = "a header with time, joules or watts, and perhaps models_loaded"
        raise PriceError(f"{name}:1: expected {expected}, found {', '.join(sorted(columns))!r}")
    for row in rows:
        place = f"{name}:{rows.line_num}"
        yield Reading(
            time=_time(row["time"], place),
            joules=_number(row, "joules", place),
            watts=_number(row, "watts", place),
            models_loaded=_number(row, "models_loaded", place),
        )


def _time(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "seconds since the epoch or a date and time"
        raise PriceError(f"{place}: time: expected {expected}, found {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(row: dict[str, str], column: str, place: str) -> float | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise PriceError(f"{place}: {column}: expected a number of at least 0, found {text!r}")
    return value
