"""Agents on a real Ollama: tool rounds in both colours, whole and streamed, and their one tree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from ollama_otel import AsyncClient, Client
from ollama_otel.testing import Capture
from ollama_otel.tools import (
    Agent,
    AgentRun,
    AgentRunError,
    Deny,
    EndEvent,
    TextEvent,
    ToolCallEvent,
    ToolResultEvent,
)

from .servers import RealOllama

MODEL = "tiny-agent"


def get_current_weather(location: str) -> str:
    """Get the current weather of a city.

    Args:
        location: The city.
    """
    return {"Paris": "18 C, sunny", "Oslo": "7 C, rain"}.get(location, "20 C, cloudy")


async def multiply(a: int, b: int) -> int:
    """Multiply two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a * b


TOOLS = [get_current_weather, multiply]

RunAgent = Callable[..., AgentRun]


@pytest.fixture(params=["sync", "async", "sync-streamed", "async-streamed"])
def run_agent(
    request: pytest.FixtureRequest, real_ollama: RealOllama, capture: Capture
) -> RunAgent:
    """Run an agent with both tools: `run_agent(prompt, **settings)`."""
    events: list[Any] = []

    async def later(prompt: str, **settings: Any) -> AgentRun:
        async with AsyncClient(real_ollama.url, **capture.options) as client:
            agent = Agent(client, MODEL, TOOLS, name="helper", **settings)
            if request.param == "async":
                return await agent.arun(prompt)
            async with agent.astream(prompt) as stream:
                events.extend([event async for event in stream])
            return stream.run

    def now(prompt: str, **settings: Any) -> AgentRun:
        if request.param.startswith("async"):
            run = asyncio.run(later(prompt, **settings))
        else:
            with Client(real_ollama.url, **capture.options) as client:
                agent = Agent(client, MODEL, TOOLS, name="helper", **settings)
                if request.param == "sync":
                    return agent.run(prompt)
                with agent.stream(prompt) as stream:
                    events.extend(stream)
                run = stream.run
        if events:
            told = "".join(event.text for event in events if isinstance(event, TextEvent))
            assert told == "".join(each.text for each in run.rounds)
            calls = [event.call for event in events if isinstance(event, ToolCallEvent)]
            results = [event.result for event in events if isinstance(event, ToolResultEvent)]
            assert calls == [each.call for each in results]
            assert tuple(results) == run.tool_results
            assert events[-1] == EndEvent(run)
        return run

    return now


def children(capture: Capture) -> list[str]:
    """Names of the run's children, in the order of their beginnings; there is nothing else."""
    [run] = [span for span in capture.spans if span.name == "invoke_agent helper"]
    assert run.parent is None and run.context is not None
    others = [span for span in capture.spans if span is not run]
    assert all(span.parent and span.parent.span_id == run.context.span_id for span in others)
    return [span.name for span in sorted(others, key=lambda span: span.start_time or 0)]


def test_one_tool(run_agent: RunAgent, capture: Capture) -> None:
    run = run_agent("What is the weather in Paris?")
    assert run.ending == "answered"
    assert run.text == "It is 18 C and sunny in Paris."
    [result] = run.tool_results
    assert result.call.arguments == {"location": "Paris"}
    assert result.call.id is not None and result.call.id.startswith("call_")
    assert children(capture) == [
        "chat tiny-agent",
        "execute_tool get_current_weather",
        "chat tiny-agent",
    ]
    [span] = [span for span in capture.spans if span.name == "invoke_agent helper"]
    attributes = dict(span.attributes or {})
    # The server's own counts, as on the calls.
    used = [record.response for record in capture.records]
    assert attributes["ollama.agent.input_tokens"] == sum(each.input_tokens or 0 for each in used)
    assert attributes["ollama.agent.output_tokens"] == sum(each.output_tokens or 0 for each in used)
    assert run.input_tokens == attributes["ollama.agent.input_tokens"]
    assert not any(name.startswith("gen_ai.usage") for name in attributes)


def test_two_tools_at_once(run_agent: RunAgent, capture: Capture) -> None:
    run = run_agent("Compare the weather in Paris and Oslo.")
    assert [each.call.arguments for each in run.tool_results] == [
        {"location": "Paris"},
        {"location": "Oslo"},
    ]
    assert "18 C" in run.text and "7 C" in run.text
    assert len({each.call.id for each in run.tool_results}) == 2
    assert len(run.rounds) == 2
    assert len(children(capture)) == 4


