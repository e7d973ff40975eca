"""Makes the six calls of the demo through the drop-in client and collects their telemetry."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import Any, Final, Literal

import httpx
import ollama
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from ollama_otel._cli.demo_folder import new_folder
from ollama_otel._cli.demo_server import Models, Server, find_server
from ollama_otel._cli.metric_rows import MetricRow, metric_rows_of
from ollama_otel._cli.report import write_page
from ollama_otel._exchange.observers import CallFollower, Instrumentation
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.reader import read
from ollama_otel._telemetry.exporters import exporter_names, otlp_exporter, otlp_protocols
from ollama_otel._telemetry.instrumentation import build_instrumentation, replay_log_of
from ollama_otel._telemetry.instruments import all_instruments
from ollama_otel._telemetry.residency import release, residency_of
from ollama_otel._wire.address import Address
from ollama_otel.client import Client
from ollama_otel.errors import SettingsError
from ollama_otel.records import CallRecord, CallStart, Outcome
from ollama_otel.settings import Settings

__all__ = ["Delivery", "DemoRun", "Scenario", "Step", "start"]

Signal = Literal["traces", "metrics"]

_QUESTION: Final = "Why is the sky blue?"
_LONG_QUESTION: Final = "Tell me a long story about a lighthouse."
_TOKENS: Final = 64
_MORE_TOKENS: Final = 256
_CHUNKS_READ = 5
_UNKNOWN_MODEL = "no-such-model"
_OF_POLLS: Final = frozenset(
    row.name for row in all_instruments() if row.requires in {"residency", "gpu"}
)
"""Metrics for the boards; a sum over their labels would be meaningless."""
_POLLED_EVERY: Final = 0.5
"""Seconds between two polls of the server; the demo lasts a few seconds."""
_PATIENCE = 4.0
"""Seconds that a collector gets before the demo stops trying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One call, and how it should end."""

    title: str
    play: Callable[[Client], object]
    expected: Outcome = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call that was made, and its record."""

    number: int
    title: str
    span_name: str
    record: CallRecord
    as_expected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The destination of the telemetry, and the signals that arrived."""

    trace_id: str
    """32 hexadecimal digits."""
    endpoints: Mapping[Signal, str]
    """Endpoint of each signal; empty if no collector is configured."""
    arrived: frozenset[Signal]


class DemoRun:
    """Makes the calls one by one; `start` creates it."""

    def __init__(self, server: Server, client: Client, memory: _Memory, sender: _Sender) -> None:
        self.server = server
        self.scenarios = tuple(_scenarios(server.models))
        self.went_as_expected = True
        """Whether all calls so far ended as expected."""
        self._client = client
        self._memory = memory
        self._sender = sender
        self._played = 0

    def play(self, scenario: Scenario) -> Step:
        """Make one call, under the demo's own span."""
        # The record has the error.
        errors = (ollama.ResponseError, ConnectionError, httpx.HTTPError, ValueError)
        with trace.use_span(self._memory.root), suppress(*errors):
            scenario.play(self._client)
        record = self._memory.records[-1]
        self._played += 1
        as_expected = record.outcome == scenario.expected
        self.went_as_expected = self.went_as_expected and as_expected
        return Step(
            number=self._played,
            title=scenario.title,
            span_name=self._memory.spans.get_finished_spans()[-1].name,
            record=record,
            as_expected=as_expected,
        )

    def metrics(self) -> tuple[MetricRow, ...]:
        """Collect the metrics of all calls so far, without those of servers, models and GPUs."""
        rows = metric_rows_of(self._memory.reader.get_metrics_data())
        return tuple(row for row in rows if row.metric not in _OF_POLLS)

    @property
    def log_path(self) -> Path | None:
        """The replay log; None if there is none."""
        return None if self._memory.replay_log is None else self._memory.replay_log.path

    def logged(self) -> tuple[RecordedCall, ...]:
        """Return the logged calls so far."""
        if self._memory.replay_log is None:
            return ()
        self._memory.replay_log.flush()
        return tuple(read(self._memory.replay_log.path))

    def report(self) -> Path | None:
        """Write a report on the calls beside their log, and return its path; None without a log.

        Raises `MissingExtraError` without the extra `analysis`.
        """
        if self.log_path is None or not self.logged():
            return None
        # Needs the extra, and the rest of the demo does not.
        from ollama_otel.analysis import open_log, report  # noqa: PLC0415

        path = self.log_path.with_name("report.html")
        with open_log(self.log_path, cache=False) as calls:
            # A forecast from six calls is meaningless, and simulating it takes seconds.
            write_page(path, report(calls, is_quick=True))
        return path

    def send(self) -> Delivery:
        """End the trace and send all telemetry, if a collector is configured."""
        self._memory.root.end()
        if self._sender.endpoints:
            self._memory.wait_for_poll()
        return Delivery(
            trace_id=trace.format_trace_id(self._memory.root.get_span_context().trace_id),
            endpoints=self._sender.endpoints,
            arrived=self._sender.send(self._memory),
        )


