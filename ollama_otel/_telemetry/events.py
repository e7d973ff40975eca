"""Turns records into log events: the details of an inference, and exceptions."""

from __future__ import annotations

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.util.types import AnyValue

from ollama_otel import _names as names
from ollama_otel._exchange.observers import CallFollower
from ollama_otel._telemetry.attribute_limits import log_limit
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel._telemetry.spans import final_attributes, start_attributes
from ollama_otel.records import CallRecord, CallStart
from ollama_otel.settings import Settings

__all__ = ["EventObserver"]


class EventObserver:
    """Sends the events of the GenAI conventions, in the context of the call's span."""

    def __init__(self, logger: Logger, settings: Settings, messages: MessageWriter | None) -> None:
        self._logger = logger
        self._profile = settings.telemetry.profile
        self._messages = messages if settings.content.on_events else None

    def begin(self, start: CallStart) -> CallFollower | None:
        is_completion = start.endpoint.response == "completion" and start.is_inference
        return _EventFollower(self) if is_completion else None

    def emit(self, record: CallRecord) -> None:
        """Send the details of one call, and an exception event if it failed."""
        known: dict[str, AnyValue] = {**start_attributes(record.start)}
        if record.outcome == "failed":
            self._logger.emit(
                LogRecord(
                    event_name=names.EXCEPTION_EVENT,
                    severity_number=SeverityNumber.WARN,
                    severity_text="WARN",
                    attributes={
                        **known,
                        names.ERROR_TYPE: record.error_type,
                        names.EXCEPTION_MESSAGE: (
                            record.error_message
                            if self._messages is None
                            else self._messages.error(record)
                        ),
                    },
                )
            )
        details = {**known, **final_attributes(record, self._profile, self._messages)}
        if self._messages is not None:
            details |= self._messages.as_values(record, log_limit(self._logger))
        self._logger.emit(
            LogRecord(
                event_name=names.DETAILS_EVENT,
                severity_number=SeverityNumber.DEBUG,
                severity_text="DEBUG",
                attributes=details,
            )
        )


class _EventFollower(CallFollower):
    __slots__ = ("_observer",)

    def __init__(self, observer: EventObserver) -> None:
        self._observer = observer

    def end(self, record: CallRecord) -> None:
        self._observer.emit(record)
