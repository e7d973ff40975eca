"""Estimates the time for processing a prompt, learned from ended calls.

The server counts all tokens of a prompt, but measures the time of uncached ones only. So a rate is
too high if a part was cached, and never too low.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

from ollama_otel._top.view import CallRow
from ollama_otel.records import CallStart

__all__ = ["LEAST_SAMPLES", "Prefill", "learn", "new_bytes"]

LEAST_SAMPLES: Final = 5
"""Calls that learning needs."""
_LEAST_TOKENS: Final = 64
"""Least tokens of a prompt; the time of shorter ones is mostly overhead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """Rates learned from the calls of one model; None: too few calls."""

    rate: float | None = None
    """Tokens of an uncached prompt per second."""
    tokens_per_byte: float | None = None
    """Tokens of a prompt per byte of its request."""

    def seconds_for(self, size: int, *, context_length: int | None) -> float | None:
        """Return the estimated time for a request of this many uncached bytes."""
        if not self.rate or self.tokens_per_byte is None:
            return None
        tokens = size * self.tokens_per_byte
        if context_length is not None:
            tokens = min(tokens, context_length)
        return tokens / self.rate


def learn(calls: Sequence[CallRow]) -> Prefill:
    """Learn from the ended calls of one model, the oldest first.

    The rate is the lower quartile of the calls that do not continue a conversation, as cached
    tokens make rates too high, never too low.
    """
    rates: list[float] = []
    densities: list[float] = []
    known: set[str] = set()
    for call in calls:
        conversation = call.start.context.conversation_id
        continues = conversation in known
        if conversation is not None:
            known.add(conversation)
        tokens, size = call.input_tokens, call.start.request.size
        if call.record is None or tokens is None or tokens < _LEAST_TOKENS or _has_images(call):
            continue
        # A prompt that was cut has fewer tokens than its request.
        if size and call.record.truncation.kind is None:
            densities.append(tokens / size)
        if not continues and (rate := call.record.prefill_rate_estimate) is not None:
            rates.append(rate)
    return Prefill(
        rate=quantiles(rates, n=4)[0] if len(rates) >= LEAST_SAMPLES else None,
        tokens_per_byte=median(densities) if len(densities) >= LEAST_SAMPLES else None,
    )


def new_bytes(start: CallStart, sizes: Mapping[str, int]) -> int | None:
    """Return the bytes of a request that the server has not processed before; None if unknown.

    `sizes` are the bytes of the last request of each conversation with the same model: the next
    one begins with the same bytes, which are cached.
    """
    size = start.request.size
    if size is None or start.request.image_count != 0 or start.request.purpose != "call":
        return None
    before = sizes.get(start.context.conversation_id or "", 0)
    return size - before if before < size else size


def _has_images(call: CallRow) -> bool:
    return call.start.request.image_count != 0
