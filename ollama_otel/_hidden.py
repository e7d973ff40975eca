"""Hides this library's own HTTP requests from instrumentation, replay and recording."""

from __future__ import annotations

from typing import Final

import httpx
from opentelemetry.instrumentation.utils import suppress_instrumentation

__all__ = ["is_hidden", "send_hidden"]

_HIDDEN: Final = "ollama_otel.hidden"
"""Key in the extensions of such a request."""


def send_hidden(transport: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
    """Send a request of this library; raises what the transport raises."""
    request.extensions = {**request.extensions, _HIDDEN: True}
    with suppress_instrumentation():
        return transport.handle_request(request)


def is_hidden(request: httpx.Request) -> bool:
    """Whether this library made the request; it goes to the network even during a replay."""
    return _HIDDEN in request.extensions
