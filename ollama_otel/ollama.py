"""Every public name of the official package, so that one import line changes.

`from ollama_otel import ollama` in place of `import ollama`: `Client`, `AsyncClient` and
the functions record their calls; all other names are the official objects.
"""

from __future__ import annotations

from typing import Any, Final

import ollama as _official
from ollama import (
    ChatResponse,
    EmbeddingsResponse,
    EmbedResponse,
    GenerateResponse,
    Image,
    ListResponse,
    Message,
    Options,
    ProcessResponse,
    ProgressResponse,
    RequestError,
    ResponseError,
    ShowResponse,
    StatusResponse,
    Tool,
    WebFetchResponse,
    WebSearchResponse,
)

from ollama_otel.client import AsyncClient, Client

_client = Client()

generate: Final = _client.generate
chat: Final = _client.chat
embed: Final = _client.embed
embeddings: Final = _client.embeddings
pull: Final = _client.pull
push: Final = _client.push
create: Final = _client.create
delete: Final = _client.delete
list: Final = _client.list  # noqa: A001 - the official name
copy: Final = _client.copy
show: Final = _client.show
ps: Final = _client.ps
web_search: Final = _client.web_search
web_fetch: Final = _client.web_fetch

# Without the functions, as in the official package: a star import must not hide `list`.
__all__ = [
    "AsyncClient",
    "ChatResponse",
    "Client",
    "EmbedResponse",
    "EmbeddingsResponse",
    "GenerateResponse",
    "Image",
    "ListResponse",
    "Message",
    "Options",
    "ProcessResponse",
    "ProgressResponse",
    "RequestError",
    "ResponseError",
    "ShowResponse",
    "StatusResponse",
    "Tool",
    "WebFetchResponse",
    "WebSearchResponse",
]
__all__ += [name for name in _official.__all__ if name not in __all__]


def __getattr__(name: str) -> Any:
    """Return names that a later version of the official package adds."""
    value = getattr(_official, name)
    is_function_of_its_client = isinstance(getattr(value, "__self__", None), _official.Client)
    return getattr(_client, name) if is_function_of_its_client else value
