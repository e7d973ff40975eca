"""The state of one server after its timeline so far: frozen values, replaced at each entry.

Named tuples, because a call makes new ones on the caller's thread, and they are the fastest to
copy. All times are seconds of one monotonic clock.
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
    """Facts of the model that served a call; None: unknown."""

    gpu_share: float | None = None
    """The share in GPU memory, 0 to 1; below 0.1 the model runs on the CPU."""
    size: int | None = None
    """Bytes in memory, in total."""
    gpu_size: int | None = None
    """Bytes of it in GPU memory."""
    context_length: int | None = None
    """Tokens."""
    reload: ModelReload | None = None
    """The reload that the call waited for."""


class PollRow(NamedTuple):
    """A model in one response of `/api/ps`."""

    sent_at: float
    answered_at: float
    row: LoadedModel | None
    """None: it is not listed."""
    is_first: bool
    """Whether it is the first response of this server."""


class Use(NamedTuple):
    """A call that the model served."""

    call: CallStarted
    ended_at: float


class Stay(NamedTuple):
    """The time of a model in memory, from a load to an unload."""

    earliest: float
    latest: float
    """It was ready between these two; minus infinity: at an unknown time before."""
    sent_at: float | None = None
    """When the call that loaded it was sent; None: unknown."""
    options: Mapping[str, OptionValue] | None = None
    """Options of the call that loaded it; None: unknown."""
    context_length: int | None = None
    """Tokens, as the server lists it."""
    row: LoadedModel | None = None
    """The latest row of a poll."""
    reload: ModelReload | None = None
    """The cause of the reload; None: it was not a reload."""


class Unload(NamedTuple):
    """A model left memory."""

    stay: Stay
    """The stay that ended."""
    after: float
    before: float
    """It left between these two."""
    is_evictable: bool
    """Whether it certainly left before its expiry."""
    reason: UnloadReason | None = None
    """None: not determined yet."""
    evicted_by: str | None = None


class Lifetime(NamedTuple):
    """How long the server keeps an idle model."""

    expires: float | None = None
    """When it is unloaded; infinite: never; None: unknown."""
    keep_alive: float | None = None
    """Seconds, from the latest request that has one."""
    keep_alive_sent_at: float | None = None
    """When that request was sent, also if it was for an earlier stay."""


class Traits(NamedTuple):
    """Facts of a model that outlive one stay."""

    own_context: int | None = None
    """Tokens of context for requests without `num_ctx`."""
    idle_time: float | None = None
    """Seconds that it stays at least if no request has a `keep_alive`."""
    is_unlisted: bool = False
    """Whether the server runs it without listing it, as it shares the engine of another name."""
    misses: int = 0
    """Consecutive polls that did not list it after it had served a call."""


class ModelHistory(NamedTuple):
    """The state of one model."""

    name: str
    """The name as the server lists it, with its tag."""
    place: Stay | Unload | None = None
    """Its stay in memory, or how it left; None: neither is known."""
    unload_before: Unload | None = None
    """How it left memory before a stay that only a served call has shown."""
    seen_at: float = -math.inf
    """When it was last certainly in memory; minus infinity: never."""
    absent_at: float = -math.inf
    """When the latest poll that did not list it was sent; minus infinity: never."""
    lifetime: Lifetime = Lifetime()
    traits: Traits = Traits()
    rows: tuple[PollRow, ...] = ()
    """Rows of polls during calls; they are processed when the calls have ended."""
    later_uses: tuple[Use, ...] = ()
    """Uses after a load that is not known yet, as the call that waited for it has not ended."""
    unreported: Use | None = None
    """The latest use for which the server reported no load duration."""
    crashed_at: float | None = None
    """When a call reported that the engine had crashed; None if it was loaded since."""
    unload_requested: bool = False

    @property
    def stay(self) -> Stay | None:
        """The current stay; None: it is not in memory, as far as known."""
        place = self.place
        return place if isinstance(place, Stay) else None

    @property
    def unload(self) -> Unload | None:
        """How it left memory; None while it is in memory."""
        place = self.place
        return place if isinstance(place, Unload) else None

    @property
    def was_loaded(self) -> bool:
        """Whether it is in memory or was there before, as far as known."""
        return self.place is not None or self.seen_at > -math.inf

    @property
    def is_undecided(self) -> bool:
        """Whether it left memory for a reason that is not determined yet."""
        place = self.place
        return isinstance(place, Unload) and place.reason is None

    def change(self, stay: Stay, options: Mapping[str, OptionValue]) -> Change | None:
        """Return the option for which the server would reload it; None: it would not."""
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
        """Whether the server has to load it for a call, according to the known state."""
        stay = self.stay
        return stay is None or self.change(stay, call.options) is not None

    def was_listed_since(self, call: CallStarted) -> bool:
        """Whether a poll sent after a call lists it, in a row that is not processed yet."""
        return any(each.row is not None and each.sent_at >= call.sent_at for each in self.rows)

    def is_awaited(self, calls: Iterable[CallStarted]) -> bool:
        """Whether one of these calls needs a load after the known one."""
        stay = self.stay
        return stay is not None and any(
            self.change(stay, call.options) is not None for call in calls
        )


class Arrival(NamedTuple):
    """A load of a model."""

    key: str
    name: str
    began: float
    """When the server may have begun to free memory for it."""
    latest: float
    """The latest time at which it was ready."""


class History(NamedTuple):
    """The state of one server's models."""

    models: Mapping[str, ModelHistory] = MappingProxyType({})
    """By `key_of` of their names."""
    calls: Mapping[str, tuple[CallStarted, ...]] = MappingProxyType({})
    """Running calls, by model; models without calls are left out."""
    arrivals: tuple[Arrival, ...] = ()
    """The latest loads, in the order in which they were observed."""
    unreachable_at: float | None = None
    """When the server was last unreachable."""
    has_polled: bool = False
    thrash: Thrash = Thrash()
