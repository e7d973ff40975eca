"""What a shell does with the inlets of a body reader, for tests that feed one by hand."""

from __future__ import annotations

from collections.abc import Callable

from ollama_otel._exchange.body import Inlets


def as_shell(inlets: Inlets) -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """Return what takes in a piece, and what to call before asking for one."""
    clock, pulled, arrived, feed = inlets

    def take(data: bytes) -> None:
        arrived(clock())
        feed(data)

    return take, lambda: pulled(clock())
