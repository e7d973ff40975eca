"""Decides from polls and calls whether one server can be reached.

A call may use a route that polls do not have: a proxy of the client, a Unix socket, a client
certificate. So a failed poll does not prove that the server is down. Polls cannot use the call's
own transport: they would take connections from its pool, an async transport belongs to another
thread's event loop, and a custom transport may do anything with a request.
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["PollResult", "Reach"]

PollResult = Literal["reached", "refused", "lost", "impossible"]
"""`refused`: nothing listens at the address; `lost`: the connection failed otherwise, or broke;
`impossible`: this process cannot send the poll.
"""


class Reach:
    """The evidence of polls and calls about one server; times are of one monotonic clock.

    Calls write single attributes without a lock: that is atomic, and the latest one counts.
    """

    def __init__(self) -> None:
        self.poll: PollResult | None = None
        """The latest poll; None: there was none yet."""
        self._polled_at = self._previous_poll_at = -math.inf
        self._was_polled = False
        self._answered_at = self._missed_at = -math.inf

    @property
    def is_by_calls_only(self) -> bool:
        """Whether calls have reached the server, and polls never have."""
        return self._answered_at > -math.inf and not self._was_polled

    def polled(self, result: PollResult, sent_at: float) -> None:
        """Note a poll."""
        self._previous_poll_at, self._polled_at = self._polled_at, sent_at
        self.poll = result
        self._was_polled = self._was_polled or result == "reached"

    def answered(self, at: float) -> None:
        """Note that the server answered a call at this time, or later."""
        self._answered_at = max(self._answered_at, at)

    def missed(self, at: float) -> None:
        """Note that a call could not connect, or that its connection broke."""
        self._missed_at = max(self._missed_at, at)

    def _since(self, horizon: float) -> float:
        """Return the time after which an answer proves that the server is up."""
        if not self._was_polled:
            return horizon
        # If polls worked before, a refused poll overrides an earlier answer. Another failure may be
        # due to load, and the next poll will show it.
        return self._polled_at if self.poll == "refused" else self._previous_poll_at

    def is_up(self, now: float, *, lasts: float, is_awaited: bool) -> bool | None:
        """Return whether the server can be reached; None: unknown.

        `lasts` is the time in seconds for which an answer proves it, if polls never reached the
        server; `is_awaited` says whether calls wait for an answer.
        """
        if self.poll == "reached":
            return True
        since = self._since(now - lasts)
        if self._answered_at > self._missed_at and self._answered_at >= since:
            return True
        if self.poll not in {"refused", "lost"}:
            return None
        # Calls reach a server that polls never have reached, so they use another route.
        is_by_other_route = not self._was_polled and (self.is_by_calls_only or is_awaited)
        return None if is_by_other_route else False
