"""The form in which two requests are equal exactly when a server would take them for the same."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_otel._wire.endpoints import Endpoint, find_endpoint

__all__ = ["CanonicalRequest", "canonical_request"]

# What a request says by leaving the field out. `think`, `keep_alive` and all options mean
# something at every value, as the model's own settings stand behind them.
_DEFAULTS: Mapping[str, Any] = {
    "_debug_render_only": False,
    "dimensions": 0,
    "insecure": False,
    "logprobs": False,
    "raw": False,
    "shift": True,
    "top_logprobs": 0,
    "truncate": True,
    "verbose": False,
}
_MODELS = ("model", "source", "destination", "from")
# Below these the keys are the caller's own, and an empty value is a value.
_FREE = frozenset({"arguments", "format", "info", "parameters"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalRequest:
    """A request without what makes no difference."""

    method: str
    path: str
    """From its `/api` or `/v1` on."""
    body: Any
    """JSON; an empty object where the request has no body."""

    @property
    def key(self) -> str:
        """Equal for equal requests, whatever the order of their fields."""
        return json.dumps([self.method, self.path, self.body], sort_keys=True)

    @property
    def model(self) -> str | None:
        """The model that is named, if any."""
        model = self.body.get("model") if isinstance(self.body, dict) else None
        return model if isinstance(model, str) else None

    def __str__(self) -> str:
        of_model = f" of model {self.model!r}" if self.model else ""
        # A path may hold anything, escapes that a terminal obeys too.
        path = self.path if self.path.isprintable() else repr(self.path)
        return f"{self.method} {path}{of_model}"


def canonical_request(
    method: str, path: str, body: Any, *, ignore: Collection[str] = ()
) -> CanonicalRequest:
    """Return the canonical form of a request whose body is the JSON value `body`, if any.

    `ignore` names fields to leave out, dotted, with the number of a list's item or `*` for
    any: `options.seed`, `messages.0.content`, `messages.*.images`.
    """
    endpoint = find_endpoint(method, path)
    canonical: Any = body or {}
    if endpoint is not None and endpoint.path.endswith("/*"):
        # What is sent there is named by the path: a blob by its digest.
        canonical = {}
    elif isinstance(canonical, Mapping):
        canonical = _body(endpoint, canonical, ignore)
    else:
        canonical = _with_plain_numbers(canonical)
    return CanonicalRequest(method=method, path=_path(endpoint, path), body=canonical)


def _path(endpoint: Endpoint | None, path: str) -> str:
    roots = ("/api/", "/v1/") if endpoint is None else (endpoint.path.removesuffix("*"),)
    return path[max(0, *(path.rfind(root) for root in roots)) :]


def _body(
    endpoint: Endpoint | None, body: Mapping[str, Any], ignore: Iterable[str]
) -> dict[str, Any]:
    fields: Any = dict(body)
    # The older word for it.
    name = fields.pop("name", None)
    if isinstance(name, str) and not fields.get("model"):
        fields["model"] = name
    for field in ignore:
        fields = _without(fields, field.split("."))
    fields = _settled(fields)
    streams = None if endpoint is None else endpoint.streams_by_default
    if streams is None or fields.get("stream") is streams:
        fields.pop("stream", None)
    for name in _MODELS:
        if isinstance(model := fields.get(name), str):
            fields[name] = model.removesuffix(":latest")
    return {
        name: value
        for name, value in fields.items()
        if not (value == (default := _DEFAULTS.get(name)) and type(value) is type(default))
    }


def _without(value: Any, names: Sequence[str]) -> Any:
    """Return a copy without one field; an item of a list becomes None, so that none moves."""
    first, rest = names[0], names[1:]
    if isinstance(value, Mapping):
        return {
            key: _without(item, rest) if first in {key, "*"} else item
            for key, item in value.items()
            if rest or first not in {key, "*"}
        }
    if isinstance(value, list):
        return [
            (_without(item, rest) if rest else None) if first in {str(number), "*"} else item
            for number, item in enumerate(value)
        ]
    return value


def _settled(value: Any, name: str = "") -> Any:
    """Return a copy in which fields that say nothing are absent, and equal numbers equal."""
    if name in _FREE:
        return _with_plain_numbers(value)
    if name == "images" and isinstance(value, list):
        return [_image(item) for item in value]
    if isinstance(value, Mapping):
        settled = {key: _settled(item, key) for key, item in value.items()}
        # A list of stop words that is empty does away with the model's own.
        empty: tuple[Any, ...] = (None,) if name == "options" else (None, "", [], {})
        return {
            key: item
            for key, item in settled.items()
            if not (item in empty and (key != "format" or not isinstance(item, dict)))
        }
    if isinstance(value, list):
        return [_settled(item) for item in value]
    return _with_plain_numbers(value)


def _with_plain_numbers(value: Any) -> Any:
    """Return a copy in which 1.0 is 1, as it is to a server."""
    if isinstance(value, Mapping):
        return {key: _with_plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _image(image: Any) -> Any:
    """Return what an image and the mark that a log has in its place have in common."""
    if isinstance(image, Mapping):
        return {name: value for name, value in image.items() if name in {"sha256", "size"}}
    if not isinstance(image, str):
        return image
    try:
        # Go's decoder skips line ends, and nothing else.
        content = base64.b64decode(image.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        content = image.encode("utf-8", "replace")
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
