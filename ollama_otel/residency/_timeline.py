"""The timeline of one server: frozen entries of calls and polls.

All times are seconds of one monotonic clock. Entries are in the order of observation, not in
the order of events on the server: a call reports its load only at its end. Named tuples, because
calls create them and they are the fastest to create.
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
    """The load options."""
    sent_at: float
    keep_alive: float | None = None
    """Seconds; None: the request has none."""

    @property
    def key(self) -> str:
        """The normalised name of the model."""
        return key_of(self.model)


class CallEnded(NamedTuple):
    """A call ended."""

    call: CallStarted
    ended_at: float
    was_served: bool
    """Whether the model responded."""
    is_cold: bool = False
    """Whether the server had to load the model, or the call waited for that."""
    load_duration: float | None = None
    """Seconds, by the server's clock; None: not reported."""
    total_duration: float | None = None
    """Seconds, by the server's clock."""
    delay: float = 0.0
    """Seconds of the call outside of server and caller: the network."""
    has_begun: bool = False
    """Whether the server began to respond, which it does after the load."""
    has_crashed: bool = False
    """Whether the model's engine crashed."""


class Poll(NamedTuple):
    """A response of `/api/ps`."""

    models: tuple[LoadedModel, ...]
    sent_at: float
    answered_at: float


class UnloadRequested(NamedTuple):
    """A call of this process unloaded or deleted a model."""

    model: str


class Unreachable(NamedTuple):
    """The server could not be reached; its models may still be loaded."""

    at: float


class Refused(NamedTuple):
    """Nothing listens at the server's address, so nothing is loaded."""

    at: float


Entry = CallStarted | CallEnded | Poll | UnloadRequested | Unreachable | Refused
