"""Responses that a replay server makes up: errors, the version, the list of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ollama_otel._wire.dialect import MadeUp, as_json

__all__ = ["RUNNER_ERROR", "made_up", "refusal"]

_VERSION: Final = "0.0.0-replay"
_NO_DIGEST: Final = "not-in-the-log"

# Messages of server 0.33.0.
RUNNER_ERROR: Final = "an error was encountered while running the model: unexpected EOF"
_WORDS: Final[Mapping[int, str]] = {
    401: "unauthorized",
    404: "model '{model}' not found",
    499: "request canceled",
    500: RUNNER_ERROR,
    503: "server busy, please try again.  maximum pending requests exceeded",
}


def refusal(status: int, model: str | None) -> str | None:
    """Return the server's message for an HTTP status; None if it has none."""
    words = _WORDS.get(status)
    return None if words is None else words.format(model=model or "")


def made_up(method: str, path: str, models: Sequence[str]) -> MadeUp | None:
    """Return the response to a health check, or for the version or the list of models."""
    if method not in {"GET", "HEAD"}:
        return None
    match path:
        case "/":
            return MadeUp(body=b"Ollama is running", content_type="text/plain; charset=utf-8")
        case "/api/version":
            return MadeUp(body=as_json({"version": _VERSION}))
        case "/api/tags":
            # A log has only the names.
            listed = [{"name": name, "model": name, "digest": _NO_DIGEST} for name in models]
            return MadeUp(body=as_json({"models": listed}))
    return None
