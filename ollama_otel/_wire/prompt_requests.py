"""The request that asks a model to answer one prompt."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CHAT", "prompt_request"]

CHAT: Final = "/api/chat"
"""The route of `prompt_request`."""


def prompt_request(model: str, prompt: str, *, most_tokens: int | None = None) -> dict[str, Any]:
    """Return the body of a streamed chat with one message; `most_tokens` limits its answer."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
    }
    return body if most_tokens is None else body | {"options": {"num_predict": most_tokens}}
