"""A fake Ollama server, for tests and for the demo: in process or on a socket."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from ollama_otel._wire.installed_models import Capability
from ollama_otel.testing._fake.inference import Inference
from ollama_otel.testing._fake.models import (
    DEFAULT_MODELS,
    DEFAULT_REGISTRY,
    FakeModel,
    Library,
)
from ollama_otel.testing._fake.reply import Delivery, Fault, Received, Reply, deliver
from ollama_otel.testing._fake.routes import Routes
from ollama_otel.testing._fake.server import serve
from ollama_otel.testing._fake.transport import FakeTransport

__all__ = ["Capability", "FakeModel", "FakeOllama", "Fault", "Received", "Reply"]


class FakeOllama:
    """Answers the native routes of Ollama 0.33 as the real server does, with scripted text.

    `models` are installed; those of `registry` can be pulled.
    `queue` is the time in seconds that each call waits for its slot: the part of
    `total_duration` that is in no other duration.
    `clock` returns seconds since the epoch.
    `sleep` replaces every wait, also those of faults; the async transport awaits its result if
    that is awaitable.
    With `realtime` the server takes the time that it reports; without, only scripted delays and
    faults take time.
    """

    def __init__(
        self,
        models: Iterable[FakeModel] = DEFAULT_MODELS,
        *,
        registry: Iterable[FakeModel] = DEFAULT_REGISTRY,
        version: str = "0.33.0",
        queue: float = 0.0,
        seed: int = 0,
        realtime: bool = False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        library = Library(models, registry)
        inference = Inference(library, clock=clock, queue=queue, seed=seed, is_realtime=realtime)
        self.requests: list[Received] = []
        """Every request so far, in the order of arrival."""
        self._routes = Routes(library, inference, version=version, clock=clock)
        self._sleep = sleep
        self._lock = threading.Lock()
        self._scripts: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def script(self, path: str, *replies: Reply) -> None:
        """Answer the next requests for `path`, of any method, with these replies, one each.

        The path may be unknown to the server. Scripted replies come before those of the models.
        """
        with self._lock:
            self._scripts[path].extend(replies)

    def fault(self, path: str, fault: Fault, *, times: int = 1) -> None:
        """Apply a fault to the next `times` replies for `path`, scripted or not."""
        with self._lock:
            self._faults[path].extend([fault] * times)

    def answer(self, received: Received) -> Delivery:
        """Record a request and return the delivery of its reply; called once per request."""
        with self._lock:
            self.requests.append(received)
            scripts, faults = self._scripts[received.path], self._faults[received.path]
            reply = scripts.popleft() if scripts else self._routes.answer(received)
            fault = faults.popleft() if faults else None
        return deliver(reply, fault, has_body=received.method != "HEAD")

    def transport(self) -> FakeTransport:
        """Return a transport without a socket, for `httpx.Client` and `httpx.AsyncClient`."""
        return FakeTransport(self.answer, self._sleep)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
        """Listen on a socket inside the block; yields the URL. Port 0: any free port."""
        return serve(self.answer, self._sleep, host, port)
