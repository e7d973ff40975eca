"""The observed history of one model of one server, and rates learned from its calls."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from ollama_otel._top.prefill import Prefill, learn, new_bytes
from ollama_otel._top.slots import Slots, seen_slots
from ollama_otel._top.view import CallRow
from ollama_otel._wire.ps import LoadedModel

__all__ = ["ModelHistory"]

_KEPT_CALLS: Final = 200
"""Number of ended calls from which rates and slots are learned."""
_MOST_CONVERSATIONS: Final = 1000
_SAME_TIME: Final = 0.01
"""Seconds by which two readings of one date may differ."""


@dataclass(slots=True)
class ModelHistory:
    """The calls of one model that ended, and when it was in memory. Times are since the epoch."""

    name: str
    prefill: Prefill = field(default_factory=Prefill)
    slots: Slots | None = None
    decode_rate: float | None = None
    """Median of output tokens per second."""
    _ended: deque[CallRow] = field(default_factory=lambda: deque(maxlen=_KEPT_CALLS))
    _is_learnt: bool = True
    _sizes: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Bytes of the last request of each conversation."""
    _loads: deque[float] = field(default_factory=deque)
    """Times at which `/api/ps` listed it again after not listing it."""
    _listed_at: float | None = None
    """When `/api/ps` listed it the last time."""
    _expires_at: float | None = None
    _used_at: float | None = None
    """When `/api/ps` first showed that a request had used it, as each request postpones its
    expiry.
    """

    # --- calls ----------------------------------------------------------------------------

    def add(self, call: CallRow) -> None:
        """Add a call that has ended."""
        self._ended.append(call)
        self._is_learnt = False
        conversation, size = call.start.context.conversation_id, call.start.request.size
        if conversation is not None and size is not None:
            self._sizes[conversation] = size
            self._sizes.move_to_end(conversation)
            if len(self._sizes) > _MOST_CONVERSATIONS:
                self._sizes.popitem(last=False)

    def learn(self) -> None:
        """Bring `prefill`, `slots` and `decode_rate` up to date."""
        if self._is_learnt:
            return
        self._is_learnt = True
        self.prefill = learn(self._ended)
        self.slots = seen_slots(self._ended)
        rates = [rate for call in self._ended if call.record and (rate := call.record.decode_rate)]
        self.decode_rate = median(rates) if rates else None

    @property
    def last(self) -> CallRow | None:
        """The call that ended last."""
        return self._ended[-1] if self._ended else None

    def prefill_estimate(self, call: CallRow, *, context_length: int | None) -> float | None:
        """Return the estimated time for the uncached part of a call's prompt."""
        size = new_bytes(call.start, self._sizes)
        if size is None:
            return None
        return self.prefill.seconds_for(size, context_length=context_length)

    # --- memory ---------------------------------------------------------------------------

    def listed(self, model: LoadedModel, now: float, *, is_new: bool, clock: float) -> None:
        """Note that `/api/ps` lists it; `is_new` if the previous response did not list it.

        `clock` is the time to which `expires_in` refers.
        """
        self._listed_at = now
        if is_new:
            self._loads.append(now)
        before = self._expires_at
        self._expires_at = None if model.expires_in is None else clock + model.expires_in
        if before is None or self._expires_at is None:
            return
        if self._expires_at - before > _SAME_TIME:
            self._used_at = now

    def loads_since(self, time: float) -> int:
        """Return the number of loads that `/api/ps` showed since a time; forgets earlier ones."""
        while self._loads and self._loads[0] < time:
            self._loads.popleft()
        return len(self._loads)

    def used_ago(self, now: float) -> float | None:
        """Return the time since the last use that was seen."""
        ends = [] if self.last is None else [self.last.ended_at]
        uses = [*ends, *([] if self._used_at is None else [self._used_at])]
        return max(0.0, now - max(uses)) if uses else None

    @property
    def is_hidden(self) -> bool:
        """Whether it answered a call without a load after `/api/ps` stopped listing it.

        The server lists models with the same weights once, by the name that was used first.
        """
        last = self.last
        if last is None or last.record is None or not last.is_timed or last.record.cold_start:
            return False
        return self._listed_at is None or last.ended_at > self._listed_at
