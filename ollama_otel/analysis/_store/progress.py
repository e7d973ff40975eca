"""Progress of an import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Final

__all__ = ["ImportProgress", "Progress"]

Progress = Callable[[float], object]
"""Gets the finished share of an import, 0 to 1, about ten times a second, from another thread."""

_INTERVAL: Final = 0.1
_PERCENT: Final = 100.0


class ImportProgress:
    """Reports the share of all stages that is finished."""

    def __init__(self, report: Progress | None) -> None:
        self._report = report
        self._from, self._to = 0.0, 0.0
        self._reported = 0.0

    def stage(self, until: float) -> None:
        """Begin a stage, which ends at a share of the whole."""
        self._from, self._to = self._to, until
        self.at(0.0)

    def at(self, share: float) -> None:
        """Report the progress of the stage, 0 to 1; the reported total never decreases."""
        if self._report is not None:
            now = self._from + (self._to - self._from) * min(max(share, 0.0), 1.0)
            self._reported = max(self._reported, now)
            self._report(self._reported)

    @contextmanager
    def of_query(self, connection: Any) -> Iterator[None]:
        """Report the progress of the query that runs in this block on a DuckDB connection."""
        if self._report is None:
            yield
            return
        is_over = Event()

        def watch() -> None:
            while not is_over.wait(_INTERVAL):
                self.at(connection.query_progress() / _PERCENT)

        watcher = Thread(target=watch, daemon=True, name="ollama_otel-import-progress")
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()
