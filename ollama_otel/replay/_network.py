"""Puts something in front of the network of all httpx clients of the process, and takes it away.

The methods that are replaced are public ones; proxies and mounts are such transports too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

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
    before = vars(cls)[name]
    ours = in_front(getattr(cls, name))
    setattr(cls, name, ours)

    def restore() -> None:
        # Who has put something around ours since then keeps it: ours then passes all on.
        if vars(cls)[name] is ours:
            setattr(cls, name, before)

    return restore
