"""Gives a run access to the response of its stream, so that it can end it from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

__all__ = ["noting", "opened"]

_note: ContextVar[Callable[[Any], None] | None] = ContextVar("ollama_otel_opened", default=None)


@contextmanager
def noting(note: Callable[[Any], None]) -> Iterator[None]:
    """Call `note` with each response to a stream that a client of ours opens in this block."""
    token = _note.set(note)
    try:
        yield
    finally:
        with suppress(ValueError):  # without its event loop, a coroutine ends in another context
            _note.reset(token)


def opened(response: Any) -> None:
    """Announce a response whose parts will be read in this context."""
    note = _note.get()
    if note is not None:
        note(response)
