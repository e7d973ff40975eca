"""`Telemetry`, the result of `configure`: flush on request, and shutdown within one time limit."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakSet

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._exchange import open_calls
from ollama_otel._telemetry.export_failures import ExportFailures
from ollama_otel._telemetry.scrape import ScrapeEndpoint
from ollama_otel._telemetry.standby import Standby, run_side_by_side
from ollama_otel.settings import Settings

if TYPE_CHECKING:
    from ollama_otel._log.observer import ReplayLog
    from ollama_otel.residency import Residency

__all__ = ["Telemetry", "is_shut_down", "shut_down_at_exit"]

_SHARE: Final = 0.3
"""Largest part of the time limit for the ends of open calls, and for the replay log.

An observer may be slow, and a disk may hang.
"""
_TO_REPORT: Final = 1.0
"""Seconds beyond the time limit in which the line about losses has to be written."""
_LAST_WORDS: Final = 0.1
"""Part of the time limit that is left for exporters to say why they gave up."""

_log = logger()
_shut_down_providers: WeakSet[Any] = WeakSet()


class _End:
    """The shutdown of one `Telemetry`, which happens once."""

    def __init__(self) -> None:
        self.limit: float | None = None
        """Seconds, from the first caller."""
        self.work: Standby
        """The thread that does the work. Callers only wait: a signal may interrupt one of them, and
        its handler may call it too.
        """
        self.parts: tuple[Standby, ...] = ()
        """Each shuts down a provider."""
        self.is_complete = False
        """Whether nothing was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """The result of `configure`; a provider is None if the app has its own, or disabled the signal.

    It is a context manager, sync and async, whose exit is `shutdown`.
    """

    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    settings: Settings
    """The settings in force."""
    replay_log: ReplayLog | None = None
    """Writes the replay log; None unless requested."""
    scrape_endpoint: ScrapeEndpoint | None = None
    """Serves the metrics to Prometheus; None unless requested, or if its port is taken."""
    residency: Residency | None = None
    """Watches the models in memory of the servers; None unless requested."""
    _failures: ExportFailures = field(default_factory=ExportFailures, repr=False, compare=False)
    _end: _End = field(default_factory=_End, repr=False, compare=False)

    def flush(self, timeout: float = 10.0) -> bool:
        """Export pending data; False if an export, a provider or the replay log fails.

        An exporter keeps its own time limit instead of `timeout` seconds, and logs why it failed.
        """
        before = self._failures.latest
        results = [_flush(provider, int(timeout * 1000)) for provider in self._providers]
        if self.replay_log is not None:
            results.append(self.replay_log.flush(timeout))
        return all(results) and self._failures.latest is before

    def shutdown(self, timeout: float | None = None) -> bool:
        """End open calls as `cancelled`, export pending data and stop; False if any is lost.

        It takes at most `timeout` seconds, by default the setting `shutdown_timeout`, and logs in
        one line what was lost, its destination, and why. It ends all open calls of the process;
        their callers can continue to read. Later calls work, but are not recorded. Only the first
        shutdown has an effect.

        It runs when the interpreter exits. In a process that is ended by a signal it runs only if
        the application calls it, or with the setting `shutdown_on_sigterm`.
        """
        if _process.is_collecting():
            # The thread may hold a lock of the SDK, or of this library, that is needed here.
            _process.run_or_defer(_shut_down, self)
            return False
        limit = self.settings.lifecycle.shutdown_timeout if timeout is None else timeout
        end = self._end
        if end.limit is None:
            end.limit = limit
        end.work.begin()
        return end.work.wait(time.monotonic() + limit + _TO_REPORT) and end.is_complete

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        from anyio import to_thread  # noqa: PLC0415 - few apps need it

        # In a thread, so that the event loop continues and a cancellation does not interrupt it.
        await to_thread.run_sync(self.shutdown)

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:  # noqa: ARG002 - of ASGI
        """Shut down when an ASGI app ends: `Starlette(lifespan=telemetry.lifespan)`.

        A server such as uvicorn ends by the signal that stops it, without the hooks of the
        interpreter's exit. In a lifespan of your own write `async with telemetry:`.
        """
        async with self:
            yield

    def _shut_down(self) -> None:
        limit = self._end.limit or 0.0
        until = time.monotonic() + limit
        _process.catch_up()
        ending = open_calls.ending_all(limit * _SHARE)
        with ending if self._sets_up_anything else nullcontext(True) as is_ended:
            self._end.is_complete = self._stop_all(limit, until) and is_ended

    def _stop_all(self, limit: float, until: float) -> bool:
        is_logged = self.replay_log is None or self.replay_log.close(limit * _SHARE)
        self._failures.close()
        late = run_side_by_side(self._end.parts, until - limit * _LAST_WORDS)
        if late:
            self._failures.give_up()
            late = run_side_by_side(late, until)
        is_exported = self._failures.report(limit)
        if late and is_exported:
            names = ", ".join(standby.name for standby in late)
            _log.warning("not ended within %g s: %s", limit, names)
        return is_logged and is_exported and not late

    @property
    def _providers(self) -> Sequence[TracerProvider | MeterProvider | LoggerProvider]:
        providers = (self.tracer_provider, self.meter_provider, self.logger_provider)
        return [provider for provider in providers if provider is not None]

    @property
    def _sets_up_anything(self) -> bool:
        return bool(self._providers) or self.replay_log is not None

    def _stand_by(self) -> None:
        """Start the threads that shut down; `configure` calls it once."""
        parts = [
            Standby(partial(self._stop, provider), f"shutdown of {type(provider).__name__}")
            for provider in self._providers
        ]
        if self.scrape_endpoint is not None:
            parts.append(Standby(self.scrape_endpoint.close, "shutdown of the scrape endpoint"))
        if self.residency is not None:
            from ollama_otel._telemetry.residency import release  # noqa: PLC0415 - few apps have it

            parts.insert(
                0, Standby(partial(release, self.residency, self), "shutdown of residency")
            )
        self._end.parts = tuple(parts)
        self._end.work = Standby(self._shut_down, "shutdown of telemetry")

    def _stop(self, provider: Any) -> None:
        _shut_down_providers.add(provider)
        try:
            with self._failures.quiet():
                provider.shutdown()
        except Exception as error:  # noqa: BLE001 - the SDK raises this class if a reader is late
            _log.warning("%s", " ".join(str(error).split()))


def is_shut_down(provider: Any) -> bool:
    """Whether a provider of a `Telemetry` has been shut down."""
    return provider in _shut_down_providers


def shut_down_at_exit(telemetry: Telemetry) -> None:
    """Shut down when the interpreter exits, before the hooks that are registered already."""
    telemetry._stand_by()  # noqa: SLF001 - the same module
    _process.at_exit(partial(_shut_down, telemetry))


def _shut_down(telemetry: Telemetry) -> None:
    telemetry.shutdown()


def _flush(provider: TracerProvider | MeterProvider | LoggerProvider, millis: int) -> bool:
    try:
        return provider.force_flush(millis)
    except Exception as error:  # noqa: BLE001 - the SDK raises this class if a reader is late
        _log.warning("%s", " ".join(str(error).split()))
        return False
