"""`Resilience`: combines retries, a limiter, a breaker, fallbacks and a deadline."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ollama_otel._resilience.breaker import Breaker
from ollama_otel._resilience.checks import expect
from ollama_otel._resilience.limiter import Limiter
from ollama_otel._resilience.retries import Retries
from ollama_otel._wire.address import parse_host
from ollama_otel.errors import SettingsError

__all__ = ["Fallback", "Resilience", "disabled", "is_disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Alternative destination of a failed call: another server, another model, or both.

    Raises `SettingsError` without either, and for a malformed address.
    """

    host: str | None = None
    """Address of the server, as in `OLLAMA_HOST`; None: the same server."""
    model: str | None = None
    """Model that is requested instead; None: the same model."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers for the other server, which does not get the caller's `Authorization` and
    `Cookie`.
    """

    def __post_init__(self) -> None:
        expect("fallback", self, bool(self.host or self.model), "one with a host or a model")
        if self.host is not None:
            try:
                parse_host(self.host)
            except ValueError as error:
                raise SettingsError(f"the host of a fallback: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resilience:
    """Policy for the attempts of a call; each part is optional.

    Clients with the same limiter or breaker object share it.
    """

    retries: Retries | None = None
    limiter: Limiter | None = None
    breaker: Breaker | None = None
    fallback: Sequence[Fallback] = ()
    """Tried in this order when all attempts of the previous target failed with an error that
    another server or model may not have.
    """
    deadline: float | None = None
    """Seconds for everything: waits, attempts, and the body up to its end."""

    def __post_init__(self) -> None:
        deadline = self.deadline
        # No clock, lock or socket waits longer than this.
        is_known = deadline is None or 0 < deadline <= threading.TIMEOUT_MAX
        expect("deadline", deadline, is_known, "seconds above 0, or None: no deadline")


_lock: Final = threading.Lock()
_disabled = 0


def is_disabled() -> bool:
    """Whether `disabled` is in effect."""
    return _disabled > 0


@contextmanager
def disabled() -> Iterator[None]:
    """Disable resilience inside the block, in the whole process: for tests.

    Each call is sent once, without waits.
    """
    global _disabled  # noqa: PLW0603 - a switch of the process
    with _lock:
        _disabled += 1
    try:
        yield
    finally:
        with _lock:
            _disabled -= 1
