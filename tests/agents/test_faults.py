"""Whatever stops a run, it ends once, with all its spans, and the caller gets what was raised."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import ollama
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from ollama_otel import Client
from ollama_otel._agent.job import MOST_NESTED, nesting
from ollama_otel._exchange import open_calls
from ollama_otel.errors import AgentError
from ollama_otel.testing import FakeOllama, Fault, Reply
from ollama_otel.tools import Agent, AgentRunError
from tests.colours import COLOURS, done, each
from tests.examples import examples

from .scripted import MODEL, Stage, multiply, said, wants, weather

ROME = ("weather", {"city": "Rome"})

# Trio warns of generators left behind, as the official client leaves httpx's when it fails.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)


class Balance(SpanProcessor):
    """Counts the spans that begin and end, each by its id."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.ended: list[int] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.open.add(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        assert span.context is not None
        self.open.remove(span.context.span_id)
        self.ended.append(span.context.span_id)


class BalancedStage(Stage):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.balance = Balance()
        self.capture.tracer_provider.add_span_processor(self.balance)

    def check(self, ending: str) -> None:
        """All spans have ended, and the run like this."""
        assert self.balance.open == set()
        assert self.attributes("invoke_agent")["ollama.agent.ending"] == ending
        # Each child within its parent.
        run = self.span("invoke_agent")
        for span in self.capture.spans:
            assert span.start_time is not None and run.start_time is not None
            assert span.start_time >= run.start_time
        assert open_calls._open == set()


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stage(request: pytest.FixtureRequest, colour: str) -> BalancedStage:
    return BalancedStage(colour, streams=request.param)


# --- the server ---------------------------------------------------------------------------


def test_a_server_that_restarts_in_the_middle(colour: str) -> None:
    stage = BalancedStage(colour, streams=True).script(wants(("restart", {})))

    def restart() -> str:
        """Restart."""
        stage.fake.fault("/api/chat", Fault(refuse=True))
        return "soon"

    async def scenario(client: Any) -> Any:
        agent = Agent(client, MODEL, [restart])
        stream: Any = agent.astream("Go") if stage.colour.is_async else agent.stream("Go")
        with pytest.raises((ConnectionError, httpx.ConnectError)):
            async for _ in each(stream):
                pass
        return stream.run

    run = stage.play(scenario)
    stage.check("call_failed")
    assert (run.ending, len(run.rounds)) == ("call_failed", 1)
    # Nothing is lost: another run goes on from there.
    stage.script(said("It is back."))
    assert stage.run([restart], prompt=None, history=run.history).text == "It is back."
    assert [message["role"] for message in stage.requests[-1]["messages"]] == [
        *("user", "assistant", "tool")
    ]


def test_a_call_that_the_server_refuses(stage: BalancedStage) -> None:
    stage.script(wants(ROME))
    stage.fake.script("/api/chat", Reply.error(500, "error parsing tool call: secret-text"))
    with pytest.raises(ollama.ResponseError, match="error parsing tool call") as caught:
        stage.run([weather])
    assert caught.value.status_code == 500
    stage.check("call_failed")
    assert stage.attributes("invoke_agent")["ollama.agent.rounds"] == 2
    # One of its calls has no counts.
    assert "ollama.agent.input_tokens" not in stage.attributes("invoke_agent")


@pytest.mark.parametrize("colour", COLOURS)
def test_an_error_in_mid_stream(colour: str) -> None:
    stage = BalancedStage(colour, streams=True).script(said("It\nrains\ntoday."))
    stage.fake.fault("/api/chat", Fault(error_at=2))
    with pytest.raises(ollama.ResponseError):
        stage.run([weather])
    stage.check("call_failed")


def test_a_model_that_does_not_know_tools(stage: BalancedStage) -> None:
    stage.fake.script(
        "/api/chat", Reply.error(400, "registry.ollama.ai/library/m:latest does not support tools")
    )
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        stage.run([weather])
    stage.check("call_failed")


# --- the caller stops it ------------------------------------------------------------------


def events_of(colour: str) -> int:
    stage = Stage(colour, streams=True).script(*ANSWERS)
    stage.run([weather, multiply])
    return len(stage.events)


ANSWERS = (
    wants(ROME, ("multiply", {"a": 2, "b": 3}), thinking="Hm."),
    wants(ROME),
    said("It\nrains\ntoday."),
)


