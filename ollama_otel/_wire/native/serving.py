"""Responses that a replay server makes up: errors, and side requests such as the version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ollama_otel._wire.dialect import LoggedModel, MadeUp, as_json
from ollama_otel._wire.model_names import full_name
from ollama_otel._wire.native.request import read_request
from ollama_otel.records import Endpoint, Purpose

__all__ = ["RUNNER_ERROR", "made_up", "refusal"]

_VERSION: Final = "0.0.0-replay"
_NOT_LOGGED: Final = "not-in-the-log"

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


def made_up(
    method: str,
    path: str,
    endpoint: Endpoint | None,
    body: Mapping[str, Any],
    models: Sequence[LoggedModel],
) -> MadeUp | None:
    """Return the response to a side request of a client; None for any other request.

    Side requests are a health check, the version, the list of models, and for a logged model its
    description and requests that only load or unload it. `body` is canonical.
    """
    if method in {"GET", "HEAD"}:
        return _made_up_list(path, models)
    name = full_name(str(body.get("model", "")))
    model = next((each for each in models if each.name == name), None)
    if endpoint is None or model is None:
        return None
    if endpoint.path == "/api/show":
        return MadeUp(body=as_json(_description(model)))
    purpose = read_request(endpoint, body, size=None).purpose
    return None if purpose == "call" else MadeUp(body=as_json(_loaded(endpoint, model, purpose)))


def _made_up_list(path: str, models: Sequence[LoggedModel]) -> MadeUp | None:
    match path:
        case "/":
            return MadeUp(body=b"Ollama is running", content_type="text/plain; charset=utf-8")
        case "/api/version":
            return MadeUp(body=as_json({"version": _VERSION}))
        case "/api/tags":
            # A log has only the names.
            listed = [
                {"name": each.name, "model": each.name, "digest": _NOT_LOGGED} for each in models
            ]
            return MadeUp(body=as_json({"models": listed}))
    return None


def _description(model: LoggedModel) -> dict[str, Any]:
    """Return a description like that of `/api/show`, with a mark for values not logged."""
    unknown = ("format", "family", "parameter_size", "quantization_level")
    return {
        "modelfile": f"# {model.name}: {_NOT_LOGGED}",
        "details": {"parent_model": "", **dict.fromkeys(unknown, _NOT_LOGGED)},
        "model_info": {"general.architecture": _NOT_LOGGED},
        "capabilities": model.capabilities,
    }


def _loaded(endpoint: Endpoint, model: LoggedModel, purpose: Purpose) -> dict[str, Any]:
    """Return the response to a request that only loads or unloads a model."""
    match endpoint.path:
        case "/api/embed":
            return {"model": model.name, "embeddings": []}
        case "/api/embeddings":
            return {"embedding": []}
        case "/api/chat":
            answer: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}
        case _:
            answer = {"response": ""}
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    ending = {"done": True, "done_reason": purpose}
    return {"model": model.name, "created_at": at, **answer, **ending}
