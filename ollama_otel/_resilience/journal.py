"""Records the attempts of a call: events on its span, and a section of its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ollama_otel import _names as names
from ollama_otel._resilience.target import Target
from ollama_otel.records import CallRecord, CallResilience, ErrorType, Rejection

__all__ = ["Journal", "Reporter"]


class Reporter(Protocol):
    """Records the call: an exchange."""

    def note(self, event: str, attributes: Mapping[str, str | int | float]) -> None:
        """Add an event to the call's span."""
        ...

    def add_section(self, section: Callable[[CallRecord], CallResilience]) -> None:
        """Add a section to the call's record when it ends."""
        ...


class Journal:
    """Collects events; without a reporter they are not recorded."""

    def __init__(
        self, reporter: Reporter | None, settle: Callable[[str, CallRecord], None] | None
    ) -> None:
        self._reporter = reporter
        self._settle = settle
        self._began = time.monotonic()
        self._delay: float | None = None
        self._attempts = 0
        self._failed: ErrorType | None = None
        self._retried: list[ErrorType] = []
        self._limiter_wait: float | None = None
        self._backoff: float | None = None
        self._rejection: Rejection | None = None
        self._target: Target | None = None
        if reporter is not None:
            reporter.add_section(self._section)

    def has_waited(self, seconds: float) -> None:
        """Note that the call has left the queue of the limiter."""
        self._limiter_wait = (self._limiter_wait or 0.0) + seconds
        if seconds:
            self._note(names.LIMITER_EVENT, {names.LIMITER_WAIT: seconds})

    def is_sent(self, target: Target) -> None:
        """Note the start of an attempt."""
        self._attempts += 1
        self._delay = time.monotonic() - self._began
        self._target = target
        if self._failed is not None:
            self._retried.append(self._failed)
            self._failed = None

    def is_retried(self, error_type: ErrorType, wait: float) -> None:
        """Note a failed attempt that another one follows, after a wait in seconds."""
        self._failed = error_type
        self._backoff = (self._backoff or 0.0) + wait
        self._note(
            names.RETRY_EVENT,
            {
                names.ERROR_TYPE: error_type,
                names.ATTEMPTS: self._attempts,
                names.BACKOFF: wait,
            },
        )

    def falls_back(self, error_type: ErrorType, target: Target) -> None:
        """Note that a fallback gets the call, as the last attempt failed or was rejected."""
        self._failed = error_type if self._attempts else None
        attributes: dict[str, str | int | float] = {names.ERROR_TYPE: error_type}
        if target.host is not None:
            attributes |= {names.SERVER_ADDRESS: target.host, names.SERVER_PORT: target.port}
        if target.model is not None:
            attributes[names.FALLBACK_MODEL] = target.model
        self._note(names.FALLBACK_EVENT, attributes)

    def is_rejected(self, rejection: Rejection) -> None:
        """Note that an attempt was not sent."""
        self._note(names.REJECTION_EVENT, {names.REJECTION: rejection})

    def ends(self, target: Target, rejection: Rejection | None) -> None:
        """Note the end: the caller gets the result of this target, or the rejection."""
        self._target = target
        self._rejection = rejection
        if rejection is not None:
            self._delay = time.monotonic() - self._began

    def _note(self, event: str, attributes: Mapping[str, str | int | float]) -> None:
        if self._reporter is not None:
            self._reporter.note(event, attributes)

    def _section(self, record: CallRecord) -> CallResilience:
        target = self._target
        if self._settle is not None and target is not None:
            self._settle(target.server, record)
        is_elsewhere = self._attempts > 0 and target is not None and target.host is not None
        return CallResilience(
            attempts=self._attempts,
            delay=self._delay,
            retried=tuple(self._retried),
            limiter_wait=self._limiter_wait,
            backoff=self._backoff,
            rejection=self._rejection,
            server_address=target.host if target is not None and is_elsewhere else None,
            server_port=target.port if target is not None and is_elsewhere else None,
            model=target.model if target is not None and self._attempts else None,
        )
