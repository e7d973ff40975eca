"""On request: what SIGTERM does to the telemetry of a process that nothing else saves from it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from logging import getLogger
from threading import Event
from types import FrameType
from typing import Any, Final

from ollama_otel._telemetry.standby import Standby, run_side_by_side
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
        self._is_flushed = Event()
        work = self._flush if callable(before) else self._shut_down
        self._work = Standby(work, "SIGTERM")

    def add(self, telemetry: Telemetry) -> None:
        self._telemetries.append(telemetry)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        limit = max(each.settings.shutdown_timeout for each in self._telemetries)
        if callable(self._before):
            self._before(number, frame)
            self._work.begin()
            self._is_flushed.wait(limit)
            return
        run_side_by_side([self._work], time.monotonic() + limit)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _shut_down(self) -> None:
        for telemetry in self._telemetries:
            telemetry.shutdown()

    def _flush(self) -> None:
        while True:
            for telemetry in self._telemetries:
                telemetry.flush()
            self._is_flushed.set()
            time.sleep(_FLUSH_AGAIN)
