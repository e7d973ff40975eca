"""Threads started before the process exits, as Python 3.12 and later start none during the exit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from ollama_otel import _process

__all__ = ["Standby", "run_side_by_side"]


class Standby:
    """A daemon thread that waits to run a function, once."""

    def __init__(self, function: Callable[[], object], name: str) -> None:
        """`function` must not raise."""
        self._function = function
        self.name = name
        self._start()
        _process.at_fork(after_in_child=self._start_in_child)

    def _start(self) -> None:
        self._begun = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"ollama_otel {self.name}", daemon=True
        )
        self._thread.start()

    def _start_in_child(self) -> None:
        """Start again, as the thread of the parent does not exist in a child."""
        if not self._begun.is_set():
            self._start()

    def _run(self) -> None:
        self._begun.wait()
        try:
            self._function()
        finally:
            self._done.set()

    def begin(self) -> None:
        """Run the function, if it has not begun."""
        self._begun.set()

    def wait(self, until: float) -> bool:
        """Wait for the function's end until `time.monotonic()` is `until`; False if it runs on."""
        return self._done.wait(max(0.0, until - time.monotonic()))


def run_side_by_side(standbys: Sequence[Standby], until: float) -> list[Standby]:
    """Run the functions until `time.monotonic()` is `until`; return those that have not ended."""
    for standby in standbys:
        standby.begin()
    return [standby for standby in standbys if not standby.wait(until)]
