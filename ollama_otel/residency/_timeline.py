"""The timeline of one server: what is learned of it, one frozen entry after the other.

All times are seconds on one monotonic clock. Entries come in the order in which they are
learned, which is not the order in which things happen on the server: a call reports its load
only when it ends. Named tuples, because calls make them and they are the cheapest to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ollama_otel._wire.load_options import OptionValue
from ollama_otel._wire.model_names import key_of
from ollama_otel._wire.ps import LoadedModel

__all__ = [
    "CallEnded",
    "CallStarted",
    "Entry",
    "Poll",
    "Refused",
    "UnloadRequested",
    "Unreachable",
]


class CallStarted(NamedTuple):
    """A call that needs its model loaded is about to be sent."""

    model: str
    options: Mapping[str, OptionValue]
    """Those that decide how the model is loaded."""
    sent_at: float
    keep_alive: float | None = None
    """Seconds, from the request; None: the request has none."""

    @property
    def key(self) -> str:
        """The model's name, in the one spelling by which it is remembered."""
        return key_of(self.model)


class CallEnded(NamedTuple):
    """A call ended."""

    call: CallStarted
    ended_at: float
    was_served: bool
    """Whether the model answered it."""
    is_cold: bool = False
    """Whether the server had to load the model, or the call waited for that."""
    load_duration: float | None = None
    """Seconds, by the server's clock; None: the server did not say."""
    total_duration: float | None = None
    """Seconds, by the server's clock."""
    delay: float = 0.0
    """Seconds of the call that were neither the server's nor the caller's own: the network."""
    has_begun: bool = False
    """Whether the server began to answer, which it does once the model is loaded."""
    has_crashed: bool = False
    """Whether the model's engine died."""


class Poll(NamedTuple):
    """The server answered `/api/ps`."""

    models: tuple[LoadedModel, ...]
    asked_at: float
    answered_at: float


class UnloadRequested(NamedTuple):
    """A call of this process asked the server to unload a model, or to delete it."""

    model: str


class Unreachable(NamedTuple):
    """The server could not be reached; its models may be loaded still."""

    at: float


class Refused(NamedTuple):
    """Nothing listens at the server's address, so nothing is loaded."""

    at: float


Entry = CallStarted | CallEnded | Poll | UnloadRequested | Unreachable | Refused
