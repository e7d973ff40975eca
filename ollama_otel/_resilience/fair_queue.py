"""The order of waiting calls: fair by recent use of each key, with ageing; O(log n) per change.

It is start-time fair queueing (Goyal, Vin and Cheng, 1996). Each call gets a tag when it arrives:
the use that its key would have reached by then, in seconds of slots. The lowest tag is next, and
the tag of the last served call is the virtual time, at which a key without recent use begins. Use
above it is halved each `half_life` seconds. `ageing` adds to each tag the time of its arrival, so
that only a limited number of later calls can be served before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final

__all__ = ["FairQueue", "Ticket"]

_FEW_KEYS: Final = 1024
_NEGLIGIBLE: Final = 0.01
"""Share of one call's cost; a key with less use than that is forgotten."""


class Ticket:
    """One call in the queue, or one that was served."""

    __slots__ = ("arrived_at", "cost", "is_queued", "key", "start", "tag")

    def __init__(self, key: str, arrived_at: float, start: float, cost: float, tag: float) -> None:
        self.key: str = key
        self.arrived_at: float = arrived_at
        self.start: float = start
        self.cost: float = cost
        """Seconds of a slot that it was expected to use."""
        self.tag: float = tag
        self.is_queued: bool = False


class _Use:
    """The recent use of one key."""

    __slots__ = ("at", "last_start", "queued", "reached")

    def __init__(self) -> None:
        self.reached = 0.0
        """The virtual time up to which it has used slots."""
        self.at = 0.0
        """When that was set."""
        self.queued = 0
        self.last_start = 0.0
        """Start of the newest call, so that calls of one key are served in their order."""


class FairQueue:
    """The queue of one limiter; it reads no clock."""

    def __init__(self, *, ageing: float, half_life: float) -> None:
        self._ageing = ageing
        self._half_life = half_life
        self._virtual = 0.0
        self._uses: dict[str, _Use] = {}
        self._most_keys = _FEW_KEYS
        self._first: list[tuple[float, int, Ticket]] = []
        self._last: list[tuple[float, int, Ticket]] = []
        self._count = 0
        self._number = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        """Iterate over the queued tickets in the order of service, in O(n log n)."""
        return (ticket for _, _, ticket in sorted(self._first) if ticket.is_queued)

    def ticket(self, key: str, cost: float, now: float) -> Ticket:
        """Charge a call to its key, and return its ticket, which is not queued yet."""
        use = self._uses.get(key)
        if use is None:
            if len(self._uses) >= self._most_keys:
                self._forget_keys(cost, now)
            use = self._uses[key] = _Use()
        start = self._virtual + self._lead(use, now)
        if use.queued:
            start = max(start, use.last_start)
        use.reached, use.at, use.last_start = start + cost, now, start
        return Ticket(key, now, start, cost, start + self._ageing * now)

    def push(self, ticket: Ticket) -> None:
        """Queue a ticket."""
        self._number += 1
        ticket.is_queued = True
        self._uses[ticket.key].queued += 1
        self._count += 1
        heappush(self._first, (ticket.tag, self._number, ticket))
        heappush(self._last, (-ticket.tag, -self._number, ticket))

    def first(self) -> Ticket | None:
        """Return the ticket that is next."""
        return self._top(self._first)

    def last(self) -> Ticket | None:
        """Return the ticket that would be served after all others."""
        return self._top(self._last)

    def remove(self, ticket: Ticket) -> None:
        """Take a queued ticket out, wherever it is."""
        ticket.is_queued = False
        self._uses[ticket.key].queued -= 1
        self._count -= 1
        # Removed tickets stay in the heaps until they come to the top, but not too many.
        if len(self._first) > 2 * self._count + 64:
            self._first = [entry for entry in self._first if entry[2].is_queued]
            heapify(self._first)
        if len(self._last) > 2 * self._count + 64:
            self._last = [entry for entry in self._last if entry[2].is_queued]
            heapify(self._last)

    def serve(self, ticket: Ticket) -> None:
        """Move the virtual time on to a ticket that gets a slot."""
        self._virtual = max(self._virtual, ticket.start)

    def correct(self, ticket: Ticket, used: float, now: float) -> None:
        """Correct the key's use to the real use of the call, in seconds; 0 if it was not served."""
        use = self._uses.get(ticket.key)
        if use is not None:
            lead = self._lead(use, now) + used - ticket.cost
            use.reached, use.at = self._virtual + max(0.0, lead), now

    def _lead(self, use: _Use, now: float) -> float:
        """Return how much more a key has used than the virtual time, in seconds."""
        lead = max(0.0, use.reached - self._virtual)
        return lead if use.queued else lead * 0.5 ** ((now - use.at) / self._half_life)

    def _forget_keys(self, cost: float, now: float) -> None:
        least = cost * _NEGLIGIBLE
        self._uses = {
            key: use
            for key, use in self._uses.items()
            if use.queued or self._lead(use, now) > least
        }
        self._most_keys = max(_FEW_KEYS, 2 * len(self._uses))

    def _top(self, heap: list[tuple[float, int, Ticket]]) -> Ticket | None:
        while heap:
            ticket = heap[0][2]
            if ticket.is_queued:
                return ticket
            heappop(heap)
        return None