@contextmanager
def start(address: Address, *, model: str | None = None) -> Iterator[DemoRun]:
    """Find a server and prepare the demo.

    Raises `SettingsError` and `MissingExtraError` before the first call is made.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        raise SettingsError("the demo has nothing to show with OTEL_SDK_DISABLED=true: unset it")
    sender = _Sender()
    # In a new folder: the demo's calls do not belong in the user's own log.
    log_path = new_folder() / "calls.jsonl"
    settings = Settings.from_environ().replace(
        replay_log=log_path,
        replay_bodies=True,
        residency=True,
        residency_interval=_POLLED_EVERY,
    )
    with (
        find_server(address, model=model) as server,
        demo_run_of(server, settings=settings, sender=sender) as run,
    ):
        yield run


@contextmanager
def demo_run_of(
    server: Server, *, settings: Settings | None = None, sender: _Sender | None = None
) -> Iterator[DemoRun]:
    """Prepare the demo for a given server."""
    memory = _Memory(settings or Settings())
    with (
        closing(memory),
        Client(
            server.url, instrumentation=memory.instrumentation, **server.client_options
        ) as client,
    ):
        yield DemoRun(server, client, memory, sender or _Sender())


# --- the calls ----------------------------------------------------------------------------


def _scenarios(models: Models) -> Iterator[Scenario]:
    chats, thinks, embeds = models.chats, models.thinks, models.embeds
    yield Scenario(
        title="A first chat", play=lambda client: _ask(client, chats, _QUESTION, think=False)
    )
    yield Scenario(
        title="The same chat again, streamed",
        play=lambda client: list(_ask(client, chats, _QUESTION, think=False, stream=True)),
    )
    if thinks is not None:
        yield Scenario(
            title="A model that thinks first, streamed",
            play=lambda client: list(
                _ask(client, thinks, _QUESTION, _MORE_TOKENS, think=True, stream=True)
            ),
        )
    if embeds is not None:
        yield Scenario(
            title="An embedding", play=lambda client: client.embed(embeds, input=_QUESTION)
        )
    yield Scenario(
        title="A model that does not exist",
        play=lambda client: _ask(client, _UNKNOWN_MODEL, _QUESTION),
        expected="failed",
    )
    yield Scenario(
        title=f"A stream that is closed after {_CHUNKS_READ} chunks",
        play=lambda client: _leave_early(
            _ask(client, chats, _LONG_QUESTION, think=False, stream=True)
        ),
        expected="abandoned",
    )


def _ask(
    client: Client, model: str, question: str, most_tokens: int = _TOKENS, **options: Any
) -> Any:
    message = ollama.Message(role="user", content=question)
    limit = ollama.Options(num_predict=most_tokens)
    return client.chat(model, [message], options=limit, **options)


def _leave_early(stream: Any) -> None:
    for _ in zip(range(_CHUNKS_READ), stream, strict=False):
        pass
    stream.close()


# --- telemetry in memory ------------------------------------------------------------------


class _Memory:
    """Providers that keep spans and metrics, and an observer that keeps records."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.replay_log = replay_log_of(settings)
        self.records: list[CallRecord] = []
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        resource = _resource()
        self._tracer_provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False
        )
        self._tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self._meter_provider = MeterProvider(
            metric_readers=[self.reader], resource=resource, shutdown_on_exit=False
        )
        self.root = self._tracer_provider.get_tracer("ollama_otel.demo").start_span(
            "ollama-otel demo"
        )

    @property
    def instrumentation(self) -> Instrumentation:
        """The instrumentation of a client that reports here."""
        return build_instrumentation(
            tracer_provider=self._tracer_provider,
            meter_provider=self._meter_provider,
            settings=self._settings,
            observers=(self,),
        )

    def begin(self, start: CallStart) -> CallFollower:  # noqa: ARG002 - an observer's signature
        return _Keeper(self.records)

    def wait_for_poll(self) -> None:
        """Wait until a poll has seen a model in memory; a demo may be shorter than an interval."""
        if not self._settings.residency.enabled:
            return
        servers = residency_of(self._settings).servers
        deadline = monotonic() + 4 * _POLLED_EVERY
        while monotonic() < deadline and not any(server.models for server in servers()):
            sleep(_POLLED_EVERY / 10)

    def close(self) -> None:
        """Stop the polls, shut down the providers and close the log."""
        if self._settings.residency:
            # A scripted server ends next, and a poll would say that it cannot be reached.
            release(residency_of(self._settings), self)
        self._tracer_provider.shutdown()
        self._meter_provider.shutdown()
        if self.replay_log is not None:
            self.replay_log.close()


