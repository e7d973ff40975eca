"""One object for each OpenTelemetry provider, shared by all users of that provider."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

# The API has no public names for these two; they are the same in versions 1.39 to 1.45.
from opentelemetry._logs._internal import LoggerProvider, ProxyLoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

__all__ = ["PerProvider", "is_stand_in"]

_Provider = TypeVar("_Provider", bound=MeterProvider | LoggerProvider)
_T = TypeVar("_T")


def is_stand_in(provider: TracerProvider | MeterProvider | LoggerProvider) -> bool:
    """Whether this is the provider that the API returns before a global provider is set."""
    return isinstance(provider, ProxyTracerProvider | _ProxyMeterProvider | ProxyLoggerProvider)


class PerProvider(Generic[_Provider, _T]):
    """Keeps one object for each provider, as long as the provider lives.

    Before a global provider is set, the API returns a stand-in that forwards to the provider set
    later, so both share one object. A test that resets the API's globals, as
    `opentelemetry.test.globals_test` does, replaces the stand-in too, and the next global
    provider gets an object of its own.
    """

    def __init__(self, get_global: Callable[[], _Provider]) -> None:
        """`get_global` is the API's function, such as `get_meter_provider`."""
        self._get_global = get_global
        # Reentrant: the garbage collector may run `get` while this thread holds the lock.
        self._lock = threading.RLock()
        self._made: weakref.WeakKeyDictionary[_Provider, _T] = weakref.WeakKeyDictionary()
        self._stand_in: weakref.ref[_Provider] | None = None

    def get(self, provider: _Provider | None, make: Callable[[], _T]) -> _T:
        """Return the provider's object, created at first use; None is the global provider.

        The object must not refer to the provider, or it would keep the provider alive.
        """
        current = self._get_global()
        with self._lock:
            owner = self._owner(current if provider is None else provider, current)
            if owner not in self._made:
                self._made[owner] = make()
            return self._made[owner]

    def _owner(self, provider: _Provider, current: _Provider) -> _Provider:
        if is_stand_in(provider):
            self._stand_in = weakref.ref(provider)
        elif provider is current and provider not in self._made and self._stand_in is not None:
            # The weak reference is dead if the API has replaced the stand-in.
            return self._stand_in() or provider
        return provider
