"""Decides which attempts are repeated, and after what time; no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ollama_otel._resilience.checks import expect
from ollama_otel.records import Endpoint, ErrorType

__all__ = ["BROKEN", "MAY_FALL_BACK", "Retries", "is_repeatable", "seconds_of"]

BROKEN: Final[frozenset[ErrorType]] = frozenset(
    {
        *("connect", "timeout", "network", "incomplete"),
        *("server_busy", "runner_crashed", "load_failed", "upstream", "server_error"),
    }
)
"""Errors of a connection or a server that may be temporary."""

MAY_FALL_BACK: Final[frozenset[ErrorType]] = BROKEN | {
    *("out_of_memory", "rate_limited", "model_not_found"),
}
"""Errors that another server or another model may not have."""

_NOT_EXECUTED: Final[frozenset[ErrorType]] = frozenset({"connect", "server_busy", "rate_limited"})
"""Errors before the server has started to work, so that even a deletion can be repeated."""


class Retries:
    """Repeats attempts that failed before the first byte of a good response.

    That is: no connection, a connection that broke or a time limit that ran out before the head
    of the response, or status 429, 500, 502, 503, 504 or 529 with an error that may pass. A
    request whose body is a stream is never repeated, and one that changes something in the server
    (pull, create, delete) only if the server has not begun to work on it.
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        first_wait: float = 0.5,
        longest_wait: float = 30.0,
        longest_retry_after: float = 60.0,
        error_types: Collection[ErrorType] = BROKEN | {"rate_limited"},
        wait: Callable[[Any], float] | None = None,
    ) -> None:
        """Make up to `attempts` attempts, the first one included.

        The wait before attempt n + 1 is random between 0 and `first_wait * 2 ** (n - 1)` seconds,
        at most `longest_wait`: exponential backoff with full jitter, by tenacity. `wait` is
        another strategy of tenacity. A server's `Retry-After` is obeyed; if it exceeds
        `longest_retry_after` seconds, there is no further attempt. Raises `SettingsError` for
        values that make no sense.
        """
        expect("attempts", attempts, attempts >= 1, "at least 1")
        expect("first_wait", first_wait, first_wait >= 0, "seconds, 0 or more")
        expect("longest_wait", longest_wait, longest_wait >= 0, "seconds, 0 or more")
        expect(
            "longest_retry_after",
            longest_retry_after,
            longest_retry_after >= 0,
            "seconds, 0 or more",
        )
        # Imported on use: it costs 20 ms, and most programs do not need it.
        from tenacity import RetryCallState  # noqa: PLC0415
        from tenacity.wait import wait_random_exponential  # noqa: PLC0415

        self._state: Any = RetryCallState
        self._wait: Any = wait or wait_random_exponential(multiplier=first_wait, max=longest_wait)
        self._longest_retry_after = longest_retry_after
        self._error_types = frozenset(error_types)
        self.attempts: int = attempts
        """Number of attempts at most, the first one included."""

    def wait_after(
        self, attempt: int, error_type: ErrorType, retry_after: float | None
    ) -> float | None:
        """Return the seconds to wait after a failed attempt, counted from 1; None: give up.

        Raises the strategy's exceptions, and ValueError if it does not return a finite number.
        """
        if attempt >= self.attempts or error_type not in self._error_types:
            return None
        if retry_after is not None and retry_after > self._longest_retry_after:
            return None
        state = self._state(retry_object=None, fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        wait = float(self._wait(state))
        if not math.isfinite(wait):
            raise ValueError(f"the strategy for waits returned {wait}")
        return max(wait, retry_after or 0.0)


def is_repeatable(endpoint: Endpoint, error_type: ErrorType) -> bool:
    """Whether a call may be sent again after this error without being executed twice."""
    changes_nothing = endpoint.method in {"GET", "HEAD"} or endpoint.moves_model
    return changes_nothing or endpoint.name == "show_model" or error_type in _NOT_EXECUTED


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """Return the seconds in a `Retry-After` header: a number, or a date; None if it has neither.

    `now` is the wall clock, in seconds since the epoch.
    """
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now, tz=UTC)).total_seconds())
