"""Watches exporters: one clear log line for each kind of failure, instead of the SDK's lines."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from ollama_otel._display import logger
from ollama_otel._telemetry.export_causes import MISSING, UNKNOWN, Cause, cause_of, shown_endpoint
from ollama_otel._telemetry.exporters import Signal

__all__ = ["ExportFailures", "WatchedExporter"]

_log = logger()

_FAILURES: Final[dict[Signal, Any]] = {
    "traces": SpanExportResult.FAILURE,
    "metrics": MetricExportResult.FAILURE,
    "logs": LogRecordExportResult.FAILURE,
}
_UNITS: Final[dict[Signal, tuple[str, str]]] = {
    "traces": ("span", "spans"),
    "metrics": ("metric export", "metric exports"),
    "logs": ("log record", "log records"),
}
_OTHER_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.sdk.metrics._internal",
    "urllib3.connectionpool",
)
_SECOND_SHUTDOWN = re.compile(r"already shutdown|only be called once|shutdown multiple times")


# --- the SDK's log lines ------------------------------------------------------------------


class _Diverter(logging.Filter):
    """Diverts log records of exporters while this library watches an export."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        taken: list[logging.LogRecord] | None = getattr(self._local, "taken", None)
        if taken is None or record.levelno < logging.WARNING:
            return True
        taken.append(record)
        return False

    @contextmanager
    def diverting(self) -> Iterator[list[logging.LogRecord]]:
        """Collect the records of this thread; the block decides whether to log them."""
        before = getattr(self._local, "taken", None)
        taken: list[logging.LogRecord] = []
        self._local.taken = taken
        try:
            yield taken
        finally:
            self._local.taken = before

    def join(self, exporter: object) -> None:
        """Filter the loggers in which this exporter writes."""
        modules = {kind.__module__ for kind in type(exporter).__mro__}
        if not any(module.startswith("opentelemetry.exporter.otlp") for module in modules):
            return
        # A filter applies to its own logger only, and not to child loggers.
        for name in {*modules, *_OTHER_LOGGERS}:
            if name.startswith(("opentelemetry.exporter.", *_OTHER_LOGGERS)):
                found = logging.getLogger(name)
                found.removeFilter(self)
                # First in the list, before a filter of the SDK that drops lines that differ only in
                # values.
                found.filters.insert(0, self)


_diverter = _Diverter()


def _hand_back(lines: Iterable[logging.LogRecord]) -> None:
    """Log the diverted records after all."""
    for line in lines:
        logging.getLogger(line.name).handle(line)


# --- exporters ----------------------------------------------------------------------------


