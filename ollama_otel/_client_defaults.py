"""Puts the defaults of a client into its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final

import httpx
import ollama
from pydantic import BaseModel

from ollama_otel.settings import ClientDefaults

__all__ = ["add_to_calls", "defaults_of", "filled", "httpx_options"]

_METHODS: Final = ("chat", "embed", "embeddings", "generate")
_NONE: Final = ClientDefaults()


def httpx_options(defaults: ClientDefaults, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keywords for httpx's client, with the defaults where none are given."""
    size = defaults.pool_size
    if size is None or "limits" in given or "transport" in given:
        return given
    limits = httpx.Limits(max_connections=size, max_keepalive_connections=size)
    return {**given, "limits": limits}


def add_to_calls(client: Any, defaults: ClientDefaults) -> None:
    """Make the methods of this client use the defaults; without any, nothing changes."""
    if defaults.model is None and defaults.keep_alive is None and not defaults.options:
        return
    client._ollama_otel_defaults = defaults  # noqa: SLF001 - for agents, which call no method
    for name in _METHODS:
        _, *order = inspect.signature(getattr(ollama.Client, name)).parameters
        setattr(client, name, _with_defaults(getattr(client, name), order, defaults))


def defaults_of(client: object) -> ClientDefaults:
    """Return the defaults of a client; empty for an official client."""
    defaults: ClientDefaults = getattr(client, "_ollama_otel_defaults", _NONE)
    return defaults


def filled(
    defaults: ClientDefaults, model: Any, options: Any, keep_alive: Any
) -> tuple[Any, Any, Any]:
    """Return the model, the options and the keep-alive of a call, filled up with the defaults."""
    return (
        model or defaults.model or "",
        _merged(defaults.options, options),
        defaults.keep_alive if keep_alive is None else keep_alive,
    )


def _with_defaults(
    method: Callable[..., Any], order: Sequence[str], defaults: ClientDefaults
) -> Callable[..., Any]:
    """Return the method with defaults; `order` names its parameters, as some go by position."""
    places = {name: order.index(name) for name in ("model", "options", "keep_alive")}

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        changed = [*args]
        given = (
            args[place] if place < len(args) else kwargs.get(name) for name, place in places.items()
        )
        used = filled(defaults, *given)
        for (name, place), value in zip(places.items(), used, strict=True):
            if place < len(args):
                changed[place] = value
            else:
                kwargs[name] = value
        return method(*changed, **kwargs)

    if not inspect.iscoroutinefunction(method):
        return call

    @wraps(method)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return call_async


def _merged(defaults: Mapping[str, Any] | None, given: Any) -> Any:
    if not defaults:
        return given
    if isinstance(given, BaseModel):
        given = given.model_dump(exclude_none=True)
    return {**defaults, **(given or {})}
