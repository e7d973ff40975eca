"""Decides how and why a call ended: pure functions."""

from __future__ import annotations

from typing import Final, NamedTuple

from ollama_otel._exchange.body import BodyReader
from ollama_otel._wire import failures
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel._wire.known_texts import known_text
from ollama_otel.records import CallStart, Ending, ErrorType, Outcome, ResponseFacts

__all__ = ["Verdict", "judge"]

_NOT_FOUND: Final = 404
_FIRST_REDIRECT: Final = 300
_FIRST_ERROR: Final = 400
_MOVED: Final = 301
_TURN_INTO_GET: Final = frozenset({302, 303})


class Verdict(NamedTuple):
    """How a call ended."""

    outcome: Outcome
    ending: Ending
    error_type: ErrorType | None = None
    message: str | None = None
    """The known part of the error message, without content."""
    text: str | None = None
    """The full text of the server or the exception, which may contain content."""


_FINAL_MESSAGE: Final = Verdict("completed", "final_message")
_NOT_PROTOCOL: Final = Verdict(
    "failed", "not_protocol", "protocol", "the answer is not what an Ollama server sends"
)


def judge(
    start: CallStart,
    status: int | None,
    reader: BodyReader | None,
    facts: ResponseFacts,
    cause: BaseException | None,
    *,
    is_whole: bool,
    is_shutdown: bool = False,
) -> Verdict:
    """Return how a call ended; the first condition that holds decides.

    `status` and `reader` are None if no response came, `cause` is the exception that goes to the
    caller, and `is_whole` says whether the body came to its clean end. `is_shutdown` says that
    neither the caller nor the server ended the call, but the end of the process or its telemetry.
    """
    if cause is not None and failures.is_cancellation(cause):
        return Verdict("cancelled", "cancelled")
    endpoint, model = start.endpoint, start.request.model
    if status == _NOT_FOUND and endpoint.missing_is_an_answer:
        return Verdict("completed", "whole_body")
    if status is not None and status >= _FIRST_ERROR:
        text = dialect_of(endpoint).error_text(b"" if reader is None else reader.start)
        message = _known(text, model) or f"HTTP status {status}"
        kind = failures.from_server(status, text)
        return Verdict("failed", "error_status", kind, message, text or None)
    if cause is not None:
        text, kind = failures.exception_text(cause), failures.from_exception(cause)
        message = _known(text, model) or type(cause).__name__
        return Verdict("failed", "exception", kind, message, text)
    if status is not None and status >= _FIRST_REDIRECT:
        return _redirected(endpoint.method, status)
    if facts.error is not None:
        text = failures.error_text(facts.error.encode("utf-8", "replace"))
        message = _known(text, model) or "an error in the response"
        return Verdict("failed", "error_message", failures.from_server(None, text), message, text)
    verdict = _without_error(reader, facts, is_whole=is_whole)
    if is_shutdown and verdict.outcome == "abandoned":
        return Verdict("cancelled", "cancelled")
    return verdict


def _known(text: str, model: str | None) -> str | None:
    return known_text(failures.shortened(text), model)


def _redirected(method: str, status: int) -> Verdict:
    """Return how a call ended that was redirected: clients send some requests again as GET."""
    is_lost = method == "POST" if status == _MOVED else status in _TURN_INTO_GET
    if not is_lost or method in {"GET", "HEAD"}:
        return Verdict("completed", "redirect")
    text = f"a redirect with HTTP status {status} turns {method} into GET, without the request"
    return Verdict("failed", "error_status", "protocol", text)


def _without_error(reader: BodyReader | None, facts: ResponseFacts, *, is_whole: bool) -> Verdict:
    """Return how a call ended that reported no error."""
    if not is_whole and reader is not None and reader.is_refused:
        return _NOT_PROTOCOL
    if facts.done:
        return _FINAL_MESSAGE
    if not is_whole:
        return Verdict("abandoned", "closed_early")
    if reader is not None and reader.is_unreadable:
        # The body is complete, but in an encoding that only the caller can decode.
        return Verdict("completed", "whole_body")
    if reader is not None and reader.is_malformed:
        return _NOT_PROTOCOL
    text = "the answer ended without its final message"
    return Verdict("failed", "no_final_message", "incomplete", text)
