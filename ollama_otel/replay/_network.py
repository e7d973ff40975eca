"""Puts something in front of the network of all httpx clients of the process, and takes it away.

The methods that are replaced are public ones; proxies and mounts are such transports too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import httpx

from ollama_otel._hidden import is_hidden

__all__ = ["put_in_front"]

InFront = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Given the method that was there, returns the one to take its place."""


def put_in_front(sync_in_front: InFront, async_in_front: InFront) -> Callable[[], None]:
    """Replace the methods that send requests, and return what puts them back."""
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
        # Of an async method this is the coroutine.
        handle = network if is_hidden(request) else in_front_of_it
        return handle(transport, request)

    setattr(cls, name, ours)

    def restore() -> None:
        # Who has put something around ours since then keeps it: ours then passes all on.
        if vars(cls)[name] is ours:
            setattr(cls, name, before)

    return restore
