"""The residency of a call's model, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich.filesize import decimal

from ollama_otel.records import ModelResidency

__all__ = ["memory_facts", "reload_reason"]

_REASONS: Final[Mapping[str, str]] = {
    "expired": "keep_alive expired",
    "requested": "unloaded on request",
    "runner_crashed": "runner crashed",
    "server_down": "server was down",
    "unknown": "reason unknown",
}
"""Causes of a reload; any other one is the name of an option that changed."""


def reload_reason(residency: ModelResidency) -> str | None:
    """Return the cause of a reload; None if there was none, or it is unknown."""
    cause = residency.reload_cause
    if cause is None or cause in _REASONS:
        return None if cause is None else _REASONS[cause]
    if cause == "evicted":
        return f"evicted by {residency.evicted_by or 'another model'}"
    before, after = residency.reload_before, residency.reload_after
    return f"{cause} {before or 'default'} -> {after or 'default'}"


def memory_facts(residency: ModelResidency) -> Iterator[str]:
    """Yield a text for each known fact."""
    if residency.gpu_share is not None:
        place = ", runs on the CPU" if residency.is_on_cpu else ""
        yield f"{residency.gpu_share:.0%} in GPU memory{place}"
    if residency.model_size is not None:
        yield f"{decimal(residency.model_size)} in memory"
    if residency.context_length is not None:
        yield f"context of {residency.context_length} tokens"
    if (reason := reload_reason(residency)) is not None:
        yield f"loaded again for this call: {reason}"
