"""Keeps content out of facts that a server reports, as its values may hold any text.

A value is one of a closed list, has the expected form, or is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from ollama_otel import _names as names
from ollama_otel.records import RequestFacts, ResponseFacts

__all__ = ["without_content"]

_DONE_REASONS: Final = frozenset(
    {
        *("stop", "length", "load", "unload"),
        # A cloud model or a proxy may name more.
        *("content_filter", "error", "function_call", "tool_call", "tool_calls"),
        *("end_turn", "max_tokens", "refusal", "stop_sequence", "tool_use"),
    }
)
_MODEL: Final = re.compile(r"[A-Za-z0-9_][\w.:/@+-]{0,511}", re.ASCII)
_REMOTE: Final = re.compile(
    r"(https?://)?(?:[^@/?#\s]{0,512}@)?([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?"
    r"(?:[/?#]|\Z)"
)


def without_content(
    facts: ResponseFacts, request: RequestFacts, error: str | None
) -> ResponseFacts:
    """Return a server's facts without content; `error` is the known part of its error message."""
    changes: dict[str, Any] = {}
    if facts.done_reason is not None and facts.done_reason not in _DONE_REASONS:
        changes["done_reason"] = names.OTHER
    if facts.model is not None and facts.model != request.model:
        changes["model"] = _model(facts.model)
    if facts.remote_model is not None:
        changes["remote_model"] = _model(facts.remote_model)
    if facts.remote_host is not None:
        changes["remote_host"] = _origin(facts.remote_host)
    if facts.tool_calls:
        changes["tool_calls"] = tuple(_offered(facts.tool_calls, request.tools))
    if facts.error is not None:
        changes["error"] = error
    return replace(facts, **changes) if changes else facts


def _model(name: str) -> str | None:
    return name if _MODEL.fullmatch(name) else None


def _origin(url: str) -> str | None:
    """Return scheme, host and port of a URL or an address; None if it is neither."""
    found = _REMOTE.match(url)
    return None if found is None else "".join(part or "" for part in found.groups())


def _offered(called: Iterable[str], tools: tuple[str, ...]) -> Iterable[str]:
    """Yield the names of called tools; a model may make up a name of any text."""
    known = {*tools, ResponseFacts.MORE_NAMES}
    return (name if name in known else names.OTHER for name in called)
