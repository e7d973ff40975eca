"""Wraps the transports of existing clients in shells, and unwraps them.

`_transport` and `_mounts` are private attributes of httpx; no other code uses them. Passing
`transport=` to the constructor instead would drop the proxies set by the environment.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, Unpack

import httpx

from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._guard import guard
from ollama_otel._telemetry.instrumentation import InstrumentationOptions
from ollama_otel.errors import InstrumentationError
from ollama_otel.transport import (
    NOTHING_RECORDED,
    Shell,
    is_on,
    is_patched,
    record_as,
    recorded_by,
    shells_for,
    turn_off,
)

__all__ = [
    "httpx_client_of",
    "instrument_client",
    "instrument_replacement",
    "instrumentation_of",
    "is_instrumented",
    "replace_transports",
    "uninstrument_client",
]

ClientT = TypeVar("ClientT")


def httpx_client_of(client: object) -> httpx.Client | httpx.AsyncClient:
    """Return the httpx client itself, or the one inside an official client."""
    if isinstance(client, (httpx.Client, httpx.AsyncClient)):
        return client
    inner = getattr(client, "_client", None)
    if isinstance(inner, (httpx.Client, httpx.AsyncClient)):
        return inner
    raise InstrumentationError(
        "expected an ollama.Client, ollama.AsyncClient, httpx.Client or httpx.AsyncClient, "
        f"found {type(client).__module__}.{type(client).__qualname__}"
    )


_made: Final[weakref.WeakKeyDictionary[Any, weakref.WeakSet[Shell]]] = weakref.WeakKeyDictionary()
"""The shells in each httpx client; other transports may wrap them."""


def is_instrumented(client: object) -> bool:
    """Whether calls of this client are recorded; raises `InstrumentationError` as below."""
    target = httpx_client_of(client)
    outermost = target._transport  # noqa: SLF001
    if isinstance(outermost, Shell):
        return is_on(outermost)
    return any(is_on(shell) for shell in _made.get(target, ()))


def instrumentation_of(client: object) -> Instrumentation:
    """Return the current instrumentation of this client; one that records nothing if there is none.

    Never raises: what the library does around several calls does not depend on their record.
    """
    try:
        target = httpx_client_of(client)
        outermost = target._transport  # noqa: SLF001
        shells = [outermost] if isinstance(outermost, Shell) else list(_made.get(target, ()))
        return next((recorded_by(shell) for shell in shells if is_on(shell)), NOTHING_RECORDED)
    except InstrumentationError:
        return NOTHING_RECORDED
    except Exception as fault:  # noqa: BLE001 - the calls are made, recorded or not
        guard.caught("looking for what records a call", fault)
        return NOTHING_RECORDED


def instrument_client(client: ClientT, **options: Unpack[InstrumentationOptions]) -> ClientT:
    """Record the Ollama calls of a client from now on, and return that client.

    `client` is an official `ollama.Client` or `ollama.AsyncClient`, or any `httpx.Client` or
    `httpx.AsyncClient`. A client that is instrumented already is not changed. The keywords are
    `instrumentation`, or `tracer_provider`, `meter_provider`, `logger_provider`, `settings`,
    `observers` and `enrichers` to build one from; without keywords the client follows
    `configure`. Raises `InstrumentationError` for any other client, and `SettingsError` if
    `instrumentation` is combined with other keywords.
    """
    _instrument(httpx_client_of(client), lambda shell, transport: shell(transport, **options))
    return client


def instrument_replacement(replaced: Any, client: object) -> None:
    """Instrument a client like `replaced`, an httpx client; do nothing if that is not instrumented.

    Raises `InstrumentationError` as `instrument_client` does.
    """
    target = httpx_client_of(client)
    before = getattr(replaced, "_transport", None)
    if not isinstance(before, Shell):
        return

    def alike(shell: Any, transport: Any) -> Any:
        made = shell(transport)
        record_as(made, before)
        return made

    _instrument(target, alike)


def _instrument(target: Any, wrapped: Callable[[Any, Any], Shell]) -> None:
    """Replace each transport by `wrapped(class of the shell, transport)`."""
    shells = shells_for(httpx)
    shell = shells.transport if isinstance(target, httpx.Client) else shells.async_transport
    made = _made.setdefault(target, weakref.WeakSet())

    def wrap(transport: Any) -> Any:
        if transport is None or (isinstance(transport, Shell) and is_on(transport)):
            return transport
        if isinstance(transport, Shell):
            # Turned off and not removed, as another instrumentation has wrapped it.
            record_as(transport, wrapped(shell, transport.inner))
            made.add(transport)
            return transport
        new = wrapped(shell, transport)
        made.add(new)
        return new

    replace_transports(target, wrap)


def uninstrument_client(client: ClientT) -> ClientT:
    """Undo `instrument_client`, and return the client.

    What another instrumentation has wrapped since then stays wrapped, and only our part of it
    stops. A client that is not instrumented is not changed. Raises `InstrumentationError` as
    `instrument_client` does.
    """
    target = httpx_client_of(client)
    for shell in _made.pop(target, ()):
        turn_off(shell)
    replace_transports(target, _unwrapped)
    return client


def _unwrapped(transport: Any) -> Any:
    """Return a transport without the shells around it, up to one that has been wrapped."""
    while isinstance(transport, Shell) and not is_patched(transport):
        transport = transport.inner
    inner = transport
    while isinstance(inner, Shell):
        turn_off(inner)
        inner = inner.inner
    return transport


def replace_transports(target: Any, replaced: Callable[[Any], Any]) -> None:
    """Put `replaced(transport)` in the place of each transport of an httpx client."""
    target._transport = replaced(target._transport)  # noqa: SLF001
    target._mounts = {  # noqa: SLF001
        pattern: replaced(mount)
        for pattern, mount in target._mounts.items()  # noqa: SLF001
    }
