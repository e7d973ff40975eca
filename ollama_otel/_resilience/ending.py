"""The end of an attempt: releases its slot and reports the result to its circuit."""

from __future__ import annotations

import time

import httpx

from ollama_otel._resilience.breaker import Trip
from ollama_otel._resilience.limiter import Place

__all__ = ["Ending"]


class Ending:
    """The end of one attempt; only the first counts."""

    __slots__ = ("_due_at", "_place", "_trip", "has_failed")

    def __init__(self, place: Place | None, trip: Trip | None, due_at: float | None) -> None:
        self._place = place
        self._trip = trip
        self._due_at = due_at
        self.has_failed = False
        """The result so far."""

    @property
    def is_needed(self) -> bool:
        """Whether there is a slot, a circuit or a deadline."""
        return not (self._place is None and self._trip is None and self._due_at is None)

    def end(self, *, has_failed: bool | None) -> None:
        """End the attempt; None if the result says nothing about the server."""
        place, self._place = self._place, None
        trip, self._trip = self._trip, None
        if trip is not None:
            trip.end(has_failed=has_failed)
        if place is not None:
            place.leave()

    def check_deadline(self) -> None:
        """Raise `httpx.ReadTimeout` if the time for the call has run out."""
        if self._due_at is not None and time.monotonic() > self._due_at:
            raise httpx.ReadTimeout("the deadline of the call has passed while its body was read")
