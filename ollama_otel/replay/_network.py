"""Intercepts the network transports of all httpx clients of the process.

It replaces public methods of the transport classes; proxies and mounts use these classes too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import httpx

from ollama_otel._hidden import is_hidden

__all__ = ["put_in_front"]

InFront = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A function from the original method to its replacement."""


def put_in_front(sync_in_front: InFront, async_in_front: InFront) -> Callable[[], None]:
    """Replace the methods that send requests, and return a function that restores them."""
    restore = (
        _replace(httpx.HTTPTransport, "handle_request", sync_in_front),
        _replace(httpx.AsyncHTTPTransport, "handle_async_request", async_in_front),
    )

    def put_back() -> None:
        for each in restore:
            each()

    return put_back


def _replace(cls: type, name: str, in_front: InFront) -> Callable[[], None]:
    before, network = vars(cls)[name], getattr(cls, name)
    in_front_of_it = in_front(network)

    @functools.wraps(network)
    def ours(transport: Any, request: httpx.Request) -> Any:
        # For an async method this returns the coroutine.
        handle = network if is_hidden(request) else in_front_of_it
        return handle(transport, request)

    setattr(cls, name, ours)

    def restore() -> None:
        # If another library has wrapped the replacement, it stays, and passes requests on.
        if vars(cls)[name] is ours:
            setattr(cls, name, before)

    return restore
