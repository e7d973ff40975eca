"""What the timeline of one server says so far: frozen values, each made from the one before.

Named tuples, because a call makes new ones on the caller's thread, and they are the cheapest
to copy. All times are seconds on one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ollama_otel._wire.load_options import Change, OptionValue, change_between
from ollama_otel._wire.ps import LoadedModel
from ollama_otel.residency._events import ModelReload, UnloadReason
from ollama_otel.residency._thrash import Thrash
from ollama_otel.residency._timeline import CallStarted

__all__ = [
    "Arrival",
    "History",
    "Lifetime",
    "ModelHistory",
    "ModelInfo",
    "PollRow",
    "Stay",
    "Traits",
    "Unload",
    "Use",
]


class ModelInfo(NamedTuple):
    """What is known of the model that served a call; None is what is not known."""

    gpu_share: float | None = None
    """The part of it that is in GPU memory, 0 to 1."""
    context_length: int | None = None
    """Tokens."""
    reload: ModelReload | None = None
    """The reload that the call waited for."""


class PollRow(NamedTuple):
    """A model as one answer of `/api/ps` lists it."""

    asked: float
    answered: float
    row: LoadedModel | None
    """None: it is not listed."""
    is_first: bool
    """Whether it is the first answer of this server."""


class Use(NamedTuple):
    """A call that the model served."""

    call: CallStarted
    ended_at: float


class Stay(NamedTuple):
    """A model is in memory."""

    earliest: float
    latest: float
    """It was ready between these two; minus infinity: it may always have been."""
    asked_at: float | None = None
    """When the call was sent for which it was loaded; None: not known."""
    options: Mapping[str, OptionValue] | None = None
    """Those of the call for which it was loaded; None: not known."""
    context_length: int | None = None
    """As the server lists it."""
    row: LoadedModel | None = None
    """The latest one."""
    reload: ModelReload | None = None
    """Why it was loaded again; None: it was not."""


class Unload(NamedTuple):
    """A model left memory."""

    stay: Stay
    """The stay that ended."""
    after: float
    before: float
    """It left between these two."""
    is_evictable: bool
    """Whether it is known to have left before its time."""
    reason: UnloadReason | None = None
    """None: not decided yet."""
    evicted_by: str | None = None


class Lifetime(NamedTuple):
    """How long the server keeps a model that serves no call."""

    expires: float | None = None
    """When it is unloaded; infinite: never; None: not known."""
    keep_alive: float | None = None
    """Seconds, from the latest request that has one."""
    keep_alive_sent_at: float | None = None
    """When that request was sent, also if it was for an earlier stay."""


class Traits(NamedTuple):
    """What is known of a model beyond one stay."""

    own_context: int | None = None
    """Tokens of context when a request has no `num_ctx`."""
    idle_time: float | None = None
    """Seconds it stays at least when no request has a `keep_alive`."""
    is_unlisted: bool = False
    """Whether the server runs it without listing it: it shares the engine of another name."""
    misses: int = 0
    """Polls in a row that did not list it after it had served a call."""


class ModelHistory(NamedTuple):
    """What is known of one model."""

    name: str
    """As the server lists it, with its tag."""
    place: Stay | Unload | None = None
    """In memory, or how it left; None: it was never seen there."""
    seen_at: float = -math.inf
    """When it was last in memory for certain; minus infinity: never."""
    absent_at: float = -math.inf
    """When the latest poll that did not list it was sent; minus infinity: there is none."""
    lifetime: Lifetime = Lifetime()
    traits: Traits = Traits()
    rows: tuple[PollRow, ...] = ()
    """Those that came while calls were under way; they are read when the calls have ended."""
    later_uses: tuple[Use, ...] = ()
    """Served by a load that is not known yet, as the call that waits for it has not ended."""
    unreported: Use | None = None
    """The latest use for which the server reported no load duration."""
    crashed_at: float | None = None
    """When a call learned that the engine had died; None if it was loaded since."""
    unload_requested: bool = False

    @property
    def stay(self) -> Stay | None:
        """The present stay; None: it is not in memory, as far as known."""
        place = self.place
        return place if isinstance(place, Stay) else None

    @property
    def unload(self) -> Unload | None:
        """How it left memory; None while it is there."""
        place = self.place
        return place if isinstance(place, Unload) else None

    @property
    def is_undecided(self) -> bool:
        """Whether it left memory for a reason that is not known yet."""
        place = self.place
        return isinstance(place, Unload) and place.reason is None

    def change(self, stay: Stay, options: Mapping[str, OptionValue]) -> Change | None:
        """Return the option for which the server would load it again; None: it would not."""
        before = stay.options
        if before == options:
            return None
        return change_between(
            before,
            options,
            context_before=stay.context_length,
            own_context=self.traits.own_context,
        )

    def needs_load(self, call: CallStarted) -> bool:
        """Whether the server has to load it for a call, as far as known."""
        stay = self.stay
        return stay is None or self.change(stay, call.options) is not None

    def was_listed_since(self, call: CallStarted) -> bool:
        """Whether a row that is not read yet lists it, by a poll sent after a call."""
        return any(each.row is not None and each.asked >= call.sent_at for each in self.rows)

    def is_awaited(self, calls: Iterable[CallStarted]) -> bool:
        """Whether one of these calls needs another load than the one that is known."""
        stay = self.stay
        return stay is not None and any(
            self.change(stay, call.options) is not None for call in calls
        )


class Arrival(NamedTuple):
    """A model was loaded."""

    key: str
    name: str
    began: float
    """When the server may have begun to make room for it."""
    latest: float
    """When it was ready at the latest."""


class History(NamedTuple):
    """What is known of one server's models."""

    models: Mapping[str, ModelHistory] = MappingProxyType({})
    """By `key_of` their names."""
    calls: Mapping[str, tuple[CallStarted, ...]] = MappingProxyType({})
    """Those that have not ended, by their models; a model without any is left out."""
    arrivals: tuple[Arrival, ...] = ()
    """The latest ones, in the order in which they were learned."""
    unreachable_at: float | None = None
    """When the server could not be reached the last time."""
    has_polled: bool = False
    thrash: Thrash = Thrash()
