"""Whether one server can be reached: the evidence of polls and of calls.

A call may use a route that a poll does not have: a proxy of the client, a Unix socket, a client
certificate. So a poll that fails does not prove that the server is down. Polls cannot use the
call's own transport: they would take connections from its pool, an async one belongs to another
thread's event loop, and one of the user's may do anything with a request.
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["PollResult", "Reach"]

PollResult = Literal["reached", "refused", "lost", "impossible"]
"""`refused`: nothing listens at the address; `lost`: the connection failed otherwise, or broke;
`impossible`: this process cannot send the poll."""


class Reach:
    """What polls and calls have shown about one server; times are of one monotonic clock.

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
        """Return from when on an answer proves that the server is up."""
        if not self._was_polled:
            return horizon
        # Where polls worked before, a refused one is a later proof than the answer before it. One
        # that failed otherwise may be a server under load: the next one soon tells.
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
        # Calls that reach a server which polls never have use another route.
        is_by_other_route = not self._was_polled and (self.is_by_calls_only or is_awaited)
        return None if is_by_other_route else False
