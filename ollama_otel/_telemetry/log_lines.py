"""Writes records as lines of the application's log."""

from __future__ import annotations

import logging
from typing import Any, Final

import structlog

from ollama_otel._display import log_value, logger
from ollama_otel._exchange.observers import CallFollower
from ollama_otel.records import CallRecord, CallStart

__all__ = ["LogLineObserver"]

_NAME: Final = "ollama_otel.calls"

_log = logger()
_lines: Final = logging.getLogger(_NAME)
_standard: Any = structlog.wrap_logger(
    _lines,
    processors=[structlog.processors.LogfmtRenderer(key_order=["event"])],
    wrapper_class=structlog.stdlib.BoundLogger,
)


class LogLineObserver:
    """Logs each call at its end: a failed one at level warning, any other at level info.

    It uses structlog if the application has configured it, otherwise the standard library's
    logger `ollama_otel.calls`, as `key=value`. If that does not show level info, and nobody has
    chosen a level for it, one warning says so.
    """

    def begin(self, start: CallStart) -> CallFollower:  # noqa: ARG002 - an observer's signature
        return _LINE


class _LogLine(CallFollower):
    __slots__ = ()

    def end(self, record: CallRecord) -> None:
        if structlog.is_configured():
            log = structlog.get_logger(_NAME)
        else:
            log = _standard
            if not _is_checked:
                _check_level()
        write = log.warning if record.outcome == "failed" else log.info
        fields = _fields(record)
        write(
            f"ollama call {record.outcome}",
            **{
                # A renderer of the application may not escape control characters.
                name: log_value(value) if isinstance(value, str) else value
                for name, value in fields.items()
                if value is not None
            },
        )


_LINE = _LogLine()
_is_checked = False


def _check_level() -> None:
    """Warn, once in a process, if lines of level info are not shown.

    Checked when the first call ends: programs may set up their logging after `configure`.
    """
    global _is_checked  # noqa: PLW0603 - of the process
    _is_checked = True
    # Without a handler, logging itself prints warnings and errors only.
    is_shown = _lines.isEnabledFor(logging.INFO) and _lines.hasHandlers()
    is_chosen = _lines.level != logging.NOTSET
    if not is_shown and not is_chosen:
        _log.warning(
            "log_calls writes calls at level INFO, which this program's logging does not show; "
            "only failed calls are shown, at level WARNING. To show all: "
            "logging.basicConfig(level=logging.INFO)"
        )


def _fields(record: CallRecord) -> dict[str, Any]:
    start, response = record.start, record.response
    return {
        "operation": start.endpoint.name,
        "model": start.request.model,
        "duration": round(record.duration, 6),
        "time_to_first_chunk": _rounded(record.time_to_first_chunk),
        "load_duration": response.load_duration,
        "input_tokens": response.input_tokens,
        "output_tokens": response.output_tokens,
        "finish_reason": record.finish_reason,
        "error_type": record.error_type,
        "error_message": record.error_message,
        "http_status": record.http_status,
        "server_address": start.server_address,
        "server_port": start.server_port,
        "conversation_id": start.context.conversation_id,
        "user_id": start.context.user_id,
        "trace_id": start.trace_id,
        "span_id": start.span_id,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
