"""Converts lines of older versions of the log's format to the current version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ollama_otel.records import Ending

__all__ = ["upgraded_end"]

# Version 1 had no `ending`: it wrote these texts, and no others, as the error message.
_ENDINGS_OF_V1: Final[Mapping[str, Ending]] = {
    "the answer ended without its final message": "no_final_message",
    "the answer is not what an Ollama server sends": "not_protocol",
}
_OUTCOMES_OF_V1: Final[Mapping[str, Ending]] = {
    "abandoned": "closed_early",
    "cancelled": "cancelled",
}
# Version 1 wrote the class of an exception without a message as the message.
_EXCEPTIONS_OF_V1: Final = frozenset(
    {"ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "ConnectError", "ReadError"}
    | {"WriteError", "CloseError", "ProxyError", "RemoteProtocolError", "LocalProtocolError"}
)
# `_OTHER`: in a stream of a good status, the server's errors all have a type of their own.
_TRANSPORT_ERRORS: Final = frozenset(
    {"connect", "timeout", "network", "incomplete", "protocol", "_OTHER"}
)
_COLD: Final = 0.1
_FIRST_REDIRECT, _FIRST_ERROR = 300, 400


def upgraded_end(line: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an end line of version 1 to the current version; raises as `call_from`."""
    new = {**line, "ending": _ending(line)}
    if new["ending"] == "exception" and line.get("error_message") in _EXCEPTIONS_OF_V1:
        new["exception_type"] = line["error_message"]
    response = line.get("response")
    load = response.get("load_duration") if isinstance(response, dict) else None
    if isinstance(load, int | float):
        new["cold_start"] = load >= _COLD
    if "progress" in line:
        new["progress"] = _progress(line["progress"])
    return new


def _ending(line: Mapping[str, Any]) -> Ending:
    outcome, status = line["outcome"], line.get("status")
    if outcome in _OUTCOMES_OF_V1:
        return _OUTCOMES_OF_V1[outcome]
    status = status if isinstance(status, int) else 0
    if outcome == "completed":
        return "redirect" if _FIRST_REDIRECT <= status < _FIRST_ERROR else "final_message"
    if status >= _FIRST_ERROR:
        return "error_status"
    if (clean := _ENDINGS_OF_V1.get(line.get("error_message", ""))) is not None:
        return clean
    # With a good status, any other type is of an error message in the stream.
    is_of_transport = line.get("error_type") in _TRANSPORT_ERRORS
    return "exception" if is_of_transport or not status else "error_message"


def _progress(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Sum the layers, which version 1 wrote one by one."""
    first, completed, total = (
        dict(layers.get(name) or {}) for name in ("first", "completed", "total")
    )
    if not total:
        return {}
    started, updated = layers.get("started_at"), layers.get("updated_at")
    progress = {
        "total_bytes": sum(total.values()),
        "moved_bytes": sum(completed.values()) - sum(first.values()),
    }
    if started is not None and updated is not None:
        progress["moving_time"] = updated - started
    return progress
