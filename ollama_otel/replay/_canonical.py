"""The canonical form of a request: equal for requests that a server treats the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.records import Endpoint

__all__ = ["CanonicalRequest", "canonical_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalRequest:
    """A normalised request."""

    method: str
    path: str
    """The path from `/api` or `/v1` on."""
    body: Any
    """JSON; an empty object if the request has no body."""
    model: str | None
    """The requested model."""

    @property
    def key(self) -> str:
        """A text that is equal for equal requests, in any order of their fields."""
        return json.dumps([self.method, self.path, self.body], sort_keys=True)

    def __str__(self) -> str:
        of_model = f" of model {self.model!r}" if self.model else ""
        # A path may hold control characters for a terminal.
        path = self.path if self.path.isprintable() else repr(self.path)
        return f"{self.method} {path}{of_model}"


def canonical_request(
    method: str, path: str, body: Any, *, ignore: Collection[str] = ()
) -> CanonicalRequest:
    """Return the canonical form of a request; `body` is its JSON value, None if it has none.

    `ignore` names fields to leave out, dotted, with the index of a list's item or `*` for
    all: `options.seed`, `messages.0.content`, `messages.*.images`.
    """
    endpoint = find_endpoint(method, path)
    dialect = dialect_of(endpoint)
    canonical = _with_plain_numbers(body or {})
    if endpoint is not None and endpoint.path_names_body:
        canonical = {}
    elif isinstance(canonical, Mapping):
        canonical = _without_ignored(dialect, endpoint, canonical, ignore)
    model = canonical.get(dialect.model_field) if isinstance(canonical, Mapping) else None
    return CanonicalRequest(
        method=method,
        path=_path(endpoint, path),
        body=canonical,
        model=model if isinstance(model, str) else None,
    )


def _path(endpoint: Endpoint | None, path: str) -> str:
    roots = ("/api/", "/v1/") if endpoint is None else (endpoint.path.removesuffix("*"),)
    return path[max(0, *(path.rfind(root) for root in roots)) :]


def _without_ignored(
    dialect: Dialect, endpoint: Endpoint | None, body: Mapping[str, Any], ignore: Collection[str]
) -> dict[str, Any]:
    """Return a request's canonical fields without the ignored ones."""
    names = [field.split(".") for field in ignore]
    fields = dialect.canonical(endpoint, reduce(_without, names, body))
    # Again: the canonical form may have renamed a field.
    left = reduce(_without, names, fields)
    return fields if left == fields else dialect.canonical(endpoint, left)


def _without(value: Any, names: Sequence[str]) -> Any:
    """Return a copy without one field; a list's item becomes None, so that indexes do not shift."""
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


def _with_plain_numbers(value: Any) -> Any:
    """Return a copy in which 1.0 is 1, as for a server."""
    if isinstance(value, Mapping):
        return {key: _with_plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
