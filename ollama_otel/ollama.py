"""Every public name of the official package, so that one import line changes.

`from ollama_otel import ollama` in place of `import ollama`; `Client`, `AsyncClient` and
the functions record their calls, all else is the official object itself.
"""

from __future__ import annotations

from typing import Any

import ollama as _official

from ollama_otel.client import AsyncClient, Client

_client = Client()

generate = _client.generate
chat = _client.chat
embed = _client.embed
embeddings = _client.embeddings
pull = _client.pull
push = _client.push
create = _client.create
delete = _client.delete
list = _client.list
copy = _client.copy
show = _client.show
ps = _client.ps
web_search = _client.web_search
web_fetch = _client.web_fetch

__all__ = sorted(
    {
        *_official.__all__,
        "chat",
        "copy",
        "create",
        "delete",
        "embed",
        "embeddings",
        "generate",
        "list",
        "ps",
        "pull",
        "push",
        "show",
        "web_fetch",
        "web_search",
    }
)

# What later versions of the official package add is there without a change here: its
# functions are methods of the default client, its classes are its own.
for _name, _value in vars(_official).items():
    if not _name.startswith("_") and _name not in globals():
        _method = getattr(_client, _name, None) if callable(_value) else None
        if getattr(_value, "__self__", None) is _official._client:
            _value = _method
            __all__.append(_name)
        globals()[_name] = _value
__all__.sort()


def __getattr__(name: str) -> Any:
    return getattr(_official, name)
