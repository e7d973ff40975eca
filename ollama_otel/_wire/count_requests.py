"""Requests whose tokens are counted before they are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel._wire.prompts import Prompt

__all__ = ["CountRequest", "count_request", "read_rendered"]

_CHAT: Final = "/api/chat"
_GENERATE: Final = "/api/generate"


class CountRequest(Struct, frozen=True, kw_only=True):
    """A request that is not sent, but counted."""

    operation: str
    think: bool | str | None
    prompt: Prompt
    path: str = ""
    rendering: dict[str, Any] | None = None
    """Body of a request that returns the rendered prompt as text; None for a bare text.

    Since Ollama 0.11.5. It loads the model; an older server generates one token instead.
    """


def count_request(
    model: str,
    messages: Sequence[Mapping[str, Any]] | str,
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    think: bool | str | None = None,
    options: Mapping[str, Any] | None = None,
    keep_alive: float | str | None = None,
) -> CountRequest:
    """Return the request with these messages; a bare text goes to the model without a template."""
    if isinstance(messages, str):
        return _read(_GENERATE, {"prompt": messages, "raw": True})
    body: dict[str, Any] = {"model": model, "messages": [*messages], "tools": [*tools]}
    if think is not None:
        body["think"] = think
    rendering = {
        **body,
        "stream": False,
        "truncate": False,
        "_debug_render_only": True,
        "options": {**(options or {}), "num_predict": 1},
    }
    if keep_alive is not None:
        # Without it the server would reset the `keep_alive` of a loaded model to its default.
        rendering["keep_alive"] = keep_alive
    return _read(_CHAT, body, rendering)


def _read(path: str, body: dict[str, Any], rendering: dict[str, Any] | None = None) -> CountRequest:
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None  # noqa: S101 - a row of our own table
    prompt = dialect_of(endpoint).prompt(endpoint, body)
    assert prompt is not None  # noqa: S101 - of a completion
    return CountRequest(
        operation=endpoint.name,
        think=body.get("think"),
        prompt=prompt,
        path=path,
        rendering=rendering,
    )


def read_rendered(answer: Any) -> str | None:
    """Return the prompt that a server has rendered; None if the response has none."""
    info = answer.get("_debug_info") if isinstance(answer, Mapping) else None
    text = info.get("rendered_template") if isinstance(info, Mapping) else None
    return text if isinstance(text, str) else None