class _Keeper(CallFollower):
    def __init__(self, records: list[CallRecord]) -> None:
        self._records = records

    def end(self, record: CallRecord) -> None:
        self._records.append(record)


def _resource() -> Resource:
    resource = Resource.create()
    if not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource
    return resource.merge(Resource({SERVICE_NAME: "ollama-otel-demo"}))


# --- sending ------------------------------------------------------------------------------


class _Sender:
    """Sends spans and metrics to the collectors that the standard variables name.

    It calls the exporters directly, as a processor does not report their results. Raises
    `SettingsError` and `MissingExtraError`.
    """

    def __init__(self) -> None:
        signals: tuple[Signal, ...] = ("traces", "metrics")
        self._exporters: dict[Signal, Any] = {
            signal: otlp_exporter(signal, protocols[0])
            for signal in signals
            if _endpoint(signal) and (protocols := otlp_protocols(signal, exporter_names(signal)))
        }
        self.endpoints = {signal: _endpoint(signal) for signal in self._exporters}

    def send(self, memory: _Memory) -> frozenset[Signal]:
        """Send everything and return the signals that arrived."""
        contents: dict[Signal, Any] = {
            "traces": memory.spans.get_finished_spans(),
            "metrics": memory.reader.get_metrics_data(),
        }
        arrived: set[Signal] = set()
        silent: set[str] = set()
        for signal, exporter in self._exporters.items():
            endpoint = self.endpoints[signal]
            began = monotonic()
            if endpoint not in silent and _export(exporter, contents[signal]):
                arrived.add(signal)
            elif monotonic() - began >= _PATIENCE:
                silent.add(endpoint)
        return frozenset(arrived)


def _endpoint(signal: Signal) -> str:
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next(filter(None, (os.environ.get(name, "").strip() for name in variables)), "")


def _export(exporter: Any, content: Any) -> bool:
    # Otherwise the exporter retries until its own, much longer timeout.
    giving_up = Timer(_PATIENCE, exporter.shutdown)
    giving_up.start()
    try:
        with _silent_exporters():
            result = exporter.export(content)
    finally:
        giving_up.cancel()
    return result in {SpanExportResult.SUCCESS, MetricExportResult.SUCCESS}


@contextmanager
def _silent_exporters() -> Iterator[None]:
    """Suppress their log lines: the demo reports failed exports itself."""
    logger = logging.getLogger("opentelemetry")
    propagates, handler = logger.propagate, logging.NullHandler()
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
