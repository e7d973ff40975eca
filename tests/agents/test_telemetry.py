"""Spans and metrics of runs: one tree, nothing counted twice, no content unless it is on."""

from __future__ import annotations

import json
import logging
from typing import Any

import ollama
import pytest
from dirty_equals import IsFloat, IsPositiveFloat
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from ollama_otel import Client, call_context, uninstrument_client
from ollama_otel._bounds import LONGEST_NAME
from ollama_otel._exchange.agent_runs import AgentTracing
from ollama_otel._guard import guard
from ollama_otel.instrumentation import Instrumentation, build_instrumentation
from ollama_otel.redaction import BUILT_IN
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture
from ollama_otel.tools import Agent, AgentRunError, Defer, Deny
from tests.colours import COLOURS

from .scripted import MODEL, Stage, multiply, said, wants, weather

ROME = ("weather", {"city": "Rome"})
CONTENT = Settings(capture_content="span_only")


@pytest.fixture(params=COLOURS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_run_is_one_tree_without_a_span_for_each_round(colour: str, streams: bool) -> None:
    stage = Stage(colour, streams=streams)
    stage.script(wants(ROME, ("multiply", {"a": 2, "b": 3})), said("Rain, and 6."))
    tracer = stage.capture.tracer_provider.get_tracer("app")

    def lookup(city: str) -> str:
        """Look up."""
        with tracer.start_as_current_span("database"):
            return city

    lookup.__name__ = "weather"
    with tracer.start_as_current_span("request"):
        stage.run([lookup, multiply], name="helper", max_concurrency=1)
        assert trace.get_current_span().is_recording()
    tree = stage.tree()
    assert tree.pop("invoke_agent helper")[0] == f"chat {MODEL}"
    assert tree == {
        "request": ["invoke_agent helper"],
        "execute_tool weather": ["database"],
    }
    children = [s.name for s in stage.capture.spans if s.parent and s.name != "database"]
    assert sorted(children) == [
        *[f"chat {MODEL}"] * 2,
        *("execute_tool multiply", "execute_tool weather", "invoke_agent helper"),
    ]


def test_the_attributes_of_a_run_and_of_a_tool_call(stage: Stage) -> None:
    stage.script(wants(ROME, thinking="Hm."), said("Rain."), said("{}"))
    with call_context(conversation_id="c1", user_id="u1", tags={"team": "blue"}):
        stage.run([weather], name="helper", format="json")
    assert stage.attributes("invoke_agent helper") == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "ollama",
        "gen_ai.agent.name": "helper",
        "gen_ai.request.model": MODEL,
        "gen_ai.output.type": "json",
        "gen_ai.conversation.id": "c1",
        "user.id": "u1",
        "ollama.tag.team": "blue",
        "ollama.agent.ending": "answered",
        "ollama.agent.rounds": 3,
        "ollama.agent.tool_calls": 1,
        "ollama.agent.input_tokens": 30,
        "ollama.agent.output_tokens": 9,
        "ollama.agent.thinking_length": 3,
    }
    assert stage.attributes("execute_tool weather") == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "weather",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_0",
        "user.id": "u1",
        "ollama.tag.team": "blue",
        "ollama.tool.outcome": "succeeded",
    }
    assert all(each.status.status_code is StatusCode.UNSET for each in stage.capture.spans)


def test_the_metrics_of_a_run(stage: Stage) -> None:
    stage.script(wants(ROME, ("nonsense", {})), said("Rain."))
    stage.run([weather], name="helper")
    metrics = stage.capture.metrics()

    def points(name: str) -> list[tuple[dict[str, Any], float]]:
        return [(each.attributes, each.value) for each in metrics[name]]

    agent = {"gen_ai.agent.name": "helper"}
    model = {**agent, "gen_ai.request.model": MODEL}
    assert points("gen_ai.invoke_agent.duration") == [
        ({**model, "ollama.agent.ending": "answered"}, IsPositiveFloat)
    ]
    span = stage.span("invoke_agent helper")
    assert span.start_time is not None and span.end_time is not None
    [(_, seconds)] = points("gen_ai.invoke_agent.duration")
    assert seconds == pytest.approx((span.end_time - span.start_time) / 1e9, abs=1e-6)
    assert points("gen_ai.invoke_agent.inference_calls") == [(agent, 2)]
    assert points("gen_ai.invoke_agent.tool_calls") == [(agent, 2)]
    assert points("ollama.agent.input_tokens") == [(model, 20)]
    assert points("ollama.agent.output_tokens") == [(model, 6)]
    tool = {**agent, "gen_ai.tool.type": "function"}
    assert points("gen_ai.execute_tool.duration") == [
        (
            {
                **tool,
                "gen_ai.tool.name": "_OTHER",
                "ollama.tool.outcome": "unknown_tool",
                "error.type": "unknown_tool",
            },
            IsFloat,
        ),
        ({**tool, "gen_ai.tool.name": "weather", "ollama.tool.outcome": "succeeded"}, IsFloat),
    ]


