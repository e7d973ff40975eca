"""Faults injected into played responses, determined by a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from ollama_otel._wire.dialect import Dialect
from ollama_otel.errors import SettingsError

__all__ = ["Chaos", "FaultSequence", "InjectedFault"]

_FIRST_ERROR, _LAST_ERROR = 400, 599
_RUNNER_FAILED = 500
"""The status whose text is used for an error in a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """Faults to inject, as shares of the responses between 0 and 1.

    Raises `SettingsError` for values out of range.
    """

    slow: float = 0.0
    """Seconds to wait before each piece of a body, beyond the recorded ones."""
    fail: Mapping[int, float] = field(default_factory=dict)
    """Shares of requests to refuse, by HTTP status, with the server's own text for it."""
    cut: float = 0.0
    """Share of streams whose connection is closed in the middle."""
    error: float = 0.0
    """Share of streams that end early with an error message."""
    seed: int | None = None
    """The same seed gives the same faults for the same requests; None: different ones each time."""

    def __post_init__(self) -> None:
        if not 0 <= self.slow < float("inf"):
            raise SettingsError(f"slow must be a number of seconds, 0 or more, not {self.slow!r}")
        for name, share in self._shares().items():
            if not 0 <= share <= 1:
                raise SettingsError(f"{name} must be a share between 0 and 1, not {share!r}")
        if sum(self.fail.values()) > 1 or self.cut + self.error > 1:
            raise SettingsError("the shares of fail, or of cut and error, exceed 1 in total")
        for status in self.fail:
            if not _FIRST_ERROR <= status <= _LAST_ERROR:
                raise SettingsError(f"fail must name HTTP errors, 400 to 599, not {status!r}")

    def _shares(self) -> Mapping[str, float]:
        fail = {f"fail of {status}": share for status, share in self.fail.items()}
        return {"cut": self.cut, "error": self.error, **fail}


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """The fault of one response."""

    status: int | None
    """The HTTP status to refuse the request with; None: it is not refused."""
    ends_stream: bool
    """Whether a stream ends early."""
    has_error: bool
    """Whether it ends with an error message; otherwise the connection is closed."""
    position: float
    """The position of the end in a stream, as a share of its pieces: 0 up to 1."""

    def refusal(self, dialect: Dialect, model: str | None) -> str:
        return _text(dialect, self.status or 0, model)

    def error_message(self, dialect: Dialect, model: str | None) -> bytes:
        """Return the error as the last message of a stream."""
        return dialect.error_message(_text(dialect, _RUNNER_FAILED, model))

    def kept_of(self, count: int) -> int | None:
        """Return how many of a stream's pieces are sent; None: all of them, and its end."""
        return 1 + int(self.position * (count - 1)) if self.ends_stream and count else None


def _text(dialect: Dialect, status: int, model: str | None) -> str:
    known = {each.value: each.phrase.lower() for each in HTTPStatus}
    return dialect.refusal(status, model) or known.get(status, f"status {status}")


class FaultSequence:
    """Draws one fault for each request.

    Each takes the same number of random values, so that no fault depends on another.
    """

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._random = random.Random(chaos.seed)  # noqa: S311 - for tests, not for secrets

    def next(self) -> InjectedFault:
        chaos = self._chaos
        refused, ended, position = (self._random.random() for _ in range(3))
        status = None
        for candidate, share in sorted(chaos.fail.items()):
            if refused < share:
                status = candidate
                break
            refused -= share
        return InjectedFault(
            status=status,
            ends_stream=ended < chaos.cut + chaos.error,
            has_error=ended >= chaos.cut,
            position=position,
        )
