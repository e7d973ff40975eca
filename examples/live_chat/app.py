"""A chat in the browser: text, thinking and tool calls as they come, and a stop that stops Ollama.

    pip install ollama_otel starlette uvicorn
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 uvicorn --app-dir examples/live_chat app:app

Open http://localhost:8000. Press Stop, or close the tab, in the middle of an answer: the request to
Ollama is closed, and its slot is free for the next one. The span of the run then has
`ollama.agent.ending`: `cancelled` or `abandoned`.

OLLAMA_MODEL names another model than llama3.2. TRACE_URL is where a trace can be seen; the default
is Jaeger on this machine, as `ollama-otel dashboards up` starts it.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ollama import Message, ResponseError
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ollama_otel import AsyncClient, call_context, configure
from ollama_otel.tools import (
    Agent,
    AgentRun,
    AgentRunError,
    EndEvent,
    Event,
    TextEvent,
    ThinkingEvent,
    ToolCallEvent,
    ToolResultEvent,
)

MODEL = os.environ.get("OLLAMA_MODEL", "llama3.2")
TRACE_URL = os.environ.get("TRACE_URL", "http://localhost:16686/trace/{trace_id}")
MOST_CONVERSATIONS = 1000
LONGEST_QUESTION = 20_000

telemetry = configure(service_name="live-chat")
client = AsyncClient()
tracer = trace.get_tracer(__name__)
conversations: OrderedDict[str, tuple[Message, ...]] = OrderedDict()


# --- what the model may call ---------------------------------------------------------------


def get_current_weather(location: str) -> str:
    """Get the current weather of a city.

    Args:
        location: the city, such as Paris.
    """
    # Stands for a weather service: put your own here.
    known = {"Paris": "18 °C, light rain", "Tokyo": "24 °C, sunny", "Oslo": "7 °C, clouds"}
    if location not in known:
        raise LookupError(f"there is no weather of {location}")
    return known[location]


def get_time(zone: str) -> str:
    """Get the time in a time zone.

    Args:
        zone: its name, such as Europe/Paris.
    """
    return datetime.now(ZoneInfo(zone)).isoformat(timespec="minutes")


# --- one answer ----------------------------------------------------------------------------


async def agent() -> Agent:
    """Return an agent that uses what the model can do."""
    can = (await client.show(MODEL)).capabilities or ()
    tools = (get_current_weather, get_time) if "tools" in can else ()
    return Agent(client, MODEL, tools, name="live-chat", at_limit="raise", on_leaked_call="recover")


async def answer(conversation: str, question: str) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what the page shows, as it comes."""
    with (
        tracer.start_as_current_span("answer") as span,
        call_context(conversation_id=conversation),
    ):
        trace_id = format(span.get_span_context().trace_id, "032x")
        yield {"trace": TRACE_URL.format(trace_id=trace_id)}
        try:
            history = conversations.get(conversation, ())
            async with (await agent()).astream(question, history=history) as events:
                async for event in events:
                    yield shown(event)
                    if isinstance(event, EndEvent):
                        remember(conversation, event.run)
        except (AgentRunError, ResponseError, ConnectionError) as error:
            yield {"error": explained(error)}


def remember(conversation: str, run: AgentRun) -> None:
    conversations[conversation] = run.history
    conversations.move_to_end(conversation)
    if len(conversations) > MOST_CONVERSATIONS:
        conversations.popitem(last=False)


def shown(event: Event) -> dict[str, Any]:
    """Return an event as the page takes it."""
    match event:
        case TextEvent(text):
            return {"text": text}
        case ThinkingEvent(text):
            return {"thinking": text}
        case ToolCallEvent(call):
            return {"call": call.name, "arguments": call.arguments}
        case ToolResultEvent(result):
            return {"result": result.text, "of": result.call.name, "outcome": result.outcome}
        case EndEvent(run):
            return {"end": {"tokens": run.output_tokens, "seconds": round(run.duration, 2)}}


def explained(error: Exception) -> str:
    """Return what to do about an error, for a person."""
    match error:
        case ConnectionError():
            return "Ollama does not answer. Is it running? `ollama serve` starts it."
        case ResponseError(status_code=404):
            return f"The model is not installed. `ollama pull {MODEL}` installs it."
        case ResponseError(status_code=503):
            return "Ollama is busy. Ask again in a moment."
        case ResponseError():
            return f"Ollama refused the request: {error.error}"
        case AgentRunError(run=AgentRun(ending="max_rounds" | "max_tool_calls")):
            return "The model went on calling tools without an answer, so it was stopped."
        case AgentRunError(run=AgentRun(ending="empty_answer")):
            return "The model answered nothing. Put the question another way."
        case AgentRunError(run=AgentRun(ending="cut_answer")):
            return "The answer is longer than this model may write, and ends here."
    return f"There is no answer: {error}"


# --- the web ---------------------------------------------------------------------------------


class ClosingResponse(StreamingResponse):
    """Closes its stream when the reader goes away; Starlette leaves that to the collector."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


async def lines(events: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            yield json.dumps(event) + "\n"


async def ask(request: Request) -> Response:
    """Answer `{"conversation": "...", "question": "..."}` by lines of JSON."""
    try:
        body = await request.json()
        conversation, question = body["conversation"], body["question"]
    except (ValueError, KeyError, TypeError):
        conversation = question = None
    if not (isinstance(conversation, str) and isinstance(question, str) and question.strip()):
        error = 'expected JSON such as {"conversation": "c1", "question": "Why?"}'
        return JSONResponse({"error": error}, 400)
    if len(question) > LONGEST_QUESTION:
        error = f"The question has {len(question)} characters; {LONGEST_QUESTION} are allowed."
        return JSONResponse({"error": error}, 413)
    events = answer(conversation, question)
    return ClosingResponse(lines(events), media_type="application/x-ndjson")


async def page(request: Request) -> FileResponse:  # noqa: ARG001 - the signature of an endpoint
    return FileResponse(Path(__file__).with_name("page.html"))


app = Starlette(
    routes=[Route("/", page), Route("/ask", ask, methods=["POST"])],
    lifespan=telemetry.lifespan,
)
