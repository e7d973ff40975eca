"""Retries, a limiter, a circuit breaker and fallbacks for the calls of a client."""

from __future__ import annotations

from ollama_otel._resilience.breaker import Breaker
from ollama_otel._resilience.limiter import Limiter, LimiterKey, WaitingCall
from ollama_otel._resilience.policy import Fallback, Resilience, disabled
from ollama_otel._resilience.registry import CircuitState, LimiterState
from ollama_otel._resilience.rejections import (
    CircuitOpenError,
    DeadlineError,
    QueueFullError,
    QueueTimeoutError,
)
from ollama_otel._resilience.retries import Retries
from ollama_otel._resilient_transport import (
    AsyncResilientTransport,
    ResilientTransport,
    make_resilient,
)
from ollama_otel.errors import CallRejectedError

__all__ = [
    "AsyncResilientTransport",
    "Breaker",
    "CallRejectedError",
    "CircuitOpenError",
    "CircuitState",
    "DeadlineError",
    "Fallback",
    "Limiter",
    "LimiterKey",
    "LimiterState",
    "QueueFullError",
    "QueueTimeoutError",
    "Resilience",
    "ResilientTransport",
    "Retries",
    "WaitingCall",
    "disabled",
    "make_resilient",
]
