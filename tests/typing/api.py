"""What users write, for type checkers: nothing here runs.

A line with `type: ignore` has to be an error; the checkers report the comment if it is not.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import assert_type

import anyio
import httpx
import ollama as official
from ollama import ChatResponse, EmbedResponse, GenerateResponse
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import TracerProvider
from pydantic import BaseModel, TypeAdapter

import ollama_otel
from ollama_otel import (
    AsyncClient,
    AsyncTransport,
    CallFollower,
    CallRecord,
    CallStart,
    Client,
    ClientDefaults,
    Enricher,
    Instrumentation,
    InstrumentationOptions,
    Observer,
    OllamaInstrumentor,
    Settings,
    Telemetry,
    Transport,
    build_instrumentation,
    call_context,
    configure,
    instrument_client,
    ollama,
    uninstrument_client,
)
from ollama_otel.analysis import BudgetState, CostReport, cost, open_log, read_measured
from ollama_otel.context import CallContext, current_call_context
from ollama_otel.errors import OllamaOtelError, ReplayMissError
from ollama_otel.instrumentation import Backlog, CallTrace, LoggingObserver, Section, Tracing
from ollama_otel.load import (
    LoadResult,
    Quantiles,
    StopReason,
    StopSwitch,
    TimedRequest,
    Verdict,
    arrival_times,
    arun_load,
    at_rate,
    prompt_requests,
    recorded_requests,
    run_load,
)
from ollama_otel.prices import Machine, read_prices
from ollama_otel.pytest_plugin import ReplayedTest
from ollama_otel.records import (
    CallResilience,
    Conversation,
    Ending,
    Endpoint,
    ErrorType,
    Message,
    ModelResidency,
    Outcome,
    Phase,
    Rejection,
    RequestFacts,
    ResponseFacts,
    ToolCall,
    Truncation,
)
from ollama_otel.redaction import Redactor, emails, pattern
from ollama_otel.replay import (
    AsyncPlayer,
    CallIndex,
    Chaos,
    Chunk,
    ComparedPair,
    Comparison,
    LeftOut,
    LogStatistics,
    Player,
    RecordedCall,
    ReplayApp,
    Replaying,
    ReplayLog,
    RerunPlan,
    RerunProgress,
    Served,
    Skipped,
    compare,
    plan_rerun,
    read,
    replay,
    rerun,
)
from ollama_otel.residency import Event, Listener, ModelReload, Residency, ServerState
from ollama_otel.resilience import (
    Breaker,
    Fallback,
    Limiter,
    LimiterState,
    Resilience,
    Retries,
    WaitingCall,
    make_resilient,
)
from ollama_otel.settings import ContentMode, Profile
from ollama_otel.streams import (
    AsyncStreamRun,
    StreamEnd,
    StreamEnding,
    StreamHandler,
    StreamRun,
    stream_to,
)
from ollama_otel.structured import (
    Attempt,
    ChatPart,
    FormatError,
    GeneratePart,
    OutputMismatchError,
    ParsedChatResponse,
    ParsedGenerateResponse,
    StructuredOutcome,
    StructuredOutputError,
)
from ollama_otel.telemetry import OtlpProtocol, ScrapeEndpoint
from ollama_otel.testing import Capture, FakeModel, FakeOllama, Fault, Point, Reply, TickingClock
from ollama_otel.tokens import CountTier, MessageLike, TokenCount
from ollama_otel.tools import (
    Agent,
    AgentRun,
    AgentRunError,
    AgentTool,
    Allow,
    Decision,
    Defer,
    Deny,
    EndEvent,
    RunEnding,
    TextEvent,
    ThinkingEvent,
    ToolCallEvent,
    ToolOutcome,
    ToolResultEvent,
    tool_message,
)
from ollama_otel.tools import Event as AgentEvent

# --- observers and enrichers --------------------------------------------------------------


class PrintedCall(CallFollower):
    def __init__(self, start: CallStart) -> None:
        self.endpoint: Endpoint = start.endpoint
        self.size = 0

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        self.size += sum(map(len, pieces))

    def end(self, record: CallRecord) -> None:
        assert_type(record.start, CallStart)
        assert_type(record.outcome, Outcome)
        assert_type(record.ending, Ending)
        assert_type(record.error_type, ErrorType | None)
        assert_type(record.phases, Mapping[Phase, float])
        assert_type(record.response, ResponseFacts)
        assert_type(record.start.request, RequestFacts)
        assert_type(record.start.conversation, Conversation | None)
        assert_type(record.start.context, CallContext)
        assert_type(record.answer, Message | None)
        assert_type(record.queue_estimate, float | None)
        record.outcome = "failed"  # type: ignore[misc]
        _ = record.outcom  # type: ignore[attr-defined]


class Printer:
    def begin(self, start: CallStart) -> PrintedCall | None:
        return PrintedCall(start) if start.is_inference else None


class Journal(LoggingObserver):
    keeps_request = True

    def begin(self, start: CallStart) -> CallFollower | None:
        return None

    def losses(self) -> Callable[[], Mapping[str, int]]:
        return lambda: {"line": 0}

    def backlog(self) -> Callable[[], Backlog]:
        return lambda: Backlog(pending_lines=1)


class Placement:
    def begin(self, start: CallStart) -> Callable[[CallRecord], ModelResidency | None]:
        return lambda record: ModelResidency(gpu_share=1.0) if record.progress else None


class Untraced(Tracing):
    def begin(self, start: CallStart) -> CallTrace:
        return CallTrace()


class NoObserver:
    def begin(self, start: str) -> None: ...


section: Section = ModelResidency(gpu_share=0.5)
observer: Observer = Printer()
enricher: Enricher = Placement()
wrong: Observer = NoObserver()  # type: ignore[assignment]


# --- entry points -------------------------------------------------------------------------


def entry_points(
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    logger_provider: LoggerProvider,
    settings: Settings,
) -> None:
    instrumentation = build_instrumentation(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        settings=settings,
        observers=[Printer(), Journal()],
        enrichers=[Placement()],
    )
    assert_type(instrumentation, Instrumentation)
    assert_type(instrumentation.tracing, Tracing)
    assert_type(instrumentation.observers, tuple[Observer, ...])
    Instrumentation(tracing=Untraced(), observers=(observer,), enrichers=(enricher,))

    options: InstrumentationOptions = {
        "tracer_provider": tracer_provider,
        "meter_provider": meter_provider,
        "logger_provider": logger_provider,
        "settings": settings,
        "observers": [Printer()],
        "enrichers": [Placement()],
    }
    Client(**options)
    Client("http://gpu:11434", instrumentation=instrumentation, timeout=5.0)
    AsyncClient(**options)
    AsyncClient("gpu", instrumentation=instrumentation)
    Transport(httpx.HTTPTransport(), **options)
    Transport(httpx.HTTPTransport(), instrumentation=instrumentation)
    AsyncTransport(httpx.AsyncHTTPTransport(), **options)
    AsyncTransport(httpx.AsyncHTTPTransport(), instrumentation=instrumentation)
    instrument_client(httpx.Client(), **options)
    OllamaInstrumentor().instrument(instrumentation=instrumentation)

    Client(observers=[NoObserver()])  # type: ignore[list-item]
    Client(settings="settings")  # type: ignore[arg-type]
    Transport(httpx.HTTPTransport(), tracer=tracer_provider)  # type: ignore[call-arg]
    instrument_client(httpx.Client(), exporter="otlp")  # type: ignore[call-arg]


def the_client_stays_what_it_is() -> None:
    assert_type(instrument_client(official.Client()), official.Client)
    assert_type(instrument_client(official.AsyncClient()), official.AsyncClient)
    assert_type(instrument_client(httpx.Client()), httpx.Client)
    assert_type(uninstrument_client(httpx.AsyncClient()), httpx.AsyncClient)
    clients: list[official.Client] = [Client()]
    async_clients: list[official.AsyncClient] = [AsyncClient()]
    assert_type((clients[0], async_clients[0]), tuple[official.Client, official.AsyncClient])
    httpx.Client(transport=Transport(httpx.HTTPTransport()))
    httpx.AsyncClient(transport=AsyncTransport(httpx.AsyncHTTPTransport()))
    httpx.Client(transport=AsyncTransport(httpx.AsyncHTTPTransport()))  # type: ignore[arg-type]


# --- the drop-in client -------------------------------------------------------------------


def calls(client: Client) -> None:
    assert_type(client.chat("llama3.2"), ChatResponse)
    assert_type(client.chat("llama3.2", stream=True), Iterator[ChatResponse])
    assert_type(client.generate("llama3.2", "Hello"), GenerateResponse)
    assert_type(client.generate("llama3.2", "Hello", stream=True), Iterator[GenerateResponse])
    assert_type(client.embed("embeddinggemma", ["a", "b"]), EmbedResponse)
    client.chat("llama3.2", stream="yes")  # type: ignore[call-overload]
    assert_type(client.generate("llama3.2", "Hello", format="json"), GenerateResponse)
    assert_type(client.chat("llama3.2", format={"type": "object"}), ChatResponse)


# --- structured output ---------------------------------------------------------------------


class Product(BaseModel):
    name: str


def typed_calls(client: Client) -> None:
    answer = client.chat("llama3.2", format=Product, attempts=2, schema_in_prompt=True)
    assert_type(answer, ParsedChatResponse[Product])
    assert_type(answer.parsed, Product)
    assert_type(answer.message.content, str | None)
    official_answers: list[ChatResponse] = [answer]
    assert_type(official_answers[0], ChatResponse)
    parts = client.chat("llama3.2", stream=True, format=Product, think=False)
    assert_type(parts, Iterator[ChatPart[Product]])
    assert_type([part.parsed for part in parts], list[Product | None])
    listed = client.generate("llama3.2", "Hello", format=list[Product], options={"seed": 1})
    assert_type(listed, ParsedGenerateResponse[list[Product]])
    assert_type(listed.parsed, list[Product])
    adapter: TypeAdapter[int | None] = TypeAdapter(int | None)
    assert_type(client.extract(adapter, "Hello", model="llama3.2"), int | None)
    assert_type(client.extract(Product, "Hello", model="llama3.2", attempts=3), Product)
    client.chat("llama3.2", attempts=2)  # type: ignore[call-overload]
    client.extract(Product, "Hello", model="llama3.2", raw=True)  # type: ignore[call-arg]


async def async_typed_calls(client: AsyncClient) -> None:
    answer = await client.chat("llama3.2", format=Product)
    assert_type(answer.parsed, Product)
    async for part in await client.generate("llama3.2", "Hello", stream=True, format=Product):
        assert_type(part, GeneratePart[Product])
        assert_type(part.parsed, Product | None)
    assert_type(await client.extract(Product, "Hello", model="llama3.2"), Product)


# --- streams to consumers ------------------------------------------------------------------


class Shown(StreamHandler):
    def on_text(self, text: str) -> None:
        print(text)

    def on_tool_call(self, call: official.Message.ToolCall) -> None:
        print(call.function.name)

    def on_end(self, end: StreamEnd) -> None:
        assert_type(end.ending, StreamEnding)
        assert_type(end.last, ChatResponse | GenerateResponse | None)


class AsyncShown(StreamHandler):
    async def on_text(self, text: str) -> None:
        print(text)


def streams(client: Client, parts: queue.Queue[object]) -> None:
    with stream_to(client.chat("llama3.2", stream=True), Shown()) as run:
        assert_type(run, StreamRun)
        assert_type(run.wait(1.5), StreamEnd)
        run.stop()
    stream_to(client.generate("llama3.2", "Hello", stream=True), parts, patience=5)
    stream_to(client.chat("llama3.2", format=Product, stream=True), print)
    stream_to(client.chat("llama3.2", stream=True), 5)  # type: ignore[call-overload]


async def async_streams(client: AsyncClient, parts: asyncio.Queue[object]) -> None:
    async with stream_to(client.chat("llama3.2", stream=True), AsyncShown()) as run:
        assert_type(run, AsyncStreamRun)
        assert_type(await run.wait(), StreamEnd)
    later = stream_to(await client.generate("llama3.2", "Hello", stream=True), parts)
    assert_type(await later.run(), StreamEnd)
    send, _ = anyio.create_memory_object_stream[object]()
    stream_to(client.chat("llama3.2", format=Product, stream=True), send)


def mismatches(error: OutputMismatchError) -> None:
    assert_type(error.outcome, StructuredOutcome)
    assert_type(error.attempts, tuple[Attempt, ...])
    assert_type((error.text, error.reasons), tuple[str, tuple[str, ...]])
    errors: list[StructuredOutputError] = [error, FormatError("no schema")]
    assert_type(errors[0], StructuredOutputError)


async def async_calls(client: AsyncClient) -> None:
    assert_type(await client.chat("llama3.2"), ChatResponse)
    assert_type(await client.chat("llama3.2", stream=True), AsyncIterator[ChatResponse])
    assert_type(await client.embed("embeddinggemma", "a"), EmbedResponse)


def official_names() -> None:
    assert_type(ollama.chat("llama3.2"), ChatResponse)
    assert_type(ollama.chat("llama3.2", stream=True), Iterator[ChatResponse])
    assert_type(ollama.Client("gpu"), Client)
    assert_type(ollama.AsyncClient(), AsyncClient)
    assert_type(ollama.ResponseError("no such model"), official.ResponseError)


# --- set-up -------------------------------------------------------------------------------


def set_up() -> None:
    protocol: OtlpProtocol = "grpc"
    profile: Profile = "gen-ai-dev"
    mode: ContentMode = "span_only"
    redactor: Redactor = emails
    telemetry = configure(
        service_name="shop",
        endpoint="http://localhost:4317",
        protocol=protocol,
        headers={"authorization": "Bearer token"},
        resource_attributes={"deployment.environment.name": "test"},
        export_interval=10.0,
        prometheus="localhost:9464",
        settings=Settings(
            profile=profile,
            capture_content=mode,
            redactors=(redactor, pattern(r"\d{9}", "customer")),
            replay_log=Path("calls.jsonl"),
        ),
        observers=[Printer()],
    )
    configure(replay_log="calls.jsonl", residency=True)
    assert_type(telemetry, Telemetry)
    assert_type(telemetry.flush(timeout=1.0), bool)
    assert_type(telemetry.scrape_endpoint, ScrapeEndpoint | None)
    assert_type(telemetry.replay_log, ReplayLog | None)
    assert_type(telemetry.residency, Residency | None)
    configure(protocol="http/json")  # type: ignore[arg-type]
    Settings(profile="v2")  # type: ignore[arg-type]
    Settings(replay="calls.jsonl")  # type: ignore[call-arg]
    configure(replay_keep="3")  # type: ignore[arg-type]
    assert_type(telemetry.settings.replay.keep, int)
    assert_type(telemetry.settings.content.mode, ContentMode)
    assert_type(telemetry.settings.replace(replay_keep=3), Settings)
    assert_type(ollama_otel.__version__, str)


def context() -> None:
    with call_context(conversation_id="c1", user_id="u1", tags={"feature": "search"}) as current:
        assert_type(current, CallContext)
    assert_type(current_call_context().tags, Mapping[str, str])
    call_context(tags={"attempt": 1})  # type: ignore[dict-item]


# --- the replay log -----------------------------------------------------------------------


def logs(path: Path, app_log: ReplayLog) -> None:
    assert_type(app_log.path, Path)
    assert_type(app_log.statistics, LogStatistics)
    skipped: list[Skipped] = []
    recorded = read(path, report=skipped.append)
    assert_type(recorded, Iterator[RecordedCall])
    for call in recorded:
        assert_type(call.start, CallStart)
        assert_type(call.record, CallRecord | None)
        assert_type(call.chunks, tuple[Chunk, ...] | None)
        assert_type(call.conversation, Conversation | None)
        answer = call.answer()
        assert_type(answer, Message | None)
        if answer is not None:
            assert_type(answer.tool_calls, tuple[ToolCall, ...])
    comparison = compare(read(path), read(path), ignore=["options.seed"])
    assert_type(comparison, Comparison)
    assert_type(comparison.pairs, tuple[ComparedPair, ...])
    compare(path, path)  # type: ignore[arg-type]


def playing(path: Path) -> None:
    assert_type(replay(path, speed=0, ignore=["options.seed"], repeat=True), Replaying)
    with replay(path) as player:
        assert_type(player, Player)
        assert_type(player.unused, tuple[RecordedCall, ...])
    index = CallIndex(read(path))
    httpx.Client(transport=Player(index, clock=TickingClock()))
    httpx.AsyncClient(transport=AsyncPlayer(index))
    served: list[Served] = []
    ReplayApp(path, chaos=Chaos(fail={500: 0.1}), report=served.append)

    @replay(path)
    def test(question: str) -> int:
        return len(question)

    assert_type(test("Hello"), int)
    test(5)  # type: ignore[arg-type]


async def running_again(path: Path) -> None:
    plan = plan_rerun(read(path), out="again.jsonl", limit=10)
    assert_type(plan, RerunPlan)
    assert_type(plan.left_out, Mapping[LeftOut, int])
    progress: list[RerunProgress] = []
    done = await rerun(plan, host="localhost", concurrency=2, on_progress=progress.append)
    assert_type(done, RerunProgress)
    await rerun(plan)  # type: ignore[call-arg]


def test_with_a_cassette(ollama_replay: ReplayedTest) -> None:
    assert_type(ollama_replay.path, Path)


# --- residency ----------------------------------------------------------------------------


def listen(host: str, port: int, event: Event) -> None:
    if isinstance(event, ModelReload):
        assert_type(event.evicted_by, str | None)


def residency() -> None:
    listener: Listener = listen
    with Residency(interval=1.0) as watched:
        watched.watch("localhost")
        watched.listen(listener)
        assert_type(watched.interval, float)
        assert_type(watched.servers(), tuple[ServerState, ...])
        watched.listen(print_event)  # type: ignore[arg-type]


def print_event(event: Event) -> None: ...


# --- counting -----------------------------------------------------------------------------


async def counts(client: Client, other: AsyncClient, record: CallRecord) -> None:
    said = official.Message(role="user", content="Hi")
    messages: list[MessageLike] = [{"role": "user", "content": "Hi"}, said]
    count = client.count_tokens("llama3.2", messages, tools=[official.ps], render=True)
    assert_type(count, TokenCount)
    assert_type(await other.count_tokens("llama3.2", "Hi"), TokenCount)
    assert_type(count.tokens, int | None)
    assert_type(count.tier, CountTier)
    assert_type(record.truncation, Truncation)
    assert_type(record.truncation.lost_tokens, int | None)
    configure(truncation="confirm")
    Settings(truncation="confirm", vocabulary_cache=Path("cache"))
    Settings(truncation="always")  # type: ignore[arg-type]


# --- costs --------------------------------------------------------------------------------


def costs(record: CallRecord) -> None:
    assert_type(record.cost.estimate, float | None)
    configure(prices="prices.toml")
    prices = read_prices(Path("prices.toml"))
    assert_type(prices.machine, tuple[Machine, ...])
    with open_log("calls.jsonl") as calls:
        report = cost(calls, prices, by="user", measured={"box": read_measured("power.csv")})
    assert_type(report, CostReport)
    assert_type(report.total.per_million_input, float | None)
    assert_type(report.budgets[0].state, BudgetState)


# --- agents -------------------------------------------------------------------------------


def look_up(key: str) -> str:
    return key


async def look_up_later(key: str) -> int:
    return len(key)


def decide(call: ToolCall) -> Decision:
    return Allow({"key": call.name}) if call.id else Deny("No.")


async def decide_later(call: ToolCall) -> Decision:
    return Defer()


def agents(client: Client, schema: Mapping[str, object], tool: official.Tool) -> None:
    agent = Agent(
        client,
        "llama3.2",
        [look_up, look_up_later, schema, tool, AgentTool(function=look_up, timeout=1.0)],
        before_tool=decide,
        at_limit="answer",
    )
    run = agent.run("Go", history=[{"role": "user", "content": "Hi"}])
    assert_type(run, AgentRun)
    assert_type(run.ending, RunEnding | None)
    assert_type(run.deferred, tuple[ToolCall, ...])
    again = [*run.history, *(tool_message(call, "x") for call in run.deferred)]
    with agent.stream(None, history=again) as stream:
        for event in stream:
            match event:
                case TextEvent(text) | ThinkingEvent(text):
                    assert_type(text, str)
                case ToolCallEvent(call):
                    assert_type(call, ToolCall)
                case ToolResultEvent(result):
                    assert_type(result.outcome, ToolOutcome)
                case EndEvent(ended):
                    assert_type(ended, AgentRun)
    Agent(client, "llama3.2", at_limit="stop")  # type: ignore[arg-type]
    Agent(client, "llama3.2", before_tool=look_up)  # type: ignore[arg-type]


async def async_agents(client: AsyncClient) -> None:
    agent = Agent(client, "llama3.2", [look_up], before_tool=decide_later)
    assert_type(await agent.arun("Go"), AgentRun)
    async with agent.astream("Go") as stream:
        async for event in stream:
            assert_type(event, AgentEvent)


def run_error(error: AgentRunError) -> AgentRun:
    return error.run


# --- testing ------------------------------------------------------------------------------


def fakes() -> None:
    fake = FakeOllama([FakeModel("llama3.2", capabilities=("completion", "vision"))], seed=1)
    fake.script("/api/chat", Reply.json({"message": {}}))
    fake.fault("/api/chat", Fault(cut_at=10))
    capture = Capture()
    client = Client(transport=fake.transport(), **capture.options)
    with fake.serve() as url:
        assert_type(url, str)
    assert_type(client, Client)
    assert_type(capture.records, list[CallRecord])
    assert_type(capture.spans, list[ReadableSpan])
    assert_type(capture.metrics(), dict[str, list[Point]])
    FakeModel("llama3.2", capabilities=("singing",))  # type: ignore[arg-type]


def errors(error: ReplayMissError) -> OllamaOtelError:
    return error


# --- resilience ---------------------------------------------------------------------------


def resilient(sync: httpx.Client, asynchronous: httpx.AsyncClient) -> None:
    limiter = Limiter(concurrency=4, requests_per_minute=60, key=lambda request: request.url.host)
    policy = Resilience(
        retries=Retries(3),
        limiter=limiter,
        breaker=Breaker(),
        fallback=[Fallback(host="http://other:11434"), Fallback(model="m")],
        deadline=60,
    )
    assert_type(make_resilient(sync, policy), httpx.Client)
    assert_type(make_resilient(asynchronous, policy), httpx.AsyncClient)
    assert_type(limiter.states(), Mapping[str, LimiterState])
    assert_type(limiter.waiting(), list[WaitingCall])
    Client(resilience=policy, defaults=ClientDefaults(model="m", options={"seed": 1}))
    AsyncClient(resilience=policy)
    Resilience(Retries())  # type: ignore[call-arg]


def resilience_of(record: CallRecord) -> None:
    assert_type(record.resilience, CallResilience)
    assert_type(record.resilience.rejection, Rejection | None)
    assert_type(record.resilience.retried, tuple[ErrorType, ...])


# --- load ---------------------------------------------------------------------------------


async def load(log: Path) -> None:
    plan = at_rate(prompt_requests(["Hi {n}"], 4, model="m"), 2.0, 2.0, arrivals="constant")
    result = await arun_load(plan, host="http://h:11434", drain=5, switch=StopSwitch())
    assert_type(result, LoadResult)
    assert_type(result.stop, StopReason)
    assert_type(result.pace.verdict, Verdict)
    assert_type(result.latency, Quantiles | None)
    assert_type(result.requests[0].record, CallRecord)
    assert_type(recorded_requests(read(log)).plan, tuple[TimedRequest, ...])
    run_load([TimedRequest(body={"model": "m"}, offset=0.5)])  # type: ignore[call-arg]
    arrival_times(2.0, 1.0, arrivals="bursts")  # type: ignore[arg-type]