@pytest.mark.slow
@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_may_be_closed_after_any_event(colour: str) -> None:
    total = events_of(colour)
    assert total == 11
    for after in range(1, total):
        stage = BalancedStage(colour, streams=True).script(*ANSWERS)

        async def scenario(client: Any, stage: BalancedStage = stage, after: int = after) -> None:
            agent = Agent(client, MODEL, [weather, multiply])
            if stage.colour.is_async:
                async with agent.astream("Go") as events:
                    for _ in range(after):
                        await anext(events)
                assert events.run.ending == "abandoned"
                return
            with agent.stream("Go") as stream:
                for _ in range(after):
                    next(stream)
            assert stream.run.ending == "abandoned"

        stage.play(scenario)
        stage.check("abandoned")
        assert stage.span("invoke_agent").status.is_ok or stage.span("invoke_agent").status.is_unset
        # The server is not asked any more.
        assert all(record.outcome in {"completed", "abandoned"} for record in stage.capture.records)


def test_a_stream_that_is_never_begun_leaves_nothing() -> None:
    stage = BalancedStage(streams=True)
    client = stage.client()
    Agent(client, MODEL).stream("Go").close()
    assert stage.capture.spans == []
    assert stage.requests == []


@pytest.mark.slow
def test_a_stream_that_is_dropped_ends() -> None:
    stage = BalancedStage(streams=True).script(*ANSWERS)
    stream = Agent(stage.client(), MODEL, [weather, multiply]).stream("Go")
    next(stream)
    del stream
    gc.collect()
    stage.check("abandoned")


@pytest.mark.slow
def test_a_stream_that_was_dropped_in_a_cycle_ends_later() -> None:
    stage = BalancedStage(streams=True).script(*ANSWERS)
    stream: Any = Agent(stage.client(), MODEL, [weather, multiply]).stream("Go")
    next(stream)
    stream.itself = stream
    del stream
    gc.collect()
    # The collector may run where a lock of the SDK is held.
    assert stage.capture.spans == []
    stage.capture.metrics()  # one of the moments at which it may end
    stage.check("abandoned")


def test_a_closed_stream_stays_as_it_ended() -> None:
    stage = BalancedStage(streams=True).script(said("Hello."))
    with Agent(stage.client(), MODEL).stream("Go") as stream:
        list(stream)
    stream.close()
    assert stream.run.ending == "answered"
    stage.check("answered")


class Stop(BaseException):
    pass


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, Stop])
@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("timeout", [None, 30])
def test_what_stops_the_program_in_a_tool_comes_through(
    stop: Any, most: int, timeout: float | None
) -> None:
    def interrupt(city: str) -> str:
        """Interrupt."""
        raise stop

    stage = BalancedStage().script(wants(("interrupt", {"city": "x"}), ROME))
    client = stage.client()
    with pytest.raises(stop):
        Agent(client, MODEL, [interrupt, weather], max_concurrency=most, tool_timeout=timeout).run(
            "Go"
        )
    stage.check("cancelled")
    assert stage.attributes("execute_tool interrupt")["ollama.tool.outcome"] == "cancelled"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, Stop])
@pytest.mark.parametrize("colour", COLOURS[1:])
def test_what_stops_the_program_in_a_tool_on_a_thread_comes_through(stop: Any, colour: str) -> None:
    def interrupt() -> str:
        """Interrupt."""
        raise stop

    stage = BalancedStage(colour).script(wants(("interrupt", {}), ("_sleep_forever", {})))
    with pytest.raises(stop):
        stage.run([interrupt, _sleep_forever])
    stage.check("cancelled")


@pytest.mark.parametrize("colour", COLOURS[1:])
def test_what_stops_the_program_in_an_async_tool_comes_through(colour: str) -> None:
    async def interrupt() -> str:
        """Interrupt."""
        raise Stop

    stage = BalancedStage(colour).script(wants(("interrupt", {}), ("_sleep_forever", {})))
    with pytest.raises(Stop):
        stage.run([interrupt, _sleep_forever])
    stage.check("cancelled")


