"""A request of a plan, and its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.errors import SettingsError

__all__ = ["TimedRequest", "check_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRequest:
    """One request, and the time at which it is to be sent."""

    body: Mapping[str, Any]
    """The request's JSON."""
    path: str = "/api/chat"
    """A route of inference; nothing else is sent."""
    offset: float = 0.0
    """Seconds from the start of the run; with `after`, from the end of that request."""
    after: int | None = None
    """Position in the plan of the request that has to end first; it comes earlier in the plan."""
    conversation_id: str | None = None
    """Conversation of the call in a log of the run."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the call in a log of the run."""


def check_plan(plan: Sequence[TimedRequest]) -> None:
    """Raise `SettingsError` for a plan that is empty or cannot be sent."""
    if not plan:
        raise SettingsError("expected a plan with at least one request, found none")
    for position, request in enumerate(plan):
        endpoint = find_endpoint("POST", request.path)
        if endpoint is None or endpoint.genai_operation is None:
            raise SettingsError(
                f"request {position}: expected a route of inference such as /api/chat, found "
                f"{request.path!r}"
            )
        if not 0 <= request.offset < math.inf:
            raise SettingsError(
                f"request {position}: expected an offset of at least 0 seconds, found "
                f"{request.offset}"
            )
        if request.after is not None and not 0 <= request.after < position:
            raise SettingsError(
                f"request {position}: expected `after` to be the position of an earlier request, "
                f"found {request.after}"
            )
