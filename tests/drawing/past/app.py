"""An app in virtual time: its calls, agents, servers, and everything that it measures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ollama_otel import _names as names
from ollama_otel._exchange.agent_runs import RunRecord, RunStart, ToolCallRecord, ToolCallStart
from ollama_otel._exchange.observers import Backlog
from ollama_otel._resilience.registry import LimiterState, register
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.residency_metrics import ResidencyMetrics
from ollama_otel.context import CallContext
from ollama_otel.records import CallResilience, ToolCall
from ollama_otel.residency._timeline import CallEnded, CallStarted
from ollama_otel.settings import Settings
from tests.drawing.past.calls import Recorder, Steps, later
from tests.drawing.past.clock import Happening, VirtualClock
from tests.drawing.past.export import Export
from tests.drawing.past.machines import Gpus, Model, Server, Watch
from tests.telemetry.call_script import chat, final, part

_MS = 1_000_000
_MOST_PIECES = 24
_ENDINGS = (
    "answered",
    "answered",
    "answered",
    "answered",
    "max_rounds",
    "tool_failed",
    "cancelled",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """How often calls end otherwise than completed, from 0 to 1."""

    failed: float = 0.01
    unknown_model: float = 0.003
    timed_out: float = 0.003
    abandoned: float = 0.03
    cancelled: float = 0.01
    cut: float = 0.05
    """Answers that end at `num_predict`."""
    other_context: float = 0.0
    """Calls with another `num_ctx`, for which the model is loaded again."""
    whole: float = 0.2
    """Calls that do not stream."""


class App:
    """One process, at its first export."""

    def __init__(
        self,
        clock: VirtualClock,
        otlp_metrics: str,
        servers: list[Server],
        random: Random,
        *,
        name: str = "chat-app",
        settings: Settings | None = None,
        chances: Chances | None = None,
        has_residency: bool = True,
        has_gpus: bool = True,
    ) -> None:
        self.clock, self.servers, self.random = clock, servers, random
        self.chances = chances or Chances()
        self._export = Export(clock, otlp_metrics, name)
        provider = self._export.meter_provider
        self.recorder = Recorder(clock, provider, settings or Settings(), random)
        self._watch = None
        if has_residency:
            self._watch = Watch(servers, clock)
            gpus: Any = Gpus(servers, clock, random) if has_gpus else Gpus([], clock, random)
            self._residency = ResidencyMetrics(provider.get_meter(names.SCOPE), 100, gpus)
            self._residency.follow(self._watch)  # type: ignore[arg-type]
            clock.at(clock.now + 0.5, self._watch.polls())

    # --- time -------------------------------------------------------------------------------

    def run(self, seconds: float, interval: float = 15.0) -> None:
        """Let time go by, with an export after each interval and one at the end."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.run_until(min(end, self.clock.now + interval))
            self._export.send()

    def arrivals(
        self,
        per_minute: Callable[[float], float],
        choose: Callable[[], tuple[Server, Model]],
    ) -> Happening:
        """Make calls at random times, as often as `per_minute` says for a time."""
        while True:
            yield self.random.expovariate(max(1e-9, per_minute(self.clock.now)) / 60)
            server, model = choose()
            self.clock.at(self.clock.now, self.call(server, model))

    # --- calls ------------------------------------------------------------------------------

    def call(
        self, server: Server, model: Model, resilience: CallResilience | None = None
    ) -> Happening:
        """One call, with chance for how long it is and how it ends."""
        random, chances, now = self.random, self.chances, self.clock.now
        context_length = model.context
        options = {"num_ctx": model.context}
        if random.random() < chances.other_context:
            context_length = options["num_ctx"] = model.context * 2
        body: dict[str, Any] = {"model": model.name, "options": options}
        path = "/api/chat"
        if model.embeds:
            path = "/api/embed"
            body["input"] = "Hello"
        else:
            body |= {"messages": [{"role": "user", "content": "Hello"}]}
            body["stream"] = random.random() >= chances.whole
        users = CallContext(user_id=f"user-{random.randrange(6)}")
        call = self.recorder.begin(server, path, body, context=users, resilience=resilience)
        if server.is_down(now):
            yield from self.recorder.refuse(call, 0.003, ConnectionRefusedError())
            return
        dice = random.random()
        if dice < chances.unknown_model:
            error = {"error": f"model '{model.name}' not found"}
            yield from self.recorder.document(call, 0.004, error, status=404)
            return
        if dice < chances.unknown_model + chances.timed_out:
            yield from self.recorder.refuse(call, 30.0, TimeoutError())
            return
        started = CallStarted(model=model.name, options=options, sent_at=now)
        server.note(started)
        prompt = int(random.lognormvariate(6.2, 1.0)) + 8
        tokens = 0 if model.embeds else max(3, int(random.lognormvariate(4.9, 0.8)))
        reading = min(prompt, context_length) / model.reads
        writing = tokens / model.speed * random.uniform(0.85, 1.2)
        load, wait = server.take(now, model, reading + writing, context_length)
        ready = load + wait
        if dice < chances.unknown_model + chances.timed_out + chances.failed:
            error = {"error": "llama runner process has terminated: exit status 2"}
            yield from self.recorder.document(call, ready + 0.1, error, status=500)
            self._note(server, CallEnded(call=started, ended_at=self.clock.now, was_served=False))
            return
        told = {
            "total_duration": int((ready + reading + writing) * 1e9),
            "load_duration": int((load or 0.02) * 1e9),
            "prompt_eval_count": min(prompt, context_length),
            "prompt_eval_duration": int(reading * 1e9),
        }
        if model.embeds:
            yield from self.recorder.document(
                call, ready + reading, {"model": model.name, "embeddings": [[0.1]], **told}
            )
        else:
            is_cut = random.random() < chances.cut
            told |= {
                "eval_count": tokens,
                "eval_duration": int(writing * 1e9),
                "done_reason": "length" if is_cut else "stop",
            }
            if body["stream"]:
                yield from self.recorder.answer(
                    call, self._pieces(ready + reading, writing, tokens, told)
                )
            else:
                yield from self.recorder.document(
                    call, ready + reading + writing, json.loads(final("Hello", **told))
                )
        ended = CallEnded(
            call=started,
            ended_at=self.clock.now,
            was_served=True,
            is_cold=load > 0,
            load_duration=load or None,
            total_duration=told["total_duration"] / 1e9,
            has_begun=True,
        )
        self._note(server, ended)

    def _note(self, server: Server, ended: CallEnded) -> None:
        events = server.note(ended)
        if self._watch is not None:
            self._watch.publish(server, events)

    def _pieces(self, first: float, writing: float, tokens: int, told: dict[str, Any]) -> Steps:
        random, chances = self.random, self.chances
        count = min(tokens, _MOST_PIECES)
        pace = writing / count
        dice = random.random()
        stops = None
        if dice < chances.abandoned:
            stops = GeneratorExit()
        elif dice < chances.abandoned + chances.cancelled:
            stops = asyncio.CancelledError()
        last = random.randrange(1, count + 1) if stops is not None else count
        yield first, chat("Hello")
        for _ in range(last - 1):
            # A few gaps are long: another call had the engine.
            yield pace * (random.uniform(0.6, 1.4) if random.random() < 0.98 else 8), chat(" there")
        yield pace, final(**told) if stops is None else stops

    def list_models(self, server: Server) -> Happening:
        """A call that lists models."""
        call = self.recorder.begin(server, "/api/tags", None, method="GET")
        return self.recorder.document(call, 0.004, {"models": []})

    def show_model(self, server: Server, model: Model) -> Happening:
        """A call that shows a model."""
        call = self.recorder.begin(server, "/api/show", {"model": model.name})
        return self.recorder.document(call, 0.02, {"capabilities": ["completion"]})

    def pull_model(self, server: Server, model: Model, seconds: float) -> Happening:
        """A call that pulls a model."""
        call = self.recorder.begin(server, "/api/pull", {"model": model.name})
        parts = 10
        layer = {
            "status": "pulling 6a0746a1ec1a",
            "digest": "sha256:6a0746a1ec1a",
            "total": model.size,
        }
        steps: list[tuple[float, bytes]] = [
            (seconds / parts, part(**layer, completed=model.size * each // parts))
            for each in range(1, parts + 1)
        ]
        return self.recorder.answer(call, [*steps, (0.1, part(status="success"))])

    # --- agents -----------------------------------------------------------------------------

    def agent_run(
        self, agent: str, server: Server, model: Model, tools: dict[str, float]
    ) -> Happening:
        """A run of an agent: rounds of a call and tool calls, each tool with its seconds."""
        random, began = self.random, self.clock.now
        start = RunStart(agent=agent, model=model.name, started_at=int(began * 1e9))
        run = self.recorder.instrumentation.agents.begin(start)
        rounds, made = random.choice((1, 2, 2, 3, 3, 4, 6)), 0
        ending = random.choice(_ENDINGS)
        for number in range(rounds):
            yield from self.call(server, model)
            if number == rounds - 1 and ending == "answered":
                break
            name = random.choice(list(tools))
            made += 1
            yield from self._tool_call(run, name, tools[name])
        run.end(
            RunRecord(
                start=start,
                ending=ending,
                is_failure=ending in {"max_rounds", "tool_failed"},
                rounds=rounds,
                tool_calls=made,
                input_tokens=sum(random.randrange(200, 2500) for _ in range(rounds)),
                output_tokens=sum(random.randrange(20, 400) for _ in range(rounds)),
                duration=self.clock.now - began,
            )
        )

    def _tool_call(self, run: Any, name: str, seconds: float) -> Happening:
        random, began = self.random, self.clock.now
        start = ToolCallStart(call=ToolCall(name=name), is_known=True, started_at=int(began * 1e9))
        trace = run.tool(start)
        yield random.expovariate(1 / seconds)
        outcome = random.choices(
            ("succeeded", "failed", "timed_out", "invalid_arguments", "denied"), (90, 5, 1, 3, 1)
        )[0]
        error = ConnectionError() if outcome == "failed" else None
        trace.end(
            ToolCallRecord(
                start=start, outcome=outcome, error=error, duration=self.clock.now - began
            )
        )


@dataclass(slots=True)
class Limits:
    """The limiters and breakers of an app, with states that a scenario sets."""

    active: dict[str, LimiterState] = field(default_factory=dict)
    circuits: dict[str, Any] = field(default_factory=dict)
    _watched: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        for each in (self.active, self.circuits):
            shown = _Shown(each)
            self._watched.append(shown)
            register(shown)


class _Shown:
    def __init__(self, kept: dict[str, Any]) -> None:
        self._kept = kept

    def states(self) -> dict[str, Any]:
        return self._kept


def sdk_metrics(app: App, failing: tuple[float, float] = (0, 0)) -> Happening:
    """What OpenTelemetry's SDK measures of its own exports, which fail for a time."""
    meter = app._export.meter_provider.get_meter("opentelemetry-sdk")
    counters = {
        row: meter.create_counter(row.name, unit=row.unit, description=row.description)
        for row in (rows.SDK_SPANS_PROCESSED, rows.SDK_SPANS_EXPORTED, rows.SDK_POINTS_EXPORTED)
    }
    duration = meter.create_histogram(rows.SDK_EXPORT_DURATION.name, unit="s")
    place = {names.SERVER_ADDRESS: "localhost", names.SERVER_PORT: 4318}
    spans = {
        names.COMPONENT_TYPE: "otlp_http_span_exporter",
        names.COMPONENT_NAME: "otlp_http_span_exporter/0",
        **place,
    }
    points = {
        names.COMPONENT_TYPE: "otlp_http_metric_exporter",
        names.COMPONENT_NAME: "otlp_http_metric_exporter/0",
        **place,
    }
    processor = {
        names.COMPONENT_TYPE: "batching_span_processor",
        names.COMPONENT_NAME: "batching_span_processor/0",
    }
    while True:
        yield 5.0
        is_failing = failing[0] <= app.clock.now < failing[1]
        fault = {names.ERROR_TYPE: "ConnectionError"} if is_failing else {}
        seconds = 6.0 if is_failing else app.random.uniform(0.004, 0.03)
        count = app.random.randrange(2, 9)
        counters[rows.SDK_SPANS_EXPORTED].add(count, {**spans, **fault})
        counters[rows.SDK_SPANS_PROCESSED].add(count, processor)
        if is_failing:
            full = {**processor, names.ERROR_TYPE: "queue_full"}
            counters[rows.SDK_SPANS_PROCESSED].add(1, full)
        counters[rows.SDK_POINTS_EXPORTED].add(180, {**points, **fault})
        duration.record(seconds, {**spans, **fault})
        duration.record(seconds, {**points, **fault})


def replay_log(app: App) -> None:
    """Let the app have a replay log that lost a few bodies."""
    began = app.clock.now
    instruments = app.recorder.metrics.instruments
    instruments.losses.add(lambda: {"body": int((app.clock.now - began) // 900), "line": 0})
    instruments.backlogs.add(
        lambda: Backlog(pending_lines=3 + int(app.clock.now / 15) % 9, failed_writes=0)
    )


def structured_answers(app: App, model: Model) -> Happening:
    """Requests for typed values, most of which are answered as asked."""
    while True:
        yield app.random.expovariate(1 / 20)
        outcome = app.random.choices(
            ("parsed", "schema_mismatch", "cut_by_num_predict", "incomplete"), (90, 6, 3, 1)
        )[0]
        is_final = outcome == "parsed" or app.random.random() < 0.3
        app.recorder.metrics.answered("chat", model.name, outcome, is_final=is_final)


def truncations(app: App, server: Server, model: Model) -> Happening:
    """Calls of which the server cut the prompt or the history."""
    while True:
        yield app.random.expovariate(1 / 150)
        call = app.recorder.begin(server, "/api/chat", {"model": model.name, "stream": False})
        kind = app.random.choice(
            ("prompt_cut", "history_dropped", "history_dropped", "context_shift")
        )
        app.recorder.metrics.count_truncation(call.start, kind)
        yield from app.recorder.document(call, 2.0, json.loads(final("Hello")))


def resilient_calls(
    app: App, choose: Callable[[], tuple[Server, Model]], fallback: Server
) -> Happening:
    """Calls that wait in a limiter, are repeated, fall back or are rejected."""
    while True:
        yield app.random.expovariate(1 / 12)
        server, model = choose()
        dice = app.random.random()
        wait = app.random.expovariate(1 / 1.5)
        done = CallResilience(attempts=1, limiter_wait=wait)
        if dice < 0.15:
            done = CallResilience(attempts=2, retried=("server_overloaded",), limiter_wait=0.0)
        elif dice < 0.22:
            done = CallResilience(
                attempts=2,
                retried=("connect",),
                server_address=fallback.host,
                server_port=fallback.port,
            )
        elif dice < 0.3:
            done = CallResilience(
                attempts=0,
                rejection=app.random.choice(("queue_full", "queue_timeout", "circuit_open")),
            )
        if done.rejection is None:
            app.clock.at(app.clock.now, app.call(server, model, done))
            continue
        call = app.recorder.begin(server, "/api/chat", {"model": model.name}, resilience=done)
        app.clock.at(app.clock.now, app.recorder.refuse(call, 0.0, RejectedError()))


class RejectedError(Exception):
    """Stands for the error of a rejection."""


def often(app: App, seconds: float, make: Callable[[], Happening]) -> Happening:
    """Begin something again and again, on average after so many seconds."""
    while True:
        yield app.random.expovariate(1 / seconds)
        app.clock.at(app.clock.now, later(make))


def some(app: App, count: int, seconds: float, make: Callable[[], Happening]) -> Happening:
    """Begin something so many times, after so many seconds each."""
    for _ in range(count):
        app.clock.at(app.clock.now, later(make))
        yield seconds