def test_two_rounds(run_agent: RunAgent, capture: Capture) -> None:
    run = run_agent("What is the weather in Oslo, and what is 12 * 7?")
    assert [len(each.tool_calls) for each in run.rounds] == [1, 1, 0]
    assert [each.call.name for each in run.tool_results] == ["get_current_weather", "multiply"]
    assert "84" in run.text
    assert children(capture) == [
        "chat tiny-agent",
        "execute_tool get_current_weather",
        "chat tiny-agent",
        "execute_tool multiply",
        "chat tiny-agent",
    ]


def test_a_model_that_never_stops(run_agent: RunAgent, capture: Capture) -> None:
    with pytest.raises(AgentRunError, match="after 4 rounds") as caught:
        run_agent("Keep watching the weather in Paris.", max_rounds=4)
    run = caught.value.run
    assert (run.ending, len(run.rounds), len(run.tool_results)) == ("max_rounds", 4, 3)
    assert len(capture.records) == 4


def test_a_model_that_never_stops_is_asked_for_a_last_answer(
    run_agent: RunAgent, capture: Capture
) -> None:
    """It does not stop then either: without tools it writes the call as text."""
    with pytest.raises(AgentRunError, match="after 3 rounds") as caught:
        run_agent("Keep watching the weather in Paris.", max_rounds=3, at_limit="answer")
    assert caught.value.run.text.startswith("<tool_call>")
    offered = [record.start.request.tools for record in capture.records]
    assert [bool(each) for each in offered] == [True, True, False]


def test_tools_and_a_format(run_agent: RunAgent, capture: Capture) -> None:
    """Both in one request would suppress the tool call, on this server."""
    schema = {
        "type": "object",
        "properties": {"result": {"type": "integer"}},
        "required": ["result"],
        "additionalProperties": False,
    }
    run = run_agent("What is 12 * 7?", format=schema, options={"num_predict": 60})
    assert [each.text for each in run.tool_results] == ["84"]
    assert isinstance(json.loads(run.text)["result"], int)
    asked = [
        (bool(record.start.request.tools), record.start.request.asks_for_json)
        for record in capture.records
    ]
    assert asked == [(True, False), (True, False), (False, True)]


def test_a_denied_call_is_told_to_the_model(run_agent: RunAgent) -> None:
    run = run_agent(
        "What is the weather in Paris?", before_tool=lambda call: Deny("5 C, fog"), max_rounds=3
    )
    assert run.tool_results[0].outcome == "denied"
    assert "5 C" in run.text


def test_a_run_is_continued(real_ollama: RealOllama, capture: Capture) -> None:
    with Client(real_ollama.url, **capture.options) as client:
        agent = Agent(client, MODEL, TOOLS)
        first = agent.run("What is the weather in Paris?")
        second = agent.run("What is 12 * 7?", history=first.history)
    assert [message.role for message in second.history][:5] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]
    assert second.ending == "answered"


def test_a_stream_that_is_left_frees_the_server(real_ollama: RealOllama, capture: Capture) -> None:
    with Client(real_ollama.url, **capture.options) as client:
        with Agent(client, MODEL).stream("Tell me a story.") as stream:
            next(stream)
        assert stream.run.ending == "abandoned"
        assert capture.records[0].outcome == "abandoned"
        assert Agent(client, MODEL).run("Hello").ending == "answered"


def test_an_answer_that_num_predict_cuts(real_ollama: RealOllama, capture: Capture) -> None:
    with (
        Client(real_ollama.url, **capture.options) as client,
        pytest.raises(AgentRunError, match="num_predict") as caught,
    ):
        Agent(client, MODEL, options={"num_predict": 5}).run("Tell me a story.")
    assert caught.value.run.ending == "cut_answer"
    assert caught.value.run.rounds[0].output_tokens == 5


def test_thinking_is_left_out_of_the_history(real_ollama: RealOllama, capture: Capture) -> None:
    with Client(real_ollama.url, **capture.options) as client:
        run = Agent(client, "tiny-thinker").run("Why is the sky blue?")
    assert run.rounds[0].thinking
    assert run.thinking_length == len(run.rounds[0].thinking)
    assert run.history[-1].thinking is None
