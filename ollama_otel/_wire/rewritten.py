"""Rewrites a request for another model."""

from __future__ import annotations

import json

from ollama_otel._wire.lenient_json import parse_object

__all__ = ["for_model"]


def for_model(content: bytes, model: str) -> bytes | None:
    """Return a request's body with another model; None if the request has no model.

    In every dialect this is the field `model`.
    """
    body = parse_object(content)
    if body is None or not isinstance(body.get("model"), str):
        return None
    text = json.dumps({**body, "model": model}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")
