"""The table of what an Ollama server can be asked: one row per route and method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ENDPOINTS", "Answer", "Dialect", "Endpoint", "find_endpoint"]

Dialect = Literal["native"]
"""Whose protocol a route speaks; OpenAI's and Anthropic's rows will name theirs here."""

Answer = Literal["completion", "embedding", "progress", "usage", "opaque"]
"""What there is to read in an answer.

`completion`: text, tokens and timings, ended by `done`; `embedding`: vectors around
a few counts; `progress`: status lines of a long job; `usage`: a `usage` object;
`opaque`: nothing but a possible error.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route. Paths are matched by suffix, as `OLLAMA_HOST` may carry a prefix."""

    method: str
    path: str
    """From its `/api` on; a trailing `/*` stands for one further segment."""
    name: str
    """`ollama.operation.name`."""
    genai_operation: str | None = None
    """`gen_ai.operation.name`, for what the GenAI conventions know."""
    dialect: Dialect = "native"
    streams_by_default: bool | None = None
    """What the server does when the request has no `stream`; None: it never streams."""
    answer: Answer = "opaque"
    input_field: str | None = None
    """The request's field that holds the input; if it is empty, the server only loads the model."""
    can_unload: bool = False
    """Whether an empty input with `keep_alive` 0 unloads the model instead."""
    missing_is_an_answer: bool = False
    """Whether status 404 answers the question instead of failing it."""


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
        answer="completion",
        input_field="prompt",
        can_unload=True,
    ),
    Endpoint(
        method="POST",
        path="/api/chat",
        name="chat",
        genai_operation="chat",
        streams_by_default=True,
        answer="completion",
        input_field="messages",
        can_unload=True,
    ),
    Endpoint(
        method="POST",
        path="/api/embed",
        name="embed",
        genai_operation="embeddings",
        answer="embedding",
        input_field="input",
    ),
    Endpoint(
        method="POST",
        path="/api/embeddings",
        name="embeddings",
        genai_operation="embeddings",
        answer="embedding",
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
        answer="progress",
    ),
    Endpoint(method="POST", path="/api/copy", name="copy_model"),
    Endpoint(method="DELETE", path="/api/delete", name="delete_model"),
    Endpoint(
        method="POST",
        path="/api/pull",
        name="pull_model",
        streams_by_default=True,
        answer="progress",
    ),
    Endpoint(
        method="POST",
        path="/api/push",
        name="push_model",
        streams_by_default=True,
        answer="progress",
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
    # Only at ollama.com, where the official client sends them.
    Endpoint(method="POST", path="/api/web_search", name="web_search"),
    Endpoint(method="POST", path="/api/web_fetch", name="web_fetch"),
    # Asked for by the official client since 0.6.3; server 0.33.0 does not have it yet.
    Endpoint(method="POST", path="/v1/systemone", name="score_questions", answer="usage"),
)

_EXACT = {(row.method, row.path): row for row in ENDPOINTS if not row.path.endswith("/*")}
_BY_PREFIX = tuple(
    (row.method, row.path.removesuffix("*"), row) for row in ENDPOINTS if row.path.endswith("/*")
)


def find_endpoint(method: str, path: str) -> Endpoint | None:
    """Return the row for a request, or None for what is not Ollama's."""
    if row := _EXACT.get((method, path)):
        return row
    for root in ("/api/", "/v1/"):
        start = path.rfind(root)
        if start > 0 and (row := _EXACT.get((method, path[start:]))):
            return row
    for row_method, prefix, row in _BY_PREFIX:
        start = path.rfind(prefix)
        segment = path[start + len(prefix) :]
        if method == row_method and start >= 0 and segment and "/" not in segment:
            return row
    return None
