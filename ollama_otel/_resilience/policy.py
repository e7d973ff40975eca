"""What a user composes: retries, a limiter, a breaker, fallbacks and a deadline."""

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
    """Where a call goes if it fails: another server, another model, or both.

    Raises `SettingsError` without either, and for a malformed address.
    """

    host: str | None = None
    """Address of the server, as in `OLLAMA_HOST`; None: the same server."""
    model: str | None = None
    """Model that is requested instead; None: the same model."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers for another server. It does not get `Authorization` and `Cookie` of the first."""

    def __post_init__(self) -> None:
        expect("fallback", self, bool(self.host or self.model), "one with a host or a model")
        if self.host is not None:
            try:
                parse_host(self.host)
            except ValueError as error:
                raise SettingsError(f"the host of a fallback: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resilience:
    """What happens around the attempts of one call; each part can be left out.

    Limiters and breakers are shared by all clients that have the same object.
    """

    retries: Retries | None = None
    limiter: Limiter | None = None
    breaker: Breaker | None = None
    fallback: Sequence[Fallback] = ()
    """Tried in this order after the last attempt of the one before, if it failed with an error
    that another server or model may not have.
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
    """Send every call once and at once inside the block, in the whole process: for tests."""
    global _disabled  # noqa: PLW0603 - a switch of the process
    with _lock:
        _disabled += 1
    try:
        yield
    finally:
        with _lock:
            _disabled -= 1
