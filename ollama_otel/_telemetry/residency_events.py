"""Sends the events of models and servers as log events."""

from __future__ import annotations

from typing import assert_never

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.util.types import AnyValue

from ollama_otel import _names as names
from ollama_otel._enrich.residency import option_text
from ollama_otel.residency import (
    Event,
    ModelLoad,
    ModelReload,
    ModelUnload,
    ReloadThrash,
    ServerDown,
    ServerUp,
)

__all__ = ["ResidencyEvents"]


class ResidencyEvents:
    """Sends each event through one logger."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def __call__(self, address: str, port: int, event: Event) -> None:
        name, attributes = _described(event)
        attributes |= {names.SERVER_ADDRESS: address, names.SERVER_PORT: port}
        is_bad = isinstance(event, (ReloadThrash, ServerDown))
        self._logger.emit(
            LogRecord(
                event_name=name,
                severity_number=SeverityNumber.WARN if is_bad else SeverityNumber.INFO,
                severity_text="WARN" if is_bad else "INFO",
                attributes={key: value for key, value in attributes.items() if value is not None},
            )
        )


def _described(event: Event) -> tuple[str, dict[str, AnyValue]]:
    match event:
        case ModelLoad():
            return names.MODEL_LOAD_EVENT, {
                names.MODEL_NAME: event.model,
                names.MODEL_CONTEXT_LENGTH: event.context_length,
                names.MODEL_GPU_SHARE: event.gpu_share,
                names.RESPONSE_LOAD_DURATION: event.load_duration,
            }
        case ModelUnload():
            return names.MODEL_UNLOAD_EVENT, {
                names.MODEL_NAME: event.model,
                names.UNLOAD_REASON: event.reason,
                names.EVICTED_BY: event.evicted_by,
            }
        case ModelReload():
            return names.MODEL_RELOAD_EVENT, _reload(event)
        case ReloadThrash():
            return names.RELOAD_THRASH_EVENT, {
                names.RELOAD_COUNT: event.count,
                **_reload(event.reload),
            }
        case ServerUp():
            return names.SERVER_UP_EVENT, {names.SERVER_VERSION: event.version}
        case ServerDown():
            return names.SERVER_DOWN_EVENT, {names.EXCEPTION_MESSAGE: event.error}
    assert_never(event)


def _reload(reload: ModelReload) -> dict[str, AnyValue]:
    return {
        names.MODEL_NAME: reload.model,
        names.RELOAD_CAUSE: reload.cause,
        names.RELOAD_BEFORE: option_text(reload.before),
        names.RELOAD_AFTER: option_text(reload.after),
        names.EVICTED_BY: reload.evicted_by,
    }