def test_tokens_are_unknown_if_one_call_does_not_report_them(stage: Stage) -> None:
    silent = said("Rain.")
    del silent["eval_count"]
    stage.script(wants(ROME), silent)
    run = stage.run([weather])
    assert (run.input_tokens, run.output_tokens) == (20, None)
    attributes = stage.attributes("invoke_agent")
    assert attributes["ollama.agent.input_tokens"] == 20
    assert "ollama.agent.output_tokens" not in attributes
    assert "ollama.agent.output_tokens" not in stage.capture.metrics()


class BrokenToolError(Exception):
    pass


def broken() -> None:
    """Break."""
    raise BrokenToolError("secret-of-the-tool")


def test_failed_tool_calls_have_spans_and_their_kind(stage: Stage) -> None:
    stage.script(wants(("broken", {}), ("multiply", {"a": "x"}), ("nonsense", {})), said("Sorry."))
    stage.run([broken, multiply])
    found = {
        span.name: (
            dict(span.attributes or {})["ollama.tool.outcome"],
            dict(span.attributes or {})["error.type"],
            span.status.status_code,
            span.status.description,
        )
        for span in stage.capture.spans
        if span.name.startswith("execute_tool")
    }
    kind = f"{__name__}.BrokenToolError"
    assert found == {
        "execute_tool broken": ("failed", kind, StatusCode.ERROR, None),
        "execute_tool multiply": (
            *("invalid_arguments", "invalid_arguments", StatusCode.ERROR, None),
        ),
        "execute_tool _OTHER": ("unknown_tool", "unknown_tool", StatusCode.ERROR, None),
    }
    # The model was told, and answered.
    assert stage.span("invoke_agent").status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(("decision", "outcome"), [(Deny("No."), "denied"), (Defer(), "deferred")])
def test_denied_and_deferred_calls_are_no_errors(stage: Stage, decision: Any, outcome: str) -> None:
    stage.script(wants(ROME), said("Well."))
    stage.run([weather], before_tool=lambda call: decision)
    span = stage.span("execute_tool weather")
    assert stage.attributes("execute_tool weather")["ollama.tool.outcome"] == outcome
    assert span.status.status_code is StatusCode.UNSET
    assert stage.span("invoke_agent").status.status_code is StatusCode.UNSET
    assert all("error.type" not in (each.attributes or {}) for each in stage.capture.spans)


def test_a_run_that_raises_has_its_ending_as_error_type(stage: Stage) -> None:
    stage.script(*[wants(ROME)] * 2)
    with pytest.raises(AgentRunError):
        stage.run([weather], max_rounds=2, name="helper")
    span = stage.span("invoke_agent helper")
    assert stage.attributes("invoke_agent helper")["error.type"] == "max_rounds"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    [point] = stage.capture.metrics()["gen_ai.invoke_agent.duration"]
    assert point.attributes["error.type"] == point.attributes["ollama.agent.ending"] == "max_rounds"


# --- content ------------------------------------------------------------------------------

KEY = "AKIAIOSFODNN7EXAMPLE"


def reveal(topic: str) -> str:
    """Reveal."""
    return f"result-text about {topic}, {KEY}"


def leaky(topic: str) -> None:
    """Leak."""
    raise BrokenToolError(f"error-text about {topic}")


def everything(stage: Stage) -> None:
    stage.script(
        wants(
            ("reveal", {"topic": f"argument-text {KEY}"}),
            ("leaky", {"topic": "argument-text"}),
            ("invented-text", {"x": "argument-text"}),
            ("reveal", {"topic": {"argument-text": 1}}),
            thinking="thinking-text",
        ),
        said("answer-text"),
    )
    stage.run([reveal, leaky], system="system-text", prompt="prompt-text")


def all_that_went_out(capture: Capture) -> str:
    spans = [each.to_json() for each in capture.spans]
    logs = [str(each.log_record) for each in capture.events]
    metrics = [str(each.attributes) for many in capture.metrics().values() for each in many]
    return "\n".join([*spans, *logs, *metrics])


