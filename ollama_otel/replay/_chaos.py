"""What can go wrong on purpose with played answers, and how it is decided: by a seed alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from ollama_otel.errors import SettingsError

__all__ = ["Chaos", "Trouble"]

_FIRST_ERROR, _LAST_ERROR = 400, 599

# Server 0.33.0's own words.
_RUNNER_ERROR = "an error was encountered while running the model: unexpected EOF"
_WORDS: Mapping[int, str] = {
    401: "unauthorized",
    404: "model '{model}' not found",
    499: "request canceled",
    500: _RUNNER_ERROR,
    503: "server busy, please try again.  maximum pending requests exceeded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """Troubles of a server, as shares of its answers between 0 and 1.

    Raises `SettingsError` for values that cannot be.
    """

    slow: float = 0.0
    """Seconds of waiting before each piece of a body, beyond the recorded ones."""
    fail: Mapping[int, float] = field(default_factory=dict)
    """Shares of requests refused, by HTTP status, in the words that Ollama has for it."""
    cut: float = 0.0
    """Share of streams whose connection breaks off in the midst of them."""
    error: float = 0.0
    """Share of streams that end early with an `{"error": ...}` line."""
    seed: int | None = None
    """The same troubles for the same sequence of requests; None: others each time."""

    def __post_init__(self) -> None:
        if not 0 <= self.slow < float("inf"):
            raise SettingsError(f"slow must be a number of seconds, 0 or more, not {self.slow!r}")
        for name, share in self._shares().items():
            if not 0 <= share <= 1:
                raise SettingsError(f"{name} must be a share between 0 and 1, not {share!r}")
        if sum(self.fail.values()) > 1 or self.cut + self.error > 1:
            raise SettingsError("the shares of fail, and those of cut and error, exceed 1 in all")
        for status in self.fail:
            if not _FIRST_ERROR <= status <= _LAST_ERROR:
                raise SettingsError(f"fail must name HTTP errors, 400 to 599, not {status!r}")

    def _shares(self) -> Mapping[str, float]:
        fail = {f"fail of {status}": share for status, share in self.fail.items()}
        return {"cut": self.cut, "error": self.error, **fail}

    def troubles(self) -> Troubles:
        """Return what draws the trouble of one request after the other."""
        return Troubles(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong with one answer."""

    status: int | None
    """The HTTP status to refuse the request with; None: it is answered."""
    ends_stream: bool
    """Whether a stream is broken off, or ended by an error."""
    is_told: bool
    """Whether an error line says so, rather than the connection breaking off."""
    position: float
    """Where in a stream, as a share of its pieces: 0 up to 1."""

    def refusal(self, model: str | None) -> str:
        """Return the text of a refusal."""
        status = self.status or 0
        known = {each.value: each.phrase.lower() for each in HTTPStatus}
        words = _WORDS.get(status) or known.get(status, f"status {status}")
        return words.format(model=model or "")

    def kept_of(self, count: int) -> int | None:
        """Return how many of a stream's pieces are sent; None for all, and an end."""
        return 1 + int(self.position * (count - 1)) if self.ends_stream and count else None

    @property
    def error(self) -> str:
        """The text of the error line."""
        return _RUNNER_ERROR


class Troubles:
    """Draws troubles; the same number of random values each, so that none depends on another."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._random = random.Random(chaos.seed)  # noqa: S311 - for tests, not for secrets

    def next(self) -> Trouble:
        """Return the trouble of the next request."""
        chaos = self._chaos
        refused, ended, position = (self._random.random() for _ in range(3))
        status = None
        for candidate, share in sorted(chaos.fail.items()):
            if refused < share:
                status = candidate
                break
            refused -= share
        return Trouble(
            status=status,
            ends_stream=ended < chaos.cut + chaos.error,
            is_told=ended >= chaos.cut,
            position=position,
        )
