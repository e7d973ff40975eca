"""What a shell does with the inlets of a body reader, for tests that feed one by hand."""

from __future__ import annotations

from collections.abc import Callable

from ollama_otel._exchange.body import PIECES_AT_ONCE, Inlets


def as_shell(inlets: Inlets) -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """Return what takes in a piece, and what to call before asking for one."""

    def take(data: bytes) -> None:
        inlets.arrived(inlets.clock())
        inlets.took(data)
        if len(inlets.pieces) >= PIECES_AT_ONCE:
            inlets.settle()

    return take, lambda: inlets.pulled(inlets.clock())
