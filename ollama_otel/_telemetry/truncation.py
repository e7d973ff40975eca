"""Reports truncated prompts as log events and as a metric; shares one counter per process."""

from __future__ import annotations

import os
import threading
from functools import cache
from importlib.util import find_spec
from typing import Final

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from ollama_otel import _names as names
from ollama_otel._display import logger as library_logger
from ollama_otel._enrich.truncation import Counting, TruncationEnricher
from ollama_otel._telemetry.metrics import MetricObserver
from ollama_otel._telemetry.spans import start_attributes
from ollama_otel._tokens.asking import ask
from ollama_otel._tokens.directory import Directory
from ollama_otel._tokens.stored import StoredFacts
from ollama_otel._tokens.worker import Worker
from ollama_otel.records import CallStart, Truncation
from ollama_otel.settings import Settings

__all__ = ["directory_of", "truncation_enricher"]

_log = library_logger("ollama_otel.truncation")
_lock = threading.Lock()
_directories: Final[dict[str, Directory]] = {}
_workers: Final[list[Worker]] = []


def directory_of(settings: Settings | None) -> Directory:
    """Return the directory of models for the settings' folder of vocabularies.

    Without settings, the latest directory of this process, so that counts and calls share learned
    data.
    """
    with _lock:
        if settings is None and _directories:
            return next(reversed(_directories.values()))
    folder = (settings or Settings.from_environ(lenient=True)).truncation.vocabulary_cache
    key = "" if folder is None else os.path.abspath(folder)  # noqa: PTH100 - of any path
    with _lock:
        if key not in _directories:
            _directories[key] = Directory(None if folder is None else StoredFacts(folder))
        return _directories[key]


def worker() -> Worker:
    """Return the counting worker; one per process."""
    with _lock:
        if not _workers:
            _workers.append(Worker())
        return _workers[0]


def truncation_enricher(
    settings: Settings, metrics: MetricObserver, logger: Logger
) -> TruncationEnricher:
    """Return an enricher that reports to these providers."""
    counting = None
    if settings.truncation.mode != "screen" and _can_count():
        counting = Counting(
            directory=directory_of(settings),
            worker=worker(),
            ask=ask,
            is_before=settings.truncation.mode == "check",
        )
    return TruncationEnricher(_Reports(metrics, logger), counting)


@cache
def _can_count() -> bool:
    """Whether the extra is installed; if not, log it once."""
    if find_spec("tiktoken") is not None:
        return True
    _log.warning(
        "prompts are not counted, so that truncation is only suspected: "
        "pip install 'ollama_otel[tokens]'"
    )
    return False


class _Reports:
    """Counts a finding, and sends it as an event in the context of the call's span."""

    def __init__(self, metrics: MetricObserver, logger: Logger) -> None:
        self._metrics = metrics
        self._logger = logger

    def __call__(self, start: CallStart, found: Truncation) -> None:
        if found.kind is None:
            return
        self._metrics.count_truncation(start, found.kind)
        attributes = {
            **start_attributes(start),
            names.TRUNCATION_KIND: found.kind,
            names.TRUNCATION_CERTAINTY: found.certainty,
            names.TRUNCATION_CONTEXT_LENGTH: found.context_length,
            names.TRUNCATION_PROMPT_TOKENS: found.prompt_tokens,
            names.TRUNCATION_LOST_TOKENS: found.lost_tokens,
            names.TRUNCATION_DROPPED_MESSAGES: found.dropped_messages,
        }
        self._logger.emit(
            LogRecord(
                event_name=names.TRUNCATION_EVENT,
                context=_context_of(start),
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                attributes={name: value for name, value in attributes.items() if value is not None},
            )
        )


def _context_of(start: CallStart) -> Context | None:
    """Return the context of the call's span, which may have ended."""
    if start.span is None:
        return None
    flags = TraceFlags.SAMPLED if start.span.is_sampled else TraceFlags.DEFAULT
    span = SpanContext(
        start.span.trace, start.span.span, is_remote=False, trace_flags=TraceFlags(flags)
    )
    return set_span_in_context(NonRecordingSpan(span))
