"""What recording costs: CPU as a ratio to the plain official client, in one run.

`python -m tests.benchmarks.overhead [--rounds N] [--json]`

Every round runs each arm once, in turn, on an in-process transport; a ratio is taken
within its round and the median over rounds is shown, so a machine whose speed drifts does
not matter. Spans go through a batch processor to an exporter that does nothing; metrics
are collected after each measurement, as a reader does once a minute.

The arms with no-op providers show our own share: what recording costs without the SDK.
The SDK floor is the plain client with the telemetry of one chat written by hand.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import ollama
from opentelemetry import propagate
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, use_span

from ollama_otel import Client, instrument_client

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]

_HEAD = b'{"model":"llama3.2","created_at":"2026-08-22T09:00:01.204118236Z","message":'
_FINAL = (
    b'"done":true,"done_reason":"stop","total_duration":217304500,"load_duration":41228917,'
    b'"prompt_eval_count":14,"prompt_eval_duration":52114000,"eval_count":5,'
    b'"eval_duration":118903000}'
)


def chunk(index: int) -> bytes:
    """One part of a stream, as the server writes it."""
    return _HEAD + b'{"role":"assistant","content":" tok%d"},"done":false}\n' % index


LAST_CHUNK = _HEAD + b'{"role":"assistant","content":""},' + _FINAL + b"\n"
DOCUMENT = _HEAD + b'{"role":"assistant","content":"Rayleigh scattering."},' + _FINAL


class _Body(httpx.SyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks


class InProcess(httpx.BaseTransport):
    """Answers every request with the same chunks, at once."""

    def __init__(self, chunks: list[bytes], content_type: str) -> None:
        self._chunks = chunks
        self._headers = {"content-type": content_type}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=self._headers, stream=_Body(self._chunks))


class _NoExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@dataclass
class Telemetry:
    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    reader: InMemoryMetricReader

    @classmethod
    def create(cls, **options: Any) -> Telemetry:
        tracer_provider = TracerProvider(shutdown_on_exit=False, **options)
        tracer_provider.add_span_processor(BatchSpanProcessor(_NoExporter()))
        reader = InMemoryMetricReader()
        meter_provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        return cls(tracer_provider, meter_provider, reader)

    @property
    def options(self) -> dict[str, Any]:
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}


class SdkFloor:
    """The plain client, and the SDK calls that the telemetry of one chat comes down to.

    No recorder that sends one span of 22 attributes and three measurements costs less.
    """

    def __init__(self, client: ollama.Client, telemetry: Telemetry) -> None:
        self._client = client
        self._tracer = telemetry.tracer_provider.get_tracer("bare")
        meter = telemetry.meter_provider.get_meter("bare")
        self._duration = meter.create_histogram("bare.duration", unit="s")
        self._tokens = meter.create_histogram("bare.tokens", unit="{token}")
        self._labels: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "llama3.2",
            "server.address": "127.0.0.1",
            "server.port": 11434,
        }
        self._ended = {**self._labels, "ollama.outcome": "completed"}
        self._input = {**self._labels, "gen_ai.token.type": "input"}
        self._output = {**self._labels, "gen_ai.token.type": "output"}
        self._facts: dict[str, Any] = {f"ollama.fact.{n}": 0.25 for n in range(14)} | {
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.model": "llama3.2",
            "ollama.outcome": "completed",
        }

    def chat(self, *args: Any, **kwargs: Any) -> Any:
        span = self._tracer.start_span(
            "chat llama3.2", kind=SpanKind.CLIENT, attributes=self._labels
        )
        headers: dict[str, str] = {}
        with use_span(span):
            propagate.inject(headers)
            answer = self._client.chat(*args, **kwargs)
            span.set_attributes(self._facts)
            self._duration.record(0.2, self._ended)
            self._tokens.record(14, self._input)
            self._tokens.record(5, self._output)
        span.end()
        return answer


MakeClient = Callable[[httpx.BaseTransport], Any]

PLAIN, FLOOR = "plain", "SDK floor"


def arms() -> dict[str, tuple[MakeClient, Telemetry | None]]:
    """The clients to compare, and what collects their telemetry."""
    sampled, unsampled = Telemetry.create(), Telemetry.create(sampler=ALWAYS_OFF)
    no_op = {"tracer_provider": NoOpTracerProvider(), "meter_provider": NoOpMeterProvider()}

    def drop_in(options: dict[str, Any]) -> MakeClient:
        return lambda transport: Client(transport=transport, **options)

    def instrumented(options: dict[str, Any]) -> MakeClient:
        return lambda transport: instrument_client(ollama.Client(transport=transport), **options)

    return {
        PLAIN: (lambda transport: ollama.Client(transport=transport), None),
        "drop-in": (drop_in(sampled.options), sampled),
        "instrumented": (instrumented(sampled.options), sampled),
        "drop-in, unsampled": (drop_in(unsampled.options), unsampled),
        "instrumented, unsampled": (instrumented(unsampled.options), unsampled),
        "drop-in, no-op": (drop_in(no_op), None),
        "instrumented, no-op": (instrumented(no_op), None),
        FLOOR: (
            lambda transport: SdkFloor(ollama.Client(transport=transport), sampled),
            sampled,
        ),
    }


def _stream(client: Any, repeat: int) -> None:
    for _ in range(repeat):
        for _part in client.chat("llama3.2", messages=MESSAGES, stream=True):
            pass


def _single(client: Any, repeat: int) -> None:
    for _ in range(repeat):
        client.chat("llama3.2", messages=MESSAGES)


def _long_prompt(client: Any, repeat: int) -> None:
    for _ in range(repeat):
        client.chat("llama3.2", messages=[{"role": "user", "content": LONG_PROMPT}])


def _image(client: Any, repeat: int) -> None:
    for _ in range(repeat):
        client.chat("llava", messages=[{"role": "user", "content": "?", "images": [IMAGE]}])


LONG_PROMPT = "The sky is blue because of Rayleigh scattering. " * 2133
IMAGE = bytes(range(256)) * (5 * 1024 * 4)


@dataclass
class Scenario:
    name: str
    run: Callable[[Any, int], None]
    repeat: int
    chunks: list[bytes]
    content_type: str = "application/x-ndjson"
    seconds: dict[str, list[float]] = field(default_factory=dict)


def _scenarios() -> list[Scenario]:
    stream = lambda n: [*map(chunk, range(n - 1)), LAST_CHUNK]  # noqa: E731
    document = "application/json; charset=utf-8"
    return [
        Scenario("single chat", _single, 40, [DOCUMENT], document),
        Scenario("stream of 200 chunks", _stream, 5, stream(200)),
        Scenario("stream of 2,000 chunks", _stream, 1, stream(2000)),
        Scenario("100 kB prompt", _long_prompt, 10, [DOCUMENT], document),
        Scenario("5 MB image", _image, 1, [DOCUMENT], document),
    ]


@dataclass(frozen=True)
class Target:
    """How much CPU one arm may use, as a ratio to another."""

    scenario: str
    arm: str
    base: str
    at_most: float


CHUNK = "one more chunk"

TARGETS = [
    Target("single chat", "drop-in, no-op", PLAIN, 1.10),
    Target("single chat", "drop-in", FLOOR, 1.05),
    Target("single chat", "instrumented", FLOOR, 1.25),
    Target(CHUNK, "drop-in", PLAIN, 0.55),
    Target("stream of 200 chunks", "drop-in", PLAIN, 0.75),
]

Seconds = dict[str, dict[str, list[float]]]
"""CPU seconds of one call in each round, by scenario and arm."""


def measure(rounds: int) -> Seconds:
    """Run all arms in all scenarios."""
    scenarios, makers = _scenarios(), arms()
    clients = {
        (scenario.name, name): make(InProcess(scenario.chunks, scenario.content_type))
        for scenario in scenarios
        for name, (make, _) in makers.items()
    }
    for round_number in range(rounds + 1):
        for scenario in scenarios:
            # Another one goes first each round: the first is the slower or the faster for it.
            turn = round_number % len(makers)
            for name, (_, telemetry) in [*makers.items()][turn:] + [*makers.items()][:turn]:
                client = clients[scenario.name, name]
                gc.collect()
                began = time.process_time()
                scenario.run(client, scenario.repeat)
                spent = (time.process_time() - began) / scenario.repeat
                if telemetry is not None:
                    telemetry.reader.get_metrics_data()
                # The first round warms up.
                if round_number:
                    scenario.seconds.setdefault(name, []).append(spent)
    seconds = {
        scenario.name: {name: scenario.seconds[name] for name in makers} for scenario in scenarios
    }
    short, long = seconds["stream of 200 chunks"], seconds["stream of 2,000 chunks"]
    seconds[CHUNK] = {
        name: [(b - a) / 1800 for a, b in zip(short[name], long[name], strict=True)]
        for name in makers
    }
    return seconds


def ratio(by_arm: dict[str, list[float]], name: str, base: str = PLAIN) -> float:
    """The median over rounds of one arm's time to another's."""
    return statistics.median(
        mine / other for mine, other in zip(by_arm[name], by_arm[base], strict=True)
    )


def ratios(seconds: Seconds) -> dict[str, dict[str, float]]:
    """The ratios to the plain client, by scenario and arm."""
    return {
        scenario: {name: ratio(by_arm, name) for name in by_arm}
        for scenario, by_arm in seconds.items()
    }


def targets(seconds: Seconds) -> list[dict[str, Any]]:
    """The targets, each with what was measured."""
    rows = []
    for target in TARGETS:
        measured = ratio(seconds[target.scenario], target.arm, target.base)
        rows.append(
            {
                "scenario": target.scenario,
                "ratio": f"{target.arm} / {target.base}",
                "target": target.at_most,
                "measured": measured,
                "holds": measured <= target.at_most,
            }
        )
    return rows


def _print(seconds: Seconds) -> None:
    for scenario, by_arm in ratios(seconds).items():
        plain = statistics.median(seconds[scenario][PLAIN]) * 1e6
        print(f"{scenario} (plain: {plain:,.1f} us)")
        for name, value in by_arm.items():
            print(f"    {name:26} {value:5.2f}x")
    print(f"\n{'scenario':22} {'ratio':30} target measured holds")
    for row in targets(seconds):
        print(
            f"{row['scenario']:22} {row['ratio']:30} {row['target']:5.2f}x {row['measured']:7.3f}x"
            f" {'yes' if row['holds'] else 'no'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds = measure(arguments.rounds)
    if not arguments.json:
        _print(seconds)
        return
    print(json.dumps({"ratios": ratios(seconds), "targets": targets(seconds)}, indent=1))


if __name__ == "__main__":
    main()
