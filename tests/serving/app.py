"""What the servers under test serve; `configure` runs where the module is imported."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from ollama_otel import AsyncClient, Client, configure

telemetry = configure(service_name="served", emit_events=True, export_interval=3600)
client = AsyncClient()


def messages() -> list[dict[str, str]]:
    return [{"role": "user", "content": "Hello"}]


async def call(request: Request) -> PlainTextResponse:
    answer = await client.chat("quick", messages=messages())
    return PlainTextResponse(answer.message.content or "")


async def stream(request: Request) -> StreamingResponse:
    parts: Any = await client.chat("endless", messages=messages(), stream=True)

    async def pieces() -> AsyncIterator[str]:
        async for part in parts:
            yield part.message.content or ""

    return StreamingResponse(pieces(), media_type="text/plain")


app = Starlette(
    routes=[Route("/call", call), Route("/stream", stream)],
    lifespan=telemetry.lifespan if os.environ.get("WITH_LIFESPAN") else None,
)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/call":
        answer = Client().chat("quick", messages=messages())
        start_response("200 OK", [("content-type", "text/plain")])
        return [(answer.message.content or "").encode()]
    start_response("200 OK", [("content-type", "text/plain")])
    parts: Any = Client().chat("endless", messages=messages(), stream=True)
    return ((part.message.content or "").encode() for part in parts)
