"""Whether a transport is httpx's own and untouched, so that a real server will be asked."""

from __future__ import annotations

from typing import Final

import httpx

__all__ = ["reaches_network"]

_SEND: Final = httpx.HTTPTransport.handle_request
_SEND_ASYNC: Final = httpx.AsyncHTTPTransport.handle_async_request


def reaches_network(transport: object) -> bool:
    """Whether it surely is: not a mock, and nothing such as a replay stands before it now."""
    if isinstance(transport, httpx.HTTPTransport):
        return type(transport).handle_request is _SEND
    if isinstance(transport, httpx.AsyncHTTPTransport):
        return type(transport).handle_async_request is _SEND_ASYNC
    return False
