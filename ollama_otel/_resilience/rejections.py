"""Errors for calls that are not sent. They derive from httpx errors, which SDKs handle."""

from __future__ import annotations

import httpx

from ollama_otel.errors import CallRejectedError
from ollama_otel.records import Rejection

__all__ = [
    "CircuitOpenError",
    "DeadlineError",
    "QueueFullError",
    "QueueTimeoutError",
    "rejection_of",
]


class QueueFullError(CallRejectedError, httpx.TransportError):
    """The limiter's queue has no place for the call."""


class QueueTimeoutError(CallRejectedError, httpx.TimeoutException):
    """The call has waited too long in the limiter's queue."""


class CircuitOpenError(CallRejectedError, httpx.TransportError):
    """Too many calls to the server have failed, so no calls are sent to it for a time."""


class DeadlineError(CallRejectedError, httpx.TimeoutException):
    """The time for the call had run out before it was sent."""


_NAMES: dict[type[CallRejectedError], Rejection] = {
    QueueFullError: "queue_full",
    QueueTimeoutError: "queue_timeout",
    CircuitOpenError: "circuit_open",
    DeadlineError: "deadline",
}


def rejection_of(error: BaseException) -> Rejection | None:
    """Return the name of a rejection; None for any other error."""
    return next((name for kind, name in _NAMES.items() if isinstance(error, kind)), None)
