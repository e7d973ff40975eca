"""A FastAPI app that streams answers; each call has its user and its conversation.

    pip install ollama_otel fastapi uvicorn
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 uvicorn --app-dir examples fastapi_stream:app
    curl -N http://localhost:8000/chat -H 'X-User: ada' --json \
        '{"conversation": "c1", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}'

Stop curl with ctrl-C in the middle of the answer: the request to Ollama is closed, and its slot is
free. The span has `ollama.outcome`: `cancelled` or `abandoned`; neither is an error. If Ollama
fails, the stream breaks off; `live_chat/` shows such errors to the reader.

FastAPI makes the span of the request itself (tried with 0.165); an older one needs
opentelemetry-instrumentation-fastapi for it. OLLAMA_MODEL names another model than llama3.2.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from ollama_otel import AsyncClient, call_context, configure

telemetry = configure(service_name="fastapi-stream")
# A signal ends uvicorn, so nothing runs at its exit: the lifespan sends what is left.
app = FastAPI(lifespan=telemetry.lifespan)
client = AsyncClient()
model = os.environ.get("OLLAMA_MODEL", "llama3.2")


class Turn(BaseModel):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=20_000)


class Conversation(BaseModel):
    """What was said so far: the app remembers nothing, so any worker can go on with it."""

    conversation: str = Field(max_length=100)
    messages: list[Turn] = Field(min_length=1, max_length=100)


class ClosingResponse(StreamingResponse):
    """Closes its stream when the reader goes away; Starlette leaves that to the collector."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


async def answer(user: str, asked: Conversation) -> AsyncGenerator[str]:
    messages = [turn.model_dump() for turn in asked.messages]
    with call_context(user_id=user, conversation_id=asked.conversation):
        async with aclosing(await client.chat(model, messages=messages, stream=True)) as parts:
            async for part in parts:
                yield part.message.content or ""


@app.post("/chat")
async def chat(asked: Conversation, x_user: Annotated[str, Header()]) -> StreamingResponse:
    # The header stands for what your authentication says.
    return ClosingResponse(answer(x_user, asked), media_type="text/plain; charset=utf-8")
