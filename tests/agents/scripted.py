"""Agents whose model says what a test wrote, in every colour, streamed and not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeOllama, Reply
from ollama_otel.tools import Agent, AgentRun, Event
from tests.colours import Colour, closed, done, each

MODEL = "llama3.2"
COUNTS = {"prompt_eval_count": 10, "eval_count": 3}


def said(text: str = "", **more: Any) -> dict[str, Any]:
    """An answer: its text; `thinking` and `tool_calls` go into the message, the rest beside it."""
    message = {"role": "assistant", "content": text}
    message |= {key: more.pop(key) for key in ("thinking", "tool_calls") if key in more}
    return {
        "model": MODEL,
        "message": message,
        "done": True,
        "done_reason": "stop",
        **COUNTS,
        **more,
    }


def wants(*calls: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    """An answer that asks for tool calls, with ids by their place."""
    return said(
        tool_calls=[
            {"id": f"call_{index}", "function": {"index": index, "name": name, "arguments": given}}
            for index, (name, given) in enumerate(calls)
        ],
        **more,
    )


def reply(answer: dict[str, Any], *, streams: bool) -> Reply:
    """The answer in one piece, or in one part for each word, each call, and the end."""
    if not streams:
        return Reply.json(answer)
    message = answer["message"]
    parts = [{"content": "", "thinking": message["thinking"]}] if "thinking" in message else []
    parts += [{"content": word} for word in message["content"].splitlines(keepends=True)]
    parts += [{"content": "", "tool_calls": [call]} for call in message.get("tool_calls", ())]
    lines = [
        {"model": MODEL, "message": {"role": "assistant", **part}, "done": False} for part in parts
    ]
    return Reply.stream([*lines, {**answer, "message": {"role": "assistant", "content": ""}}])


class Stage:
    """A fake server, a client of one colour, and what its agents did."""

    def __init__(
        self,
        colour: str = "sync",
        *,
        streams: bool = False,
        settings: Settings | None = None,
        fake: FakeOllama | None = None,
    ) -> None:
        self.colour = Colour(colour)
        self.streams = streams
        self.fake = fake or FakeOllama()
        self.capture = Capture()
        self.settings = settings
        self.events: list[Event] = []

    def script(self, *answers: dict[str, Any]) -> Stage:
        self.fake.script("/api/chat", *(reply(each, streams=self.streams) for each in answers))
        return self

    def client(self) -> Any:
        return self.colour.ours(
            "http://fake", transport=self.fake.transport(), settings=self.settings, **self.options
        )

    @property
    def options(self) -> dict[str, Any]:
        return self.capture.options

    def run(self, tools: Sequence[Any] = (), *, prompt: Any = "Go", **settings: Any) -> AgentRun:
        """One run to its end; its events, if it streams, are in `events`."""
        history = settings.pop("history", ())

        async def scenario() -> AgentRun:
            client = self.client()
            try:
                return await self.through(Agent(client, MODEL, tools, **settings), prompt, history)
            finally:
                await closed(client._client)

        return self.colour.run(scenario)

    async def through(self, agent: Agent, prompt: Any, history: Any = ()) -> AgentRun:
        if not self.streams:
            run: Any = agent.arun if self.colour.is_async else agent.run
            result: AgentRun = await done(run(prompt, history=history))
            return result
        stream: Any = (agent.astream if self.colour.is_async else agent.stream)(
            prompt, history=history
        )
        try:
            async for event in each(stream):
                self.events.append(event)
        finally:
            await closed(stream)
        assert isinstance(stream.run, AgentRun)
        return stream.run

    def play(self, scenario: Callable[[Any], Awaitable[Any]]) -> Any:
        """Give a client to a scenario of the colour."""

        async def played() -> Any:
            client = self.client()
            try:
                return await scenario(client)
            finally:
                await closed(client._client)

        return self.colour.run(played)

    # --- what came of it ------------------------------------------------------------------

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [each.json() for each in self.fake.requests]

    def span(self, name: str) -> ReadableSpan:
        [span] = [each for each in self.capture.spans if each.name == name]
        return span

    def tree(self) -> dict[str, list[str]]:
        """Names of the spans under each other, in the order of their beginnings."""
        spans = sorted(self.capture.spans, key=lambda each: each.start_time or 0)
        names = {each.context.span_id: each.name for each in spans if each.context}
        tree: dict[str, list[str]] = {each.name: [] for each in spans if each.parent is None}
        for span in spans:
            if span.parent is not None:
                tree.setdefault(names[span.parent.span_id], []).append(span.name)
        return tree

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.span(name).attributes or {})


# --- tools --------------------------------------------------------------------------------


def weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: The name of the city.
    """
    return f"rain in {city}"


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b
