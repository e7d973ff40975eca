"""The conversation, user and tags that calls inside a block belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct

from ollama_otel._frozen import FrozenDict

__all__ = ["CallContext", "call_context", "current_call_context"]


class CallContext(Struct, frozen=True, kw_only=True):
    """What the application sets for its calls; the library sets none of it."""

    conversation_id: str | None = None
    user_id: str | None = None
    tags: Mapping[str, str] = FrozenDict()
    """Read-only."""


_NONE = CallContext()
_current: ContextVar[CallContext] = ContextVar("ollama_otel_call_context", default=_NONE)


def current_call_context() -> CallContext:
    """Return the context that the enclosing blocks set."""
    return _current.get()


@contextmanager
def call_context(
    *,
    conversation_id: str | None = None,
    user_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[CallContext]:
    """Mark every call made inside the block, in sync and async code alike.

    Blocks nest: an inner one adds its tags and overrides the rest. The values go on spans and
    into records, not on metrics, where they would make a series per user.
    """
    outer = _current.get()
    inner = CallContext(
        conversation_id=outer.conversation_id if conversation_id is None else conversation_id,
        user_id=outer.user_id if user_id is None else user_id,
        tags=FrozenDict({**outer.tags, **(tags or {})}),
    )
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
