"""A web handler that streams an answer; the call is a child of the request's span.

    pip install ollama_otel starlette uvicorn
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 uvicorn --app-dir examples web_stream:app
    curl -N 'http://localhost:8000/ask?question=Why+is+the+sky+blue%3F'

Stop curl with ctrl-C in the middle of the answer: Ollama stops generating at once, and the span
has `ollama.outcome`: `cancelled` if the task was waiting for Ollama when Starlette cancelled it,
`abandoned` if the stream was closed. Neither is an error.
OLLAMA_MODEL names another model than llama3.2.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing

from opentelemetry import trace
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_otel import AsyncClient, configure

telemetry = configure(service_name="web-stream")
client = AsyncClient()
model = os.environ.get("OLLAMA_MODEL", "llama3.2")
tracer = trace.get_tracer(__name__)


class RequestSpans:
    """A span for each request; opentelemetry-instrumentation-starlette does it with more detail."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = f"{scope['method']} {scope['path']}"
        with tracer.start_as_current_span(name, kind=trace.SpanKind.SERVER):
            await self.app(scope, receive, send)


async def answer(question: str) -> AsyncIterator[str]:
    messages = [{"role": "user", "content": question}]
    async with aclosing(await client.chat(model, messages=messages, stream=True)) as parts:
        async for part in parts:
            yield part.message.content or ""


class ClosingResponse(StreamingResponse):
    """Closes its stream when the reader goes away; Starlette leaves that to the collector."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


async def ask(request: Request) -> ClosingResponse:
    question = request.query_params.get("question", "Why is the sky blue?")
    return ClosingResponse(answer(question), media_type="text/plain")


# A signal ends uvicorn, so nothing runs at its exit: the lifespan sends what is left.
app = Starlette(
    routes=[Route("/ask", ask)],
    middleware=[Middleware(RequestSpans)],
    lifespan=telemetry.lifespan,
)
