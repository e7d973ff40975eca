"""Decides which calls a machine computed; the others cost nothing there."""

from __future__ import annotations

from typing import Final

from ollama_otel.records import ErrorType

__all__ = ["REFUSED"]

REFUSED: Final[frozenset[ErrorType]] = frozenset(
    {
        *("connect", "rejected", "server_busy", "rate_limited", "unauthorized", "forbidden"),
        *("model_not_found", "not_found", "unsupported", "invalid_request", "context_exceeded"),
    }
)
"""Errors of calls that were not computed: the server was not reached, or rejected them."""
