"""On request: what SIGTERM does to the telemetry of a process that nothing else saves from it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from logging import getLogger
from threading import Event
from types import FrameType
from typing import Any, Final

from ollama_otel._telemetry.standby import Standby
from ollama_otel._telemetry.telemetry import Telemetry

__all__ = ["shut_down_on_sigterm"]

_FLUSH_AGAIN: Final = 0.25
"""Seconds between two flushes while a server that got the signal finishes its requests."""

_log = getLogger("ollama_otel")


def shut_down_on_sigterm(telemetry: Telemetry) -> None:
    """Shut down or flush on SIGTERM from now on, and do what the process did on it before.

    A process that SIGTERM would end is shut down first, and ends by the signal. If a function
    handles the signal, that function is called, and what has been recorded is flushed until the
    process ends: a server may still answer requests. A signal that is ignored stays ignored.
    """
    before = signal.getsignal(signal.SIGTERM)
    if isinstance(before, _Handler):
        before.add(telemetry)
        return
    if before is signal.SIG_IGN:
        return
    if before is None:
        _log.warning("shutdown_on_sigterm has no effect: SIGTERM is handled outside of Python")
        return
    try:
        signal.signal(signal.SIGTERM, _Handler(telemetry, before))
    except ValueError:
        _log.warning(
            "shutdown_on_sigterm has no effect: call configure() in the main thread, "
            "as Python sets handlers of signals only there"
        )


class _Handler:
    """Python calls it in the main thread, between any two steps of the program.

    That thread may hold locks of the SDK, or those that a new thread needs. So the work is done in
    threads that have been started before.
    """

    def __init__(
        self, telemetry: Telemetry, before: Callable[[int, FrameType | None], Any] | int
    ) -> None:
        self._telemetries = [telemetry]
        self._before = before
        self._is_kept = Event()
        """What had been recorded when the signal came has been exported, or is lost."""
        self._is_waiting = True
        self._work = Standby(self._flush if callable(before) else self._shut_down, "SIGTERM")

    def add(self, telemetry: Telemetry) -> None:
        self._telemetries.append(telemetry)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(number, frame)
        self._work.begin()
        try:
            self._is_kept.wait(max(each.settings.shutdown_timeout for each in self._telemetries))
        except Exception:  # noqa: BLE001 - of gevent, whose threads are greenlets
            # gevent calls handlers in its hub, where nothing can wait. The work goes on.
            self._is_waiting = False
            return
        if not callable(self._before):
            _end_process()

    def _shut_down(self) -> None:
        for telemetry in self._telemetries:
            telemetry.shutdown()
        self._is_kept.set()
        if not self._is_waiting:
            _end_process()

    def _flush(self) -> None:
        while True:
            for telemetry in self._telemetries:
                telemetry.flush()
            self._is_kept.set()
            time.sleep(_FLUSH_AGAIN)


def _end_process() -> None:
    """End by SIGTERM; in the main thread, of which gevent's greenlets are parts."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
