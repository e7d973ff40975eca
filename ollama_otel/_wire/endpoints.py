"""The table of endpoints: one row per method and path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.native import NATIVE
from ollama_otel.records import Endpoint

__all__ = ["DIALECTS", "ENDPOINTS", "added_dialect", "dialect_of", "find_endpoint"]

DIALECTS: Final[dict[str, Dialect]] = {NATIVE.name: NATIVE}
"""Dialects by name."""

# Server 0.33.0, `server/routes.go`; the order is that of the routes there.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(method="GET", path="/api/version", name="get_version"),
    Endpoint(method="HEAD", path="/api/version", name="get_version"),
    Endpoint(method="GET", path="/api/status", name="get_status"),
    Endpoint(
        method="POST",
        path="/api/generate",
        name="generate",
        genai_operation="text_completion",
        streams_by_default=True,
        response="completion",
        input_field="prompt",
        can_unload=True,
    ),
    Endpoint(
        method="POST",
        path="/api/chat",
        name="chat",
        genai_operation="chat",
        streams_by_default=True,
        response="completion",
        input_field="messages",
        can_unload=True,
    ),
    Endpoint(
        method="POST",
        path="/api/embed",
        name="embed",
        genai_operation="embeddings",
        response="embedding",
        input_field="input",
    ),
    Endpoint(
        method="POST",
        path="/api/embeddings",
        name="embeddings",
        genai_operation="embeddings",
        response="embedding",
        input_field="prompt",
    ),
    Endpoint(method="GET", path="/api/tags", name="list_models"),
    Endpoint(method="HEAD", path="/api/tags", name="list_models"),
    Endpoint(method="GET", path="/api/ps", name="list_running_models"),
    Endpoint(method="POST", path="/api/show", name="show_model"),
    Endpoint(
        method="POST",
        path="/api/create",
        name="create_model",
        streams_by_default=True,
        response="progress",
    ),
    Endpoint(method="POST", path="/api/copy", name="copy_model"),
    Endpoint(method="DELETE", path="/api/delete", name="delete_model"),
    Endpoint(
        method="POST",
        path="/api/pull",
        name="pull_model",
        streams_by_default=True,
        response="progress",
    ),
    Endpoint(
        method="POST",
        path="/api/push",
        name="push_model",
        streams_by_default=True,
        response="progress",
    ),
    Endpoint(method="HEAD", path="/api/blobs/*", name="check_blob", missing_is_an_answer=True),
    Endpoint(method="POST", path="/api/blobs/*", name="create_blob"),
    Endpoint(method="POST", path="/api/me", name="get_account"),
    Endpoint(method="POST", path="/api/signout", name="sign_out"),
    Endpoint(method="DELETE", path="/api/user/keys/*", name="sign_out"),
    Endpoint(method="POST", path="/api/experimental/web_search", name="web_search"),
    Endpoint(method="POST", path="/api/experimental/web_fetch", name="web_fetch"),
    Endpoint(
        method="GET",
        path="/api/experimental/model-recommendations",
        name="list_recommended_models",
    ),
    # Only at ollama.com.
    Endpoint(method="POST", path="/api/web_search", name="web_search"),
    Endpoint(method="POST", path="/api/web_fetch", name="web_fetch"),
    # The official client sends it since 0.6.3; server 0.33.0 does not have it yet.
    Endpoint(method="POST", path="/v1/systemone", name="score_questions", response="usage"),
)


class _Table:
    """The rows, indexed by method and path."""

    def __init__(self, rows: tuple[Endpoint, ...]) -> None:
        self.rows = rows
        self._exact = {(row.method, row.path): row for row in rows if not row.path_names_body}
        self._by_prefix = tuple(
            (row.method, row.path.removesuffix("*"), row) for row in rows if row.path_names_body
        )
        # Paths begin at these: a proxy may add a prefix.
        self._roots = tuple(dict.fromkeys(f"/{row.path.split('/')[1]}/" for row in rows))

    def find(self, method: str, path: str) -> Endpoint | None:
        if row := self._exact.get((method, path)):
            return row
        for root in self._roots:
            start = path.rfind(root)
            if start > 0 and (row := self._exact.get((method, path[start:]))):
                return row
        for row_method, prefix, row in self._by_prefix:
            start = path.rfind(prefix)
            segment = path[start + len(prefix) :]
            if method == row_method and start >= 0 and segment and "/" not in segment:
                return row
        return None


_tables: Final = [_Table(ENDPOINTS)]
"""The last table is in use."""


def find_endpoint(method: str, path: str) -> Endpoint | None:
    """Return the row for a request, or None if the request is not for Ollama."""
    return _tables[-1].find(method, path)


def dialect_of(endpoint: Endpoint | None) -> Dialect:
    """Return the dialect of an endpoint; Ollama's own if it is None."""
    return NATIVE if endpoint is None else DIALECTS[endpoint.dialect]


@contextmanager
def added_dialect(dialect: Dialect, *rows: Endpoint) -> Iterator[None]:
    """Register a dialect and its routes inside the block.

    For tests and experiments; dialects of this library are in `DIALECTS`.
    """
    DIALECTS[dialect.name] = dialect
    _tables.append(_Table((*_tables[-1].rows, *rows)))
    try:
        yield
    finally:
        _tables.pop()
        del DIALECTS[dialect.name]