def test_an_interrupt_of_a_call_of_the_model_comes_through() -> None:
    class Interrupting(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

    stage = BalancedStage()
    client = Client("http://fake", transport=Interrupting(), **stage.options)
    with pytest.raises(KeyboardInterrupt):
        Agent(client, MODEL).run("Go")
    stage.check("cancelled")


async def _sleep_forever() -> str:
    """Sleep."""
    await anyio.sleep_forever()
    return ""


def sleeping_tool(started: Callable[[], None], *, is_async: bool, release: threading.Event) -> Any:
    if is_async:

        async def wait() -> str:
            """Wait."""
            started()
            await anyio.sleep_forever()
            return ""

        return wait

    def wait_on_thread() -> str:
        """Wait."""
        started()
        release.wait(30)
        return ""

    wait_on_thread.__name__ = "wait"
    return wait_on_thread


@pytest.mark.parametrize("is_async", [True, False], ids=["async-tool", "sync-tool"])
@pytest.mark.parametrize("colour", COLOURS[1:])
def test_a_task_that_is_cancelled_in_a_tool(colour: str, is_async: bool) -> None:
    stage = BalancedStage(colour).script(wants(("wait", {}), ("wait", {})))
    release, started = threading.Event(), threading.Event()

    async def scenario(client: Any) -> None:
        tool = sleeping_tool(started.set, is_async=is_async, release=release)
        async with anyio.create_task_group() as group:
            group.start_soon(Agent(client, MODEL, [tool]).arun, "Go")
            while not started.is_set():  # noqa: ASYNC110 - a tool on a thread sets it
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()

    try:
        stage.play(scenario)
    finally:
        release.set()
    stage_ending = stage.attributes("invoke_agent")["ollama.agent.ending"]
    assert stage_ending == "cancelled"
    assert stage.balance.open == set()
    assert stage.span("invoke_agent").status.is_unset
    outcomes = [
        dict(span.attributes or {})["ollama.tool.outcome"]
        for span in stage.capture.spans
        if span.name == "execute_tool wait"
    ]
    assert outcomes == ["cancelled", "cancelled"]


@pytest.mark.slow
@pytest.mark.parametrize("colour", COLOURS[1:])
def test_a_task_that_is_cancelled_in_a_call_of_the_model(colour: str) -> None:
    fake = FakeOllama()
    stage = BalancedStage(colour, streams=True, fake=fake).script(said("It\nrains\ntoday."))
    fake.fault("/api/chat", Fault(stall_at=1, stall=30))

    async def scenario(client: Any) -> None:
        with anyio.move_on_after(0.05):
            async with Agent(client, MODEL).astream("Go") as stream:
                async for _ in stream:
                    pass

    stage.play(scenario)
    stage.check("cancelled")


@pytest.mark.slow
def test_a_cancelled_asyncio_task_raises_what_it_should() -> None:
    stage = BalancedStage("asyncio").script(wants(("_sleep_forever", {})))

    async def scenario(client: Any) -> None:
        task = asyncio.create_task(Agent(client, MODEL, [_sleep_forever]).arun("Go"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    stage.play(scenario)
    stage.check("cancelled")


# --- the telemetry ends -------------------------------------------------------------------


@pytest.mark.parametrize("in_tool", [True, False])
def test_the_end_of_the_telemetry_ends_the_spans_and_not_the_run(in_tool: bool) -> None:
    stage = BalancedStage(streams=True).script(wants(("shut_down", {})), said("It\nrains."))

    def shut_down() -> str:
        """Shut down."""
        if in_tool:
            assert open_calls.end_all()
            assert stage.balance.open == set()
        return "down"

    stream = Agent(stage.client(), MODEL, [shut_down]).stream("Go")
    events = [next(stream)]
    if not in_tool:
        assert open_calls.end_all()
    events += stream
    run = stream.run
    assert (run.ending, run.text) == ("answered", "It\nrains.")
    assert run.tool_results[0].outcome == "succeeded"
    assert stage.attributes("invoke_agent")["ollama.agent.ending"] == "cancelled"
    assert stage.span("invoke_agent").status.is_unset
    assert stage.balance.open == set()


HANGS = """
import asyncio, sys, threading
from ollama_otel import AsyncClient, Client
from ollama_otel.testing import Capture, FakeOllama, Reply
from ollama_otel.tools import Agent

def hang() -> str:
    "Hang."
    print("hangs", flush=True)
    threading.Event().wait()

fake, capture = FakeOllama(), Capture()
call = {"function": {"name": "hang", "arguments": {}}}
message = {"role": "assistant", "content": "", "tool_calls": [call]}
fake.script("/api/chat", Reply.json({"model": "llama3.2", "message": message, "done": True}))

async def go(timeout):
    async with AsyncClient("http://fake", transport=fake.transport(), **capture.options) as client:
        return await Agent(client, "llama3.2", [hang], tool_timeout=timeout).arun("Go")

kind, timeout = sys.argv[1], float(sys.argv[2]) or None
try:
    if kind == "async":
        run = asyncio.run(go(timeout))
    else:
        client = Client("http://fake", transport=fake.transport(), **capture.options)
        run = Agent(client, "llama3.2", [hang], tool_timeout=timeout).run("Go")
    print(run.tool_results[0].outcome)
except KeyboardInterrupt:
    print("interrupted")
for span in capture.spans:
    if "chat" not in span.name:
        kind = "ending" if "agent" in span.name else "outcome"
        print(span.name, *[v for k, v in span.attributes.items() if k.endswith(kind)])
"""


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_tool_that_hangs_does_not_keep_the_process_alive(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, kind, "0.1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *("hangs", "timed_out", "execute_tool hang timed_out", "invoke_agent answered")
    ]


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGINT to send")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_interrupt_stops_a_run_whose_tool_hangs(kind: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, kind, "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "hangs\n"
        running.send_signal(signal.SIGINT)
        try:
            said, complaint = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (running.returncode, complaint) == (0, "")
    assert said.splitlines() == [
        *("interrupted", "execute_tool hang cancelled", "invoke_agent cancelled")
    ]


# --- anything -----------------------------------------------------------------------------

ANY_CALL = st.sampled_from(
    [
        ROME,
        ("weather", {}),
        ("multiply", {"a": 2, "b": 3}),
        ("multiply", {"a": "x"}),
        ("broken", {}),
        ("nothing", {"x": 1}),
    ]
)
ANY_ANSWER = st.one_of(
    st.sampled_from(
        [
            said("Fine."),
            said(""),
            said("<function=weather>{}"),
            said("It ra", done_reason="length"),
            said("It ra", done=False),
        ]
    ),
    st.lists(ANY_CALL, min_size=1, max_size=4).map(lambda calls: wants(*calls)),
)


def broken() -> None:
    """Break."""
    raise ValueError("broken")


@pytest.mark.slow
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("colour", COLOURS[:2])
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(ANY_ANSWER, min_size=5, max_size=5),
    at_limit=st.sampled_from(["raise", "answer"]),
    on_error=st.sampled_from(["tell", "raise"]),
    on_leak=st.sampled_from(["raise", "recover"]),
    form=st.sampled_from([None, "json"]),
)
def test_any_answers_end_with_all_spans(
    colour: str, streams: bool, answers: Any, at_limit: Any, on_error: Any, on_leak: Any, form: Any
) -> None:
    stage = BalancedStage(colour, streams=streams).script(*answers)
    ending = None
    try:
        run = stage.run(
            [weather, multiply, broken],
            max_rounds=5,
            max_tool_calls=6,
            at_limit=at_limit,
            on_bad_call=on_error,
            on_tool_error=on_error,
            on_leaked_call=on_leak,
            format=form,
        )
    except AgentRunError as error:
        run = error.run
        ending = stage.attributes("invoke_agent")["error.type"]
    assert ending in {None, run.ending}
    assert run.ending is not None
    stage.check(run.ending)
    assert len(stage.requests) <= 5
    assert all(not ("tools" in each and "format" in each) for each in stage.requests)
    names = [each.name.partition(" ")[0] for each in stage.capture.spans]
    assert names.count("execute_tool") == len(run.tool_results)
    assert names.count("chat") == len(run.rounds)
    assert names.count("invoke_agent") == 1


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 8], ids=["own thread", "threads"])
def test_agents_that_call_each_other_without_end_come_to_an_end(colour: str, most: int) -> None:
    stage, depths = BalancedStage(colour), [0]
    answers = [wants(("expert", {})) for _ in range(MOST_NESTED)]
    stage.script(*answers, *(said("Done.") for _ in range(MOST_NESTED)))
    errors: list[str] = []

    def agent(client: Any) -> Agent:
        async def expert() -> str:
            """Ask the expert, which is this agent."""
            depths[0] += 1
            try:
                run: Any = agent(client).arun if stage.colour.is_async else agent(client).run
                found = await done(run("Go"))
            except AgentError as error:
                errors.append(str(error))
                raise
            return str(found.text)

        return Agent(client, MODEL, [expert], max_concurrency=most)

    async def scenario(client: Any) -> Any:
        return await stage.through(agent(client), "Go")

    assert stage.play(scenario).text == "Done."
    assert depths == [MOST_NESTED]
    assert errors == ["agents run as tools of each other, more than 20 deep"]
    assert stage.balance.open == set()
    assert nesting() == 0


@pytest.mark.slow
def test_agents_side_by_side_are_not_nested(colour: str) -> None:
    stage = BalancedStage(colour)
    rounds = MOST_NESTED + 5
    stage.script(*(wants(ROME) for _ in range(rounds)), said("Done."))
    assert stage.run([weather], max_rounds=rounds + 1).text == "Done."
