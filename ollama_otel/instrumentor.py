"""`OllamaInstrumentor`: records the calls of every official client without changes to the app."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Collection
from typing import Any

import ollama
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from ollama_otel._client_instrumentation import (
    instrument_client,
    is_instrumented,
    uninstrument_client,
)
from ollama_otel._guard import guard
from ollama_otel._telemetry.instrumentation import InstrumentationOptions
from ollama_otel.client import AsyncClient, Client
from ollama_otel.errors import InstrumentationError

__all__ = ["OllamaInstrumentor"]

_BaseClient: Any = ollama.Client.__mro__[1]
"""The base class of both official clients; it is private, so a test pins it."""


def _existing_clients() -> list[Any]:
    """Find all official clients; `isinstance` would make lazy proxies load their object."""
    return [found for found in gc.get_objects() if _BaseClient in type(found).__mro__]


class OllamaInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Instruments existing and future official clients.

    `ollama.chat(...)` and functions imported from `ollama` earlier are covered too: they
    are methods of one client, which is instrumented in place. `instrument()` takes the keywords
    of `instrument_client`; `uninstrument()` undoes all of it, and leaves in place what other
    instrumentations have put around it since then. Clients of this library are not touched: they
    record their calls anyway.
    """

    _touched: weakref.WeakSet[Any]
    _init: Callable[..., None] | None = None
    _original_init: Callable[..., None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the packages that have to be installed; see `BaseInstrumentor`."""
        return ("ollama >= 0.6.3",)

    def _instrument(self, **kwargs: Any) -> None:
        options: Any = {
            name: value
            for name, value in kwargs.items()
            if name in InstrumentationOptions.__annotations__
        }
        touched: weakref.WeakSet[Any] = weakref.WeakSet()
        original = _BaseClient.__init__
        # As it is in the class: the attribute above may be bound by another instrumentation.
        self._original_init = vars(_BaseClient)["__init__"]

        def instrument(client: Any) -> None:
            try:
                if hasattr(client, "_client") and not is_instrumented(client):
                    instrument_client(client, **options)
                    touched.add(client)
            except InstrumentationError:
                return  # A subclass of the official client that does not use httpx.
            except Exception as fault:  # noqa: BLE001 - the client works, recorded or not
                guard.caught("instrumenting a client", fault)

        @functools.wraps(original)
        def init(client: Any, *args: Any, **kwargs: Any) -> None:
            original(client, *args, **kwargs)
            is_on = self._touched is touched
            # Our own clients have their own instrumentation, with their own options.
            if is_on and not isinstance(client, (Client, AsyncClient)):
                instrument(client)

        _BaseClient.__init__ = self._init = init
        self._touched = touched
        for client in _existing_clients():
            instrument(client)

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002 - the base class's signature
        if self._original_init is None:
            return
        # If another instrumentation has wrapped ours, ours stays below it and does nothing.
        if vars(_BaseClient)["__init__"] is self._init:
            _BaseClient.__init__ = self._original_init
        for client in list(self._touched):
            uninstrument_client(client)
        self._init = self._original_init = None
        self._touched = weakref.WeakSet()