class WatchedExporter:
    """Counts the losses of one exporter, and keeps their cause."""

    def __init__(self, failures: ExportFailures, exporter: Any, signal: Signal) -> None:
        self.signal: Signal = signal
        self.endpoint = str(getattr(exporter, "_endpoint", ""))
        self._failures = failures
        self._exporter = exporter
        self._export = exporter.export
        self._lock = threading.Lock()
        self._in_flight = 0
        self._reported: set[str] = set()
        self._closing = False
        self._lost_at_end = 0
        self._has_last = False
        """Whether an export that began after `close` has succeeded."""
        self._lost_since = 0
        self.cause: Cause | None = None
        """Cause of the latest failure; None if the latest export succeeded."""
        self.waiting: Callable[[], int] = lambda: 0
        """Returns the number of items that wait for the exporter."""

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Export; an exception is returned as a failure."""
        count = len(args[0]) if self.signal != "metrics" and args else 1
        with self._lock:
            self._in_flight += count
        failed, said = True, ""
        is_last = self._closing
        try:
            with _diverter.diverting() as lines:
                try:
                    result = self._export(*args, **kwargs)
                    # The result types of spans, metrics and logs have no common class.
                    failed = result.name != "SUCCESS"
                except Exception as error:  # noqa: BLE001 - the SDK would log it with a traceback
                    result, said = _FAILURES[self.signal], f"{type(error).__name__}: {error}"
            said = "\n".join([*(line.getMessage() for line in lines), *([said] if said else [])])
        finally:
            with self._lock:
                self._in_flight -= count
                self._lost_at_end += count if failed and self._closing else 0
                self._has_last = self._has_last or (is_last and not failed)
        if failed:
            self._has_failed(count, said)
        else:
            self._has_succeeded(lines)
        return result

    def _has_failed(self, count: int, said: str) -> None:
        self._failures.latest = object()
        cause = cause_of(self.signal, self.endpoint, said)
        with self._lock:
            if cause.kind == UNKNOWN and self.cause is not None:
                # The exporter logs only that it gives up; the previous attempt's error says more.
                cause = self.cause
            self.cause = cause
            self._lost_since += count
            is_new = not self._closing and cause.kind not in self._reported
            if is_new:
                self._reported.add(cause.kind)
        if is_new:
            _log.warning(
                "%s cannot be exported%s: %s (%s; further failures of this kind are not logged)",
                self.signal,
                self._to,
                cause.text,
                _count(count, self.signal, " lost"),
            )

    def _has_succeeded(self, lines: Sequence[logging.LogRecord]) -> None:
        _hand_back(lines)
        with self._lock:
            was_reported, lost = bool(self._reported), self._lost_since
            self._reported.clear()
            self.cause, self._lost_since = None, 0
        if was_reported:
            _log.warning(
                "%s are exported%s again (%s meanwhile)",
                *(self.signal, self._to, _count(lost, self.signal, " lost")),
            )

    @property
    def _to(self) -> str:
        return f" to {shown_endpoint(self.endpoint)}" if self.endpoint else ""

    def close(self) -> None:
        """From now on count losses instead of logging them."""
        with self._lock:
            self._closing = True

    def give_up(self) -> None:
        """Make a running export return soon, if the exporter supports it."""
        if self._in_flight:
            with _diverter.diverting():
                self._exporter.shutdown()

    def lost(self) -> int:
        """Return the number of items since `close` that were lost, or may not have arrived."""
        with self._lock:
            count = self._lost_at_end + self._in_flight
            # A warning has already reported that exports of this signal do not arrive.
            is_known = self.cause is not None and self.cause.kind == MISSING
            if is_known and MISSING in self._reported:
                return 0
            if self.signal == "metrics":
                # Each export contains all metrics: a late export, or a flush meanwhile, adds
                # nothing.
                return 0 if self._has_last else min(count, 1)
        return count + self.waiting()


def _count(count: int, signal: Signal, word: str = "") -> str:
    one, many = _UNITS[signal]
    return f"{count} {one if count == 1 else many}{word}"


class ExportFailures:
    """Collects the failures of the watched exporters, and logs their causes.

    The SDK's `force_flush` returns True although an exporter failed, and its exporters log a line
    for each attempt.
    """

    def __init__(self) -> None:
        self.latest: object = None
        """A new object after each failure."""
        self.watched: list[WatchedExporter] = []

    def watch(self, exporter: Any, signal: Signal) -> None:
        """Note each later export of this exporter that raises or does not return success."""
        watched = WatchedExporter(self, exporter, signal)
        _diverter.join(exporter)
        exporter.export = watched.export
        self.watched.append(watched)

    def note_waiting(self, exporter: Any, processor: Any) -> None:
        """Count the items that wait in this batch processor of the SDK for a watched exporter."""
        queue = getattr(getattr(processor, "_batch_processor", None), "_queue", ())
        for watched in self.watched:
            if exporter.export == watched.export:
                watched.waiting = lambda: len(queue)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Suppress, on this thread, the log lines about an earlier shutdown."""
        with _diverter.diverting() as lines:
            yield
        _hand_back(line for line in lines if not _SECOND_SHUTDOWN.search(line.getMessage()))

    def close(self) -> None:
        """From now on count losses for `report`, instead of logging them."""
        for watched in self.watched:
            watched.close()

    def give_up(self) -> None:
        """Make running exports return soon."""
        for watched in self.watched:
            watched.give_up()

    def report(self, timeout: float) -> bool:
        """Log the losses since `close` in one line; True if there were none."""
        by_place: dict[str, list[str]] = {}
        causes: dict[str, list[str]] = {}
        no_otlp: set[str] = set()
        for watched in self.watched:
            if not (lost := watched.lost()):
                continue
            place = shown_endpoint(watched.endpoint) or "the console"
            by_place.setdefault(place, []).append(_count(lost, watched.signal))
            cause = watched.cause
            if cause is not None and cause.kind == MISSING:
                if place in no_otlp:
                    # Advice for a server of traces only would mislead.
                    continue
                if watched.signal == "traces":
                    no_otlp.add(place)
            text = f"no answer within {timeout:g} s" if cause is None else cause.text
            if text not in causes.setdefault(place, []):
                causes[place].append(text)
        if by_place:
            _log.warning(
                "not exported at shutdown: %s",
                "; ".join(
                    f"{', '.join(items)} to {place} ({'; '.join(causes[place])})"
                    for place, items in by_place.items()
                ),
            )
        return not by_place
