"""The limiters and breakers of the process, for metrics; weakly referenced."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol

__all__ = ["CircuitState", "LimiterState", "limiter_states", "open_circuits", "register"]

CircuitState = Literal["closed", "open", "half_open"]
"""What a breaker does with the calls to a server.

`closed`: it sends them. `open`: it rejects them. `half_open`: it sends a few, to try the server.
"""


class LimiterState(NamedTuple):
    """The current state of a limiter for one server."""

    active: int
    """Calls that have a slot."""
    waiting: int
    """Calls that wait for a slot."""


class _Watched(Protocol):
    def states(self) -> Mapping[str, LimiterState | CircuitState]: ...


_all: Final[weakref.WeakSet[_Watched]] = weakref.WeakSet()


def register(watched: _Watched) -> None:
    """Include a limiter or a breaker in metrics as long as it lives."""
    _all.add(watched)


def limiter_states() -> Mapping[str, LimiterState]:
    """Return the sums over all limiters, by server: scheme, host and port."""
    sums: dict[str, LimiterState] = {}
    for server, state in _states():
        if isinstance(state, LimiterState):
            active, waiting = sums.get(server, (0, 0))
            sums[server] = LimiterState(active + state.active, waiting + state.waiting)
    return sums


def open_circuits() -> Mapping[str, int]:
    """Return the number of circuits that are not closed, by server."""
    counts: dict[str, int] = {}
    for server, state in _states():
        if isinstance(state, str):
            counts[server] = counts.get(server, 0) + (state != "closed")
    return counts


def _states() -> list[tuple[str, LimiterState | CircuitState]]:
    return [item for each in list(_all) for item in each.states().items()]
