"""Shuts down or flushes the telemetry on SIGTERM, if requested, before the signal takes effect."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from threading import Event
from types import FrameType
from typing import Any, Final

from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._telemetry.standby import Standby
from ollama_otel._telemetry.telemetry import Telemetry

__all__ = ["shut_down_on_sigterm"]

_PATIENCE: Final = 0.5
"""Seconds for which the main thread waits; it may hold a lock that the shutdown needs."""
_FLUSH_AGAIN: Final = 0.25
"""Seconds between two flushes while a server that got the signal finishes its requests."""

_log = logger()


def shut_down_on_sigterm(telemetry: Telemetry) -> None:
    """Shut down or flush on SIGTERM from now on; the signal keeps its previous effect.

    A process that SIGTERM would end is shut down first, and ends by the signal; it is held for half
    a second of that, and may run on for the rest of `shutdown_timeout`. If a function
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


def _end_by_signal() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


class _Handler:
    """Python calls it in the main thread, between any two steps of the program.

    That thread may hold locks of the SDK, or those that a new thread needs. So the work is done in
    threads that have been started before, and the program runs on if the work may wait for it: the
    signal is raised again after the work.
    """

    def __init__(
        self, telemetry: Telemetry, before: Callable[[int, FrameType | None], Any] | int
    ) -> None:
        self._telemetries = [telemetry]
        self._before = before
        self._is_kept = Event()
        """Set once the data recorded before the signal has been exported, or is lost."""
        self._is_to_end = False
        self._work = Standby(self._flush if callable(before) else self._shut_down, "SIGTERM")
        _process.at_exit(self._end_at_exit)

    def add(self, telemetry: Telemetry) -> None:
        self._telemetries.append(telemetry)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(number, frame)
            self._work.begin()
            self._wait(self._limit)
            return
        self._is_to_end = True
        self._work.begin()
        if self._wait(_PATIENCE):
            _end_by_signal()

    @property
    def _limit(self) -> float:
        return max(telemetry.settings.lifecycle.shutdown_timeout for telemetry in self._telemetries)

    def _wait(self, timeout: float) -> bool:
        try:
            return self._is_kept.wait(timeout)
        except Exception:  # noqa: BLE001 - of gevent, whose threads are greenlets
            # gevent calls handlers in its hub, which must not block, so the work continues in the
            # background.
            return False

    def _end_at_exit(self) -> None:
        """Raise the signal at the exit of a program that ended before the work was done."""
        if self._is_to_end:
            self._wait(self._limit)
            _end_by_signal()

    def _shut_down(self) -> None:
        for telemetry in self._telemetries:
            telemetry.shutdown()
        self._is_kept.set()
        # For a program that continues; this interrupts a handler that still waits.
        os.kill(os.getpid(), signal.SIGTERM)

    def _flush(self) -> None:
        while True:
            for telemetry in self._telemetries:
                telemetry.flush()
            self._is_kept.set()
            time.sleep(_FLUSH_AGAIN)
