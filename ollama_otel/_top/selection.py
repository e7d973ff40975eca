"""Filters and sorts the calls to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ollama_otel._top.view import CallRow

__all__ = ["SORTS", "selected"]

SORTS: Final[Mapping[str, Callable[[CallRow], Any]]] = {
    "TIME": lambda call: call.started_at,
    "TOOK": lambda call: call.elapsed,
    "FIRST": lambda call: call.first,
    "QUEUE": lambda call: call.phase("queue_estimate"),
    "LOAD": lambda call: call.phase("load"),
    "PROMPT": lambda call: call.phase("prompt_eval"),
    "EVAL": lambda call: call.phase("eval"),
    "IN": lambda call: call.input_tokens,
    "OUT": lambda call: call.output_tokens,
    "CALL": lambda call: (call.start.endpoint.name, call.model or ""),
}
"""The columns that calls are sorted by."""


def selected(calls: Iterable[CallRow], *, sort: str, descending: bool, words: str) -> list[CallRow]:
    """Return the calls that have all `words`, sorted; those with an unknown value come last.

    By time, running calls come before the others.
    """
    wanted = words.lower().split()
    found = [call for call in calls if not wanted or _has(call, wanted)]
    key = SORTS[sort]
    known = [call for call in found if key(call) is not None]
    known.sort(key=key, reverse=descending)
    if sort == "TIME":
        known.sort(key=lambda call: call.record is not None)
    return known + [call for call in found if key(call) is None]


def _has(call: CallRow, words: Iterable[str]) -> bool:
    start, record = call.start, call.record
    texts: tuple[str | None, ...] = (
        call.id,
        call.state,
        start.endpoint.name,
        call.model,
        call.server,
        start.context.conversation_id,
        start.context.user_id,
        start.trace_id,
        call.error_type,
        None if record is None else record.residency.reload_cause,
        None if record is None else record.truncation.kind,
        *(f"{name}={value}" for name, value in (start.context.tags or {}).items()),
    )
    text = "\n".join(filter(None, texts)).lower()
    return all(word in text for word in words)
