"""The target of an attempt: the caller's request, or a request to a fallback."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from ollama_otel._resilience.policy import Fallback
from ollama_otel._wire.address import parse_host
from ollama_otel._wire.rewritten import for_model
from ollama_otel.records import Endpoint

__all__ = ["Target", "fallback_target", "first_target"]

_PORTS: Final = {"http": 80, "https": 443}
_SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class Target(Struct, frozen=True, kw_only=True):
    """One destination of a call."""

    request: Any
    server: str
    """Scheme, host and port."""
    is_fallback: bool = False
    host: str | None = None
    """Host, if it differs from the caller's; None: the same server."""
    port: int = 0
    model: str | None = None
    """Model, if it differs from the caller's; None: the same model."""


def first_target(request: Any) -> Target:
    """Return the target that the caller named."""
    url = request.url
    return Target(request=request, server=_server_of(url))


def fallback_target(
    http: Any, request: Any, endpoint: Endpoint, fallback: Fallback
) -> Target | None:
    """Return the target for a fallback; None if the request cannot be sent there.

    The request differs from the caller's only in host and model; another server does not get its
    secrets.
    """
    url, content, headers = request.url, request.content, request.headers.copy()
    host, port = None, 0
    if fallback.model is not None:
        rewritten = for_model(content, fallback.model)
        if rewritten is None:
            return None
        content = rewritten
        headers["content-length"] = str(len(content))
    if fallback.host is not None:
        address = parse_host(fallback.host)
        url = url.copy_with(
            scheme=address.scheme,
            host=address.host,
            port=address.port,
            raw_path=(address.path + _after_base(url, endpoint)).encode("ascii"),
        )
        if _server_of(url) != _server_of(request.url):
            host, port = address.host, address.port
            for name in _SECRET & {each.lower() for each in headers}:
                del headers[name]
        headers["host"] = url.netloc.decode("ascii")
        headers.update(fallback.headers)
    return Target(
        request=http.Request(
            request.method,
            url,
            headers=headers,
            stream=http.ByteStream(content),
            extensions=request.extensions,
        ),
        server=_server_of(url),
        is_fallback=True,
        host=host,
        port=port,
        model=fallback.model,
    )


def _after_base(url: Any, endpoint: Endpoint) -> str:
    """Return path and query from the endpoint's path on: servers may have a prefix before it."""
    raw: str = url.raw_path.decode("ascii")
    path, _, query = raw.partition("?")
    start = path.rfind(endpoint.path.removesuffix("*"))
    return path[start:] + (f"?{query}" if query else "")


def _server_of(url: Any) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{url.port or _PORTS.get(url.scheme, 0)}"
