"""Whole runs against a scripted server: sync, on asyncio and on trio, streamed and not."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import ollama
import pytest
from pydantic import BaseModel

from ollama_otel.errors import AgentError, SettingsError, ToolSchemaError
from ollama_otel.testing import FakeOllama, Reply
from ollama_otel.tools import (
    Agent,
    AgentRunError,
    AgentTool,
    Allow,
    Defer,
    Deny,
    EndEvent,
    TextEvent,
    ThinkingEvent,
    ToolCall,
    ToolCallEvent,
    ToolResultEvent,
    tool_message,
)
from tests.colours import COLOURS

from .scripted import MODEL, Stage, multiply, said, wants, weather

ROME = ("weather", {"city": "Rome"})
OSLO = ("weather", {"city": "Oslo"})


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stage(request: pytest.FixtureRequest, colour: str) -> Stage:
    return Stage(colour, streams=request.param)


# --- rounds -------------------------------------------------------------------------------


def test_a_run_with_two_calls_at_once(stage: Stage) -> None:
    stage.script(wants(ROME, OSLO), said("Rain in both."))
    run = stage.run([weather, multiply], system="Be brief.")
    assert (run.ending, run.text, len(run.rounds)) == ("answered", "Rain in both.", 2)
    assert [(each.outcome, each.text, each.value) for each in run.tool_results] == [
        ("succeeded", "rain in Rome", "rain in Rome"),
        ("succeeded", "rain in Oslo", "rain in Oslo"),
    ]
    assert (run.input_tokens, run.output_tokens) == (20, 6)
    assert run.duration > 0
    first, second = stage.requests
    assert first["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Go"},
    ]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather", "multiply"]
    assert first["stream"] is stage.streams
    assert second["messages"][2:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_0", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
                {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
            ],
        },
        {
            "role": "tool",
            "content": "rain in Rome",
            "tool_name": "weather",
            "tool_call_id": "call_0",
        },
        {
            "role": "tool",
            "content": "rain in Oslo",
            "tool_name": "weather",
            "tool_call_id": "call_1",
        },
    ]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_events_of_a_run(colour: str) -> None:
    stage = Stage(colour, streams=True)
    stage.script(wants(ROME, thinking="Hm."), said("It\nrains."))
    run = stage.run([weather])
    call = ToolCall(name="weather", arguments={"city": "Rome"}, id="call_0")
    [result] = run.tool_results
    assert stage.events == [
        ThinkingEvent("Hm."),
        ToolCallEvent(call),
        ToolResultEvent(result),
        TextEvent("It\n"),
        TextEvent("rains."),
        EndEvent(run),
    ]
    assert run.rounds[0].thinking == "Hm."
    assert run.thinking_length == 3
    assert "thinking" not in stage.requests[1]["messages"][1]


def test_thinking_can_be_kept(stage: Stage) -> None:
    stage.script(wants(ROME, thinking="Hm."), said("Rain."))
    run = stage.run([weather], keep_thinking=True)
    assert run.thinking_length == 0
    assert stage.requests[1]["messages"][1]["thinking"] == "Hm."


def test_a_run_continues_another(stage: Stage) -> None:
    stage.script(wants(ROME), said("Rain."), said("Still rain."))
    first = stage.run([weather], system="Be brief.")
    second = stage.run([weather], prompt="And now?", history=first.history, system="Be brief.")
    assert second.text == "Still rain."
    assert [each["role"] for each in stage.requests[2]["messages"]] == [
        *("system", "user", "assistant", "tool", "assistant", "user")
    ]
    # With the ids that the first run got.
    assert stage.requests[2]["messages"][2]["tool_calls"][0]["id"] == "call_0"
    assert stage.requests[2]["messages"][3]["tool_call_id"] == "call_0"


def test_a_history_in_dictionaries_and_a_message_as_prompt(stage: Stage) -> None:
    stage.script(said("Hello."))
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "tool", "content": "x", "tool_call_id": "1"},
    ]
    stage.run(prompt=ollama.Message(role="user", content="You?"), history=history)
    assert stage.requests[0]["messages"] == [*history, {"role": "user", "content": "You?"}]


def test_what_is_sent_is_what_chat_would_send(stage: Stage) -> None:
    stage.script(said("Hello."))
    stage.run(options={"seed": 1}, keep_alive="5m", think=True)
    sent = stage.requests[0]
    assert {key: sent[key] for key in ("model", "options", "keep_alive", "think")} == {
        "model": MODEL,
        "options": {"seed": 1},
        "keep_alive": "5m",
        "think": True,
    }
    assert "tools" not in sent and "format" not in sent


def test_a_format_is_never_sent_with_tools(stage: Stage) -> None:
    schema = {"type": "object", "properties": {"weather": {"type": "string"}}}
    stage.script(wants(ROME), said("It rains."), said('{"weather": "rain"}'))
    run = stage.run([weather], format=schema)
    assert run.text == '{"weather": "rain"}'
    assert [("tools" in each, each.get("format")) for each in stage.requests] == [
        (True, None),
        (True, None),
        (False, schema),
    ]
    # The format is asked for instead of the answer before, not after it.
    assert stage.requests[2]["messages"] == stage.requests[1]["messages"]


def test_ids_may_be_missing(stage: Stage) -> None:
    answer = wants(ROME)
    del answer["message"]["tool_calls"][0]["id"]
    run = stage.script(answer, said("Rain.")).run([weather])
    assert run.tool_results[0].call.id is None
    asked, told = stage.requests[1]["messages"][1:]
    assert "id" not in asked["tool_calls"][0] and "tool_call_id" not in told
    assert told["tool_name"] == "weather"


# --- endings ------------------------------------------------------------------------------


def test_the_limit_of_rounds_has_the_whole_trajectory(stage: Stage) -> None:
    stage.script(*[wants(ROME)] * 3)
    with pytest.raises(AgentRunError, match="after 3 rounds: raise max_rounds, or use") as caught:
        stage.run([weather], max_rounds=3)
    run = caught.value.run
    assert (run.ending, len(run.rounds), len(run.tool_results)) == ("max_rounds", 3, 2)
    assert len(stage.requests) == 3


def test_the_error_can_be_pickled() -> None:
    with pytest.raises(AgentRunError) as caught:
        Stage().script(said("")).run()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.run) == (str(caught.value), caught.value.run)


def test_a_last_answer_at_the_limit(stage: Stage) -> None:
    stage.script(*[wants(ROME)] * 2, said("It rained all the time."))
    run = stage.run([weather], max_rounds=3, at_limit="answer")
    assert (run.ending, run.text) == ("max_rounds", "It rained all the time.")
    assert ["tools" in each for each in stage.requests] == [True, True, False]


@pytest.mark.slow
def test_a_model_that_calls_one_tool_a_thousand_times(stage: Stage) -> None:
    calls = 0

    def count() -> int:
        """Count."""
        nonlocal calls
        calls += 1
        return calls

    stage.script(wants(*[("count", {})] * 1000), said("Done."))
    run = stage.run([count], max_concurrency=1, at_limit="answer")
    assert (run.ending, run.text, calls) == ("max_tool_calls", "Done.", 100)
    outcomes = [each.outcome for each in run.tool_results]
    assert outcomes == ["succeeded"] * 100 + ["over_limit"] * 900
    assert len([each for each in stage.capture.spans if each.name == "execute_tool count"]) == 1000


def test_a_tool_and_arguments_that_are_wrong_are_told_to_the_model(stage: Stage) -> None:
    stage.script(wants(("delete", {}), ("multiply", {"a": "x"})), said("Sorry."))
    run = stage.run([weather, multiply])
    assert [(each.outcome, each.text) for each in run.tool_results] == [
        ("unknown_tool", "There is no such tool. The tools are: weather, multiply."),
        (
            "invalid_arguments",
            "The arguments are invalid: a: Input should be a valid integer, unable to parse "
            "string as an integer; b: it is missing",
        ),
    ]
    assert [each["content"] for each in stage.requests[1]["messages"][2:]] == [
        each.text for each in run.tool_results
    ]


@pytest.mark.parametrize(
    ("call", "ending", "message"),
    [
        (("delete", {}), "unknown_tool", "does not have; it has: multiply"),
        (("multiply", {"a": "secret"}), "invalid_arguments", "multiply with invalid arguments"),
    ],
)
def test_a_bad_call_can_be_raised(stage: Stage, call: Any, ending: str, message: str) -> None:
    stage.script(wants(call))
    with pytest.raises(AgentRunError, match=message) as caught:
        stage.run([multiply], on_bad_call="raise")
    assert caught.value.run.ending == ending
    assert "secret" not in str(caught.value) and "delete" not in str(caught.value)


class OutOfOrderError(Exception):
    pass


def failing(city: str) -> str:
    """Fail."""
    raise OutOfOrderError(f"no weather in {city}")


async def failing_later(city: str) -> str:
    """Fail."""
    await anyio.lowlevel.checkpoint()
    raise OutOfOrderError(f"no weather in {city}")


@pytest.mark.parametrize("tool", [failing, failing_later])
def test_a_tool_that_raises(stage: Stage, tool: Any) -> None:
    if tool is failing_later and stage.colour.name == "sync":
        tool = asyncio_failing
    name = tool.__name__
    stage.script(wants((name, {"city": "Rome"})), said("Sorry."))
    [result] = stage.run([tool]).tool_results
    assert result.outcome == "failed"
    assert result.text == "The call failed: OutOfOrderError: no weather in Rome"
    assert isinstance(result.error, OutOfOrderError)
    stage.script(wants((name, {"city": "Rome"})))
    with pytest.raises(AgentRunError, match=f"the tool {name} failed") as caught:
        stage.run([tool], on_tool_error="raise")
    assert caught.value.run.ending == "tool_failed"
    assert isinstance(caught.value.__cause__, OutOfOrderError)


async def asyncio_failing(city: str) -> str:
    """Fail."""
    await asyncio.sleep(0)
    raise OutOfOrderError(f"no weather in {city}")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [SilentError(), KeyError()])
def test_an_exception_without_a_text_is_told_by_its_class(stage: Stage, error: Exception) -> None:
    def silent() -> None:
        """Be silent."""
        raise error

    [result] = stage.script(wants(("silent", {})), said("Sorry.")).run([silent]).tool_results
    assert result.text == f"The call failed: {type(error).__name__}"


def test_a_tool_that_returns_what_json_cannot_hold(stage: Stage) -> None:
    def handle() -> object:
        """Handle."""
        return threading.Lock()

    stage.script(wants(("handle", {})), said("Sorry."))
    [result] = stage.run([handle]).tool_results
    assert result.outcome == "failed"
    assert "returned a lock that JSON cannot hold" in result.text


@pytest.mark.parametrize(
    ("answer", "ending", "message"),
    [
        (said(" "), "empty_answer", "neither text nor tool calls"),
        (said("It ra", done_reason="length"), "cut_answer", "num_predict"),
        (said("<function=weather>{}"), "leaked_tool_call", "on_leaked_call='recover'|recover"),
        (said("It ra", done=False), "incomplete_answer", "without its final message"),
    ],
)
def test_an_answer_that_is_none(stage: Stage, answer: Any, ending: str, message: str) -> None:
    stage.script(answer)
    with pytest.raises(AgentRunError, match=message) as caught:
        stage.run([weather])
    assert caught.value.run.ending == ending
    assert caught.value.run.text == answer["message"]["content"]


def test_a_leaked_call_is_recovered(stage: Stage) -> None:
    stage.script(said('<function=weather>{"city": "Rome"}</function>'), said("Rain."))
    run = stage.run([weather], on_leaked_call="recover")
    assert run.text == "Rain."
    assert run.rounds[0].is_recovered
    assert run.tool_results[0].text == "rain in Rome"


# --- tools --------------------------------------------------------------------------------


def test_calls_of_a_round_run_side_by_side_and_keep_their_order(stage: Stage) -> None:
    meet = threading.Barrier(3, timeout=30)

    def join(name: str) -> str:
        """Wait for the others."""
        meet.wait()
        if name == "a":
            time.sleep(0.02)
        return name

    stage.script(wants(*[("join", {"name": name}) for name in "abc"]), said("All."))
    run = stage.run([join], max_concurrency=3)
    assert [each.text for each in run.tool_results] == ["a", "b", "c"]


def test_no_more_than_the_limit_run_at_once(stage: Stage) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(n: int) -> int:
        """Work."""
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return n

    stage.script(wants(*[("work", {"n": n}) for n in range(10)]), said("All."))
    run = stage.run([work], max_concurrency=2)
    assert [each.value for each in run.tool_results] == list(range(10))
    assert most <= 2


def test_async_tools(stage: Stage) -> None:
    async def greet(name: str) -> str:
        """Greet."""
        await (asyncio.sleep(0) if stage.colour.name == "sync" else anyio.lowlevel.checkpoint())
        return f"Hello {name}"

    class Later:
        """Greet."""

        async def __call__(self, name: str) -> str:
            return f"Later {name}"

    def hidden(name: str) -> Any:
        """Greet."""
        return greet(name)

    later: Any = Later()
    calls = [(name, {"name": "Ann"}) for name in ("greet", "Later", "hidden")]
    run = stage.script(wants(*calls), said("Done.")).run([greet, later, hidden])
    assert [each.text for each in run.tool_results] == ["Hello Ann", "Later Ann", "Hello Ann"]


def test_with_one_at_a_time_sync_tools_run_on_the_callers_thread() -> None:
    stage = Stage()
    threads = []

    def note() -> None:
        """Note."""
        threads.append(threading.current_thread())

    stage.script(wants(("note", {}), ("note", {})), said("Done."))
    stage.run([note], max_concurrency=1)
    assert threads == [threading.current_thread()] * 2


request_of: ContextVar[str] = ContextVar("request_of", default="nobody")


def test_tools_see_the_callers_context(stage: Stage) -> None:
    def who() -> str:
        """Who asks."""
        return request_of.get()

    token = request_of.set("ann")
    try:
        run = stage.script(wants(("who", {})), said("Done.")).run([who])
    finally:
        request_of.reset(token)
    assert run.tool_results[0].text == "ann"


@pytest.mark.slow
def test_a_tool_that_takes_too_long(stage: Stage) -> None:
    let_go = threading.Event()

    def wait() -> str:
        """Wait."""
        let_go.wait(30)
        return "late"

    async def sleep() -> str:
        """Sleep."""
        await (asyncio.sleep(30) if stage.colour.name == "sync" else anyio.sleep(30))
        return "late"

    stage.script(wants(("wait", {}), ("sleep", {}), ("weather", {"city": "Rome"})), said("Hm."))
    tools = [AgentTool(function=wait, timeout=0.05), sleep, weather]
    try:
        run = stage.run(tools, tool_timeout=0.2)
    finally:
        let_go.set()
    assert [(each.outcome, each.text) for each in run.tool_results] == [
        ("timed_out", "The call took more than 0.05 s."),
        ("timed_out", "The call took more than 0.2 s."),
        ("succeeded", "rain in Rome"),
    ]


@pytest.mark.slow
def test_a_call_that_timed_out_gives_its_place_to_the_next(stage: Stage) -> None:
    let_go = threading.Event()

    def wait() -> None:
        """Wait."""
        let_go.wait(30)

    stage.script(wants(("wait", {}), ROME), said("Hm."))
    try:
        run = stage.run([AgentTool(function=wait, timeout=0.05), weather], max_concurrency=1)
    finally:
        let_go.set()
    assert [each.outcome for each in run.tool_results] == ["timed_out", "succeeded"]


@pytest.mark.parametrize(
    "error", [StopIteration, StopAsyncIteration, ExceptionGroup("", [OSError()])]
)
def test_a_tool_may_raise_anything(stage: Stage, error: Any) -> None:
    def odd() -> None:
        """Odd."""
        raise error

    [result] = stage.script(wants(("odd", {})), said("Hm.")).run([odd]).tool_results
    assert result.outcome == "failed"


def test_half_of_a_surrogate_pair_does_not_stop_a_run(stage: Stage) -> None:
    answer = wants(("echo", {"text": "x\ud800"}), thinking="\ud800")
    answer["message"]["content"] = "\ud800"

    def echo(text: str) -> str:
        """Echo."""
        return text + "\ud800"

    answer = json.loads(json.dumps(answer))
    body = json.dumps(answer).encode() + b"\n"
    stage.fake.script("/api/chat", Reply.whole(body, "application/x-ndjson"))
    stage.script(said("Done."))
    run = stage.run([echo], prompt="\ud800", keep_thinking=True)
    assert run.tool_results[0].text == "x??"


def test_a_time_out_can_be_raised(stage: Stage) -> None:
    def wait() -> None:
        """Wait."""
        time.sleep(0.2)

    stage.script(wants(("wait", {})))
    with pytest.raises(AgentRunError, match="the tool wait did not return in time") as caught:
        stage.run([wait], tool_timeout=0.01, on_tool_error="raise")
    assert caught.value.run.ending == "tool_timed_out"


def test_a_tools_own_timeout_error_is_a_failure(stage: Stage) -> None:
    def ask() -> None:
        """Ask."""
        raise TimeoutError("nobody answers")

    run = stage.script(wants(("ask", {})), said("Hm.")).run([ask], tool_timeout=30)
    assert run.tool_results[0].outcome == "failed"


def test_a_long_result_is_cut(stage: Stage) -> None:
    def read(n: int) -> str:
        """Read."""
        return "x" * n

    stage.script(wants(("read", {"n": 50}), ("read", {"n": 5})), said("Done."))
    run = stage.run([AgentTool(function=read, max_result_size=20)])
    assert [each.is_cut for each in run.tool_results] == [True, False]
    told = stage.requests[1]["messages"][2]["content"]
    assert told == "x" * 20 + "\n[The result is cut: 30 of 50 characters are left out.]"
    assert run.tool_results[0].value == "x" * 50


# --- approval -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_before_tool_decides(stage: Stage, is_async: bool) -> None:
    seen = []

    def decide(call: ToolCall) -> Any:
        seen.append(call)
        match call.arguments["city"]:
            case "Rome":
                return Deny("Not Rome.")
            case "Oslo":
                return Allow({"city": "Bergen"})
        return Allow()

    async def decide_later(call: ToolCall) -> Any:
        return decide(call)

    stage.script(wants(ROME, OSLO, ("weather", {"city": "Lima"}), ("nothing", {})), said("Done."))
    run = stage.run([weather], before_tool=decide_later if is_async else decide)
    assert [(each.outcome, each.text) for each in run.tool_results] == [
        ("denied", "Not Rome."),
        ("succeeded", "rain in Bergen"),
        ("succeeded", "rain in Lima"),
        ("unknown_tool", "There is no such tool. The tools are: weather."),
    ]
    assert run.tool_results[1].call.arguments == {"city": "Bergen"}
    # Only what could be called is asked for.
    assert [call.arguments["city"] for call in seen] == ["Rome", "Oslo", "Lima"]


def test_replaced_arguments_are_validated(stage: Stage) -> None:
    stage.script(wants(ROME), said("Done."))
    run = stage.run([weather], before_tool=lambda call: Allow({"town": "Rome"}))
    assert run.tool_results[0].outcome == "invalid_arguments"


@pytest.mark.parametrize("decision", [None, True, "yes"])
def test_anything_but_a_decision_is_refused(stage: Stage, decision: Any) -> None:
    stage.script(wants(ROME))
    with pytest.raises(TypeError, match=r"before_tool returns Allow\(\), Deny\(\) or Defer\(\)"):
        stage.run([weather], before_tool=lambda call: decision)
    assert stage.attributes("invoke_agent")["ollama.agent.ending"] == "hook_failed"


def test_what_before_tool_raises_is_the_callers(stage: Stage) -> None:
    def decide(call: ToolCall) -> Any:
        raise OutOfOrderError

    stage.script(wants(ROME))
    with pytest.raises(OutOfOrderError):
        stage.run([weather], before_tool=decide)
    assert stage.attributes("invoke_agent")["ollama.agent.ending"] == "hook_failed"
    assert stage.attributes("execute_tool weather")["ollama.tool.outcome"] == "cancelled"


def test_a_deferred_call_is_answered_later(stage: Stage) -> None:
    stage.script(wants(ROME, OSLO), said("Rain and sun."))
    run = stage.run(
        [weather],
        before_tool=lambda call: Defer() if call.arguments["city"] == "Rome" else Allow(),
    )
    assert run.ending == "deferred"
    [deferred] = run.deferred
    assert deferred.arguments == {"city": "Rome"}
    history = [*run.history, tool_message(deferred, "sun")]
    again = stage.run([weather], prompt=None, history=history)
    assert again.text == "Rain and sun."
    told = [each for each in stage.requests[1]["messages"] if each["role"] == "tool"]
    assert [(each["tool_call_id"], each["content"]) for each in told] == [
        ("call_1", "rain in Oslo"),
        ("call_0", "sun"),
    ]


def test_options_may_be_the_official_ones(stage: Stage) -> None:
    stage.script(said("Hello.")).run(options=ollama.Options(seed=1))
    assert stage.requests[0]["options"] == {"seed": 1}


def test_a_schema_without_a_function_is_deferred(stage: Stage) -> None:
    schema = {"type": "function", "function": {"name": "elsewhere", "parameters": {}}}
    run = stage.script(wants(("elsewhere", {"x": 1}))).run([schema])
    assert run.ending == "deferred"
    assert [call.name for call in run.deferred] == ["elsewhere"]


# --- wrong use ----------------------------------------------------------------------------


class Person(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rounds": 0}, "max_rounds of 1 or more, found 0"),
        ({"max_rounds": 1, "at_limit": "answer"}, "max_rounds of 2 or more, found 1: the last"),
        ({"max_rounds": 1, "format": "json"}, "max_rounds of 2 or more"),
        ({"max_tool_calls": -1}, "max_tool_calls of 0 or more"),
        ({"max_concurrency": 0}, "max_concurrency of 1 or more"),
        ({"max_result_size": 0}, "max_result_size of 1 or more"),
        ({"tool_timeout": 0}, "tool_timeout above 0 s"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Stage().run([weather], **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "model to be a text that is not empty, found ''"),
        ({"model": None}, "model to be a text that is not empty"),
        ({"model": 5}, "model to be a text that is not empty, found 5"),
        ({"name": ""}, "name to be a text that is not empty"),
        ({"name": 5}, "name to be a text that is not empty"),
        ({"system": 5}, "system to be a text, found 5"),
        ({"max_rounds": "3"}, "max_rounds to be a whole number, found '3'"),
        ({"max_tool_calls": 2.5}, "max_tool_calls to be a whole number"),
        ({"max_concurrency": None}, "max_concurrency to be a whole number"),
        ({"max_result_size": True}, "max_result_size to be a whole number"),
        ({"tool_timeout": "3"}, "tool_timeout to be a number of seconds, found '3'"),
        ({"tool_timeout": float("nan")}, "tool_timeout to be a number of seconds"),
        ({"at_limit": "stop"}, "at_limit to be 'raise' or 'answer', found 'stop'"),
        ({"on_bad_call": "tel"}, "on_bad_call to be 'tell' or 'raise'"),
        ({"on_tool_error": "ignore"}, "on_tool_error to be 'tell' or 'raise'"),
        ({"on_leaked_call": []}, "on_leaked_call to be 'raise' or 'recover'"),
        ({"before_tool": "ask"}, "before_tool to be a function"),
        ({"options": 5}, "options to be a mapping"),
        ({"format": "xml"}, "format to be a JSON schema or 'json'"),
        ({"format": Person}, r"model_json_schema\(\)\), found <class .*Person'>"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_run(
    settings: dict[str, Any], message: str
) -> None:
    """Not in the last of ten rounds, and a mistyped choice is not taken for the other one."""
    with pytest.raises(SettingsError, match=message):
        Agent(**{"client": ollama.Client(), "model": MODEL, "tools": [weather], **settings})


@pytest.mark.parametrize("client", [None, object(), "http://127.0.0.1:11434", ollama.Client])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(AgentError, match="expected a Client or an AsyncClient, found"):
        Agent(client, MODEL)


@pytest.mark.parametrize("tools", [weather, "weather", {"type": "function"}, ollama.Tool(), 5])
def test_one_tool_without_a_list_is_refused(tools: Any) -> None:
    with pytest.raises(ToolSchemaError, match="expected a list of tools"):
        Agent(ollama.Client(), MODEL, tools)


def test_tools_may_come_from_a_generator_that_has_none(stage: Stage) -> None:
    tools: Any = (each for each in ())
    assert stage.script(said("Hi.")).run(tools, max_rounds=1, at_limit="answer").text == "Hi."


def test_a_client_of_the_other_colour_is_refused() -> None:
    agent = Agent(ollama.AsyncClient(), MODEL)
    with pytest.raises(AgentError, match="async client: use `arun` or `astream`"):
        agent.run("Hi")
    with pytest.raises(AgentError, match="sync client: use `run` or `stream`"):
        Agent(ollama.Client(), MODEL).astream("Hi")


def test_nothing_to_say_is_refused(stage: Stage) -> None:
    with pytest.raises(AgentError, match="nothing to answer"):
        stage.run(prompt=None)


def test_an_official_client_works_without_telemetry() -> None:
    fake = FakeOllama()
    fake.script("/api/chat", *Stage().script(wants(ROME), said("Rain.")).fake._scripts["/api/chat"])
    client = ollama.Client("http://fake", transport=fake.transport())
    with httpx.Client(transport=fake.transport()):
        assert Agent(client, MODEL, [weather]).run("Go").text == "Rain."
