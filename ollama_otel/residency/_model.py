"""What is known of one model on one server, in times of one monotonic clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ollama_otel.residency._events import ModelReload, UnloadReason
from ollama_otel.residency._facts import LoadedModel
from ollama_otel.residency._options import OptionValue

__all__ = [
    "MAX_REMEMBERED",
    "EndedCall",
    "Gone",
    "Insight",
    "Load",
    "ModelState",
    "Sight",
    "StartedCall",
]

MAX_REMEMBERED: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartedCall:
    """A call that is about to be sent, and needs its model loaded."""

    model: str
    options: Mapping[str, OptionValue]
    """Those that decide how the model is loaded."""
    sent_at: float
    keep_alive: float | None = None
    """Seconds, as the request says; None: it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """How a call ended that `StartedCall` began."""

    ended_at: float
    was_served: bool
    """Whether the model gave its whole answer."""
    is_cold: bool = False
    """Whether the server had to load the model, or the call waited for that."""
    load_duration: float | None = None
    """Seconds, by the server's clock; None: it did not say."""
    total_duration: float | None = None
    delay: float = 0.0
    """Seconds of the call that were neither the server's nor the caller's own: the network."""
    has_crashed: bool = False
    """Whether the model's engine died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """What is known of the model that served a call."""

    gpu_share: float | None = None
    context_length: int | None = None
    reload: ModelReload | None = None
    """The reload that the call waited for."""


@dataclass(slots=True, kw_only=True, eq=False)
class Load:
    """One stay of a model in memory."""

    earliest: float
    latest: float
    """It was ready between these two."""
    asked_at: float | None = None
    """When the call was sent that it was for; others had to leave between then and the load."""
    options: Mapping[str, OptionValue] | None = None
    """Those of the call it was loaded for; None: not known."""
    context_length: int | None = None
    """As the server lists it."""
    row: LoadedModel | None = None
    """What the server last said of it."""
    reload: ModelReload | None = None

    @property
    def began(self) -> float:
        """When the server may have begun to make room for it."""
        return self.earliest if self.asked_at is None else self.asked_at


@dataclass(slots=True, kw_only=True)
class Gone:
    """The end of a stay."""

    after: float
    before: float
    """It left memory between these two."""
    is_evictable: bool
    """Whether it is known that its time was not up."""
    reason: UnloadReason | None = None
    """None: not decided yet."""
    evicted_by: str | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """A model as one answer of `/api/ps` has it."""

    asked: float
    answered: float
    row: LoadedModel | None
    """None: it is not listed."""
    is_first: bool = False
    """Whether it is the first answer of this server ever."""


@dataclass(slots=True, kw_only=True, eq=False)
class ModelState:
    """Everything remembered of one model."""

    key: str
    name: str
    load: Load | None = None
    """The present stay; None: it is not in memory, as far as known."""
    past: Load | None = None
    """The stay before."""
    gone: Gone | None = None
    """How that one ended."""
    resident_at: float = -1e300
    """When it was last in memory for certain."""
    absent_at: float = -1e300
    """When it was last asked for by a question whose answer did not list it."""
    expires: float | None = None
    """When it is unloaded if nobody asks it; infinite: never; None: not known."""
    keep_alive: float | None = None
    """Seconds, as the last request that said so wants it."""
    kept_since: float = -1e300
    """When that one was sent."""
    idle_time: float | None = None
    """The longest rest of its time seen: its keep_alive is at least that."""
    own_context: int | None = None
    """The context it has when nobody says `num_ctx`."""
    in_flight: list[StartedCall] = field(default_factory=list)
    sights: deque[Sight] = field(default_factory=lambda: deque(maxlen=MAX_REMEMBERED))
    """Seen while calls were under way, to be understood when they have ended."""
    later_uses: deque[tuple[StartedCall, float]] = field(
        default_factory=lambda: deque(maxlen=MAX_REMEMBERED)
    )
    """Calls, and their ends, that were served by a load which is not known yet."""
    untold: tuple[StartedCall, float] | None = None
    """The last call that was served without a word on loading, and its end."""
    crashed_at: float | None = None
    """When a call was told that the engine had died, unless it was loaded since."""
    unload_requested: bool = False
    is_unlisted: bool = False
    """Whether the server runs it without listing it: it shares the engine of another name."""

    misses: int = 0
    """Served calls after which it was not listed, in a row."""

    @property
    def is_undecided(self) -> bool:
        """Whether it is gone and nobody knows why, yet."""
        return self.load is None and self.gone is not None and self.gone.reason is None