def test_without_content_nothing_of_it_goes_out(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        everything(stage)
    out = all_that_went_out(stage.capture) + caplog.text
    assert "reveal" in out
    for text in ("argument", "result", "error", "invented", "thinking", "answer", "system"):
        assert f"{text}-text" not in out
    assert "prompt-text" not in out and KEY not in out


def test_with_content_it_is_there_and_redacted(stage: Stage) -> None:
    stage.settings = Settings(capture_content="span_only", redactors=BUILT_IN)
    everything(stage)
    spans = [dict(s.attributes or {}) for s in stage.capture.spans if "execute_tool" in s.name]
    by_name = {each["gen_ai.tool.name"]: each for each in spans if "error.type" not in each}
    good = by_name["reveal"]
    assert json.loads(good["gen_ai.tool.call.arguments"])["topic"].startswith("argument-text ")
    assert good["gen_ai.tool.call.result"].startswith("result-text about argument-text ")
    assert good["gen_ai.tool.description"] == "Reveal."
    assert KEY not in all_that_went_out(stage.capture)
    failed = next(s for s in stage.capture.spans if s.name == "execute_tool leaky")
    assert failed.status.description == (
        "The call failed: BrokenToolError: error-text about argument-text"
    )
    assert "gen_ai.tool.call.result" not in (failed.attributes or {})
    invented = next(s for s in stage.capture.spans if s.name == "execute_tool _OTHER")
    assert dict(invented.attributes or {})["gen_ai.tool.name"] == "invented-text"
    # Not even then in a label.
    metrics = str([p.attributes for p in stage.capture.metrics()["gen_ai.execute_tool.duration"]])
    assert "-text" not in metrics


def test_content_fits_into_the_limit_of_attributes() -> None:
    from opentelemetry.sdk.trace import SpanLimits

    stage = Stage(settings=CONTENT)
    stage.capture.tracer_provider = TracerProvider(span_limits=SpanLimits(max_attribute_length=100))
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    stage.capture.tracer_provider.add_span_processor(SimpleSpanProcessor(stage.capture._spans))

    def big(text: str) -> dict[str, str]:
        """Big."""
        return {"text": text * 2}

    stage.script(wants(("big", {"text": "x" * 500})), said("Done."))
    stage.run([big])
    attributes = stage.attributes("execute_tool big")
    for name in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"):
        assert len(attributes[name]) <= 100
        assert "cut" in json.loads(attributes[name])["text"]


def test_a_result_that_is_an_object_is_json_and_others_are_text() -> None:
    stage = Stage(settings=CONTENT)

    def look(what: str) -> Any:
        """Look."""
        return {"a": 1} if what == "object" else "plain"

    stage.script(wants(("look", {"what": "object"}), ("look", {"what": "text"})), said("Done."))
    stage.run([look])
    results = [
        dict(span.attributes or {})["gen_ai.tool.call.result"]
        for span in stage.capture.spans
        if span.name == "execute_tool look"
    ]
    assert sorted(results) == ["plain", '{"a":1}']


@pytest.mark.parametrize("given", ["prompt text of the user", "x" * 65, ""])
def test_an_id_that_is_a_text_is_left_out(given: str) -> None:
    answer = wants(ROME)
    answer["message"]["tool_calls"][0]["id"] = given
    stage = Stage().script(answer, said("Rain."))
    stage.run([weather])
    assert "gen_ai.tool.call.id" not in stage.attributes("execute_tool weather")


def test_an_unsampled_run_has_metrics() -> None:
    stage = Stage().script(wants(ROME), said("Rain."))
    stage.capture = Capture(sampler=ALWAYS_OFF)
    stage.run([weather])
    assert stage.capture.spans == []
    assert stage.capture.total("gen_ai.invoke_agent.duration") == 1
    assert stage.capture.total("gen_ai.execute_tool.duration") == 1


# --- labels -------------------------------------------------------------------------------


@pytest.mark.slow
def test_invented_names_and_many_names_make_few_series() -> None:
    stage = Stage()

    def make(number: int) -> Any:
        def tool() -> str:
            """Do."""
            return "x"

        tool.__name__ = f"tool_{number}"
        return tool

    for number in range(230):
        stage.script(wants((f"tool_{number}", {}), (f"invented_{number}", {})), said("Done."))

    async def scenario(client: Any) -> None:
        for number in range(230):
            Agent(client, MODEL, [make(number)], name=f"agent_{number}").run("Go")

    stage.play(scenario)
    points = stage.capture.metrics()["gen_ai.execute_tool.duration"]
    tools = {each.attributes["gen_ai.tool.name"] for each in points}
    agents = {each.attributes["gen_ai.agent.name"] for each in points}
    assert len(tools) == 201 and "_OTHER" in tools
    assert len(agents) == 101 and "_OTHER" in agents
    assert not any(name.startswith("invented") for name in tools)


# --- where it goes ------------------------------------------------------------------------


def test_long_names_are_cut_as_those_of_calls_are() -> None:
    long = "n" * 100_000

    def tool() -> str:
        """Return nothing."""
        return ""

    tool.__name__ = long
    settings = Settings(capture_content="span_only", profile="gen-ai-dev")
    stage = Stage(settings=settings).script(wants((long, {}), ("u" * 100_000, {})), said("Done."))
    client = stage.client()
    Agent(client, long, [tool], name=long).run("Go")
    for span in stage.capture.spans:
        attributes = dict(span.attributes or {})
        assert len(span.name) < 600
        for name in ("gen_ai.agent.name", "gen_ai.request.model", "gen_ai.tool.name"):
            assert len(str(attributes.get(name, ""))) <= LONGEST_NAME, (span.name, name)
    models = {
        span.attributes["gen_ai.request.model"]
        for span in stage.capture.spans
        if span.attributes and "gen_ai.request.model" in span.attributes
    }
    assert len(models) == 1


def test_it_goes_where_the_clients_calls_go() -> None:
    others = Capture()
    stage = Stage()
    stage.script(said("Hello."))
    instrumentation = build_instrumentation(
        tracer_provider=others.tracer_provider, meter_provider=others.meter_provider
    )
    client = Client(
        "http://fake", transport=stage.fake.transport(), instrumentation=instrumentation
    )
    Agent(client, MODEL).run("Hi")
    assert [each.name for each in others.spans] == [f"chat {MODEL}", "invoke_agent"]
    assert "gen_ai.invoke_agent.duration" in others.metrics()


def test_an_official_client_that_is_instrumented_or_not() -> None:
    from ollama_otel import instrument_client

    stage = Stage().script(said("Hello."), said("Hello."))
    client = instrument_client(
        ollama.Client("http://fake", transport=stage.fake.transport()), **stage.options
    )
    agent = Agent(client, MODEL)
    agent.run("Hi")
    assert stage.tree() == {"invoke_agent": [f"chat {MODEL}"]}
    stage.capture.clear()
    uninstrument_client(client)
    agent.run("Hi")
    assert stage.capture.spans == []


def test_suppressed_instrumentation_is_respected() -> None:
    stage = Stage().script(wants(ROME), said("Rain."))
    with suppress_instrumentation():
        stage.run([weather])
    assert stage.capture.spans == []
    assert "gen_ai.invoke_agent.duration" not in stage.capture.metrics()


def test_the_span_is_not_current_while_the_caller_has_the_stream() -> None:
    stage = Stage(streams=True).script(wants(ROME), said("It\nrains."))

    async def scenario(client: Any) -> None:
        with Agent(client, MODEL, [weather]).stream("Go") as stream:
            for _ in stream:
                assert not trace.get_current_span().get_span_context().is_valid

    stage.play(scenario)
    assert [each.name for each in stage.capture.spans if each.parent is None] == ["invoke_agent"]


class FaultyTracing(AgentTracing):
    def begin(self, start: Any) -> Any:
        raise RuntimeError("broken")


class FaultyTraces(AgentTracing):
    def begin(self, start: Any) -> Any:
        return FaultyTrace()


class FaultyTrace:
    def current(self) -> Any:
        raise RuntimeError("broken")

    def tool(self, start: Any) -> Any:
        return self

    def end(self, record: Any) -> Any:
        raise RuntimeError("broken")


class FaultyBlock(FaultyTrace):
    def current(self) -> Any:
        return self

    def tool(self, start: Any) -> Any:
        raise RuntimeError("broken")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        raise RuntimeError("broken")


class FaultyBlocks(AgentTracing):
    def begin(self, start: Any) -> Any:
        return FaultyBlock()


@pytest.mark.parametrize("tracing", [FaultyTracing(), FaultyTraces(), FaultyBlocks()])
def test_a_fault_of_tracing_does_not_reach_the_caller(
    tracing: AgentTracing, quiet_guard: None
) -> None:
    stage = Stage().script(wants(ROME), said("Rain."))
    client = Client(
        "http://fake",
        transport=stage.fake.transport(),
        instrumentation=Instrumentation(agents=tracing),
    )
    assert Agent(client, MODEL, [weather]).run("Go").text == "Rain."
    assert guard.faults
