"""The limits of one server as a state machine: slots, rates and a bounded fair queue.

It has neither a clock nor a lock: times are arguments, and the caller has exclusive access.
`changed` has the other calls that are affected; the caller has to notify them.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from ollama_otel._resilience.fair_queue import FairQueue, Ticket
from ollama_otel._resilience.window import Window

__all__ = ["Call", "CallState", "Limits", "Slots"]

CallState = Literal["waiting", "granted", "queue_full", "queue_timeout", "left", "released"]
"""`queue_full` and `queue_timeout`: the call got no slot. `left`: it no longer waits."""

_EXPECTED: Final = 1.0
"""Seconds of a slot that the first call is expected to use."""
_NEW_SHARE: Final = 0.2
"""Weight of the newest call in the mean of all."""


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of a limiter, for each server; None: no limit."""

    concurrency: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_waiting: int
    max_wait: float
    ageing: float
    memory: float


class Call:
    """One call that wants a slot, or has one."""

    __slots__ = ("due_at", "entered_at", "granted_at", "look_at", "state", "ticket")

    def __init__(self, ticket: Ticket, due_at: float) -> None:
        self.ticket: Ticket = ticket
        self.state: CallState = "waiting"
        self.entered_at: float = ticket.arrived_at
        self.due_at: float = due_at
        """When it gives up."""
        self.granted_at: float | None = None
        self.look_at: float | None = None
        """When it has to call `look`, as a rate allows the next call then, and it is next."""


class Slots:
    """The slots of one server, and the calls that wait for them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue = FairQueue(ageing=limits.ageing, half_life=limits.memory)
        self._calls: dict[Ticket, Call] = {}
        self._requests = _window(limits.requests_per_minute)
        self._tokens = _window(limits.tokens_per_minute)
        self._mean = _EXPECTED
        self.active: int = 0
        """Calls that have a slot."""
        self.changed: list[Call] = []
        """Calls whose state or `look_at` was changed by an event of another call."""

    @property
    def waiting(self) -> int:
        """Number of waiting calls."""
        return len(self._queue)

    @property
    def has_rate(self) -> bool:
        """Whether time alone may allow the next call."""
        return not (self._requests is None and self._tokens is None)

    def queued(self) -> list[Call]:
        """Return the waiting calls, the next one first; in O(n log n)."""
        return [self._calls[ticket] for ticket in self._queue]

    # --- events ---------------------------------------------------------------------------

    def enter(self, key: str, now: float, max_wait: float) -> Call:
        """Add a call, which waits at most `max_wait` seconds."""
        call = Call(self._queue.ticket(key, self._mean, now), now + max_wait)
        if self._queue.first() is None and self._free_at(now) == now:
            self._grant(call, now)
        elif self._has_place_for(call, now):
            self._calls[call.ticket] = call
            self._queue.push(call.ticket)
            self._move_on(now, but=call)
        else:
            self._reject(call, now)
        return call

    def look(self, now: float) -> None:
        """Check whether rates allow more calls now."""
        self._move_on(now)

    def leave(self, call: Call, now: float, state: CallState = "left") -> None:
        """Remove a call that gives up or was cancelled; releases its slot if it has one."""
        if call.state == "granted":
            self.release(call, now)
        elif call.state == "waiting":
            self._take_out(call)
            call.state = state
            self._queue.correct(call.ticket, 0.0, now)
            self._move_on(now)

    def release(self, call: Call, now: float) -> None:
        """Release the slot of a call that has ended, once."""
        if call.state != "granted" or call.granted_at is None:
            return
        call.state = "released"
        self.active -= 1
        used = now - call.granted_at
        self._mean += _NEW_SHARE * (used - self._mean)
        self._queue.correct(call.ticket, used, now)
        self._move_on(now)

    def settle(self, tokens: int, now: float) -> None:
        """Add the tokens that the server reported for a call."""
        if self._tokens is not None and tokens > 0:
            self._tokens.add(tokens, now)

    # --- decisions ------------------------------------------------------------------------

    def _free_at(self, now: float) -> float | None:
        """Return when the next call may be sent; None: when one that is active has ended."""
        most = self._limits.concurrency
        if most is not None and self.active >= most:
            return None
        at = now
        for window in (self._requests, self._tokens):
            if window is not None:
                at = max(at, window.free_at(now))
        return at

    def _has_place_for(self, call: Call, now: float) -> bool:
        """Whether the queue accepts the call: a key with many calls does not block others."""
        if len(self._queue) < self._limits.max_waiting:
            return True
        last = self._queue.last()
        if last is None or last.tag <= call.ticket.tag:
            return False
        loser = self._calls[last]
        self._take_out(loser)
        self._reject(loser, now)
        self.changed.append(loser)
        return True

    def _reject(self, call: Call, now: float) -> None:
        call.state = "queue_full"
        self._queue.correct(call.ticket, 0.0, now)

    def _move_on(self, now: float, *, but: Call | None = None) -> None:
        """Assign free slots, and schedule the next check of the first waiting call."""
        while (ticket := self._queue.first()) is not None:
            call = self._calls[ticket]
            at = self._free_at(now)
            if at == now:
                self._take_out(call)
                self._grant(call, now)
            elif at == call.look_at:
                return
            else:
                call.look_at = at
            if call is not but:
                self.changed.append(call)
            if call.state == "waiting":
                return

    def _take_out(self, call: Call) -> None:
        self._queue.remove(call.ticket)
        del self._calls[call.ticket]

    def _grant(self, call: Call, now: float) -> None:
        call.state = "granted"
        call.granted_at = now
        self.active += 1
        self._queue.serve(call.ticket)
        if self._requests is not None:
            self._requests.add(1, now)


def _window(limit: int | None) -> Window | None:
    return None if limit is None else Window(limit)
