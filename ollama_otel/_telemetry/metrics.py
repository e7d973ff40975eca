"""Turns records into metrics.

Recording into an SDK histogram costs about a third of a span, so only values that need a
distribution use one; sums are kept here and read when metrics are collected.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import methodcaller
from typing import Any, Literal

from msgspec.structs import replace
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter
from opentelemetry.metrics import Observation as Measurement

from ollama_otel import _names as names
from ollama_otel import _process
from ollama_otel._attempt import StructuredOutcome
from ollama_otel._exchange.observers import Backlog, CallFollower
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.cost_metrics import CostInstruments
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.label_values import LabelValues
from ollama_otel._telemetry.resilience_metrics import ResilienceInstruments
from ollama_otel._telemetry.spans import operation_of
from ollama_otel._wire.model_names import key_of
from ollama_otel.records import CallRecord, CallStart, Phase, ResponseKind, TruncationKind
from ollama_otel.settings import Profile, Settings

__all__ = ["Instruments", "MetricObserver"]

LabelValue = str | int
Labels = dict[str, LabelValue]
Sum = Phase | Literal["moved", "input_tokens", "output_tokens"]

_MAX_SERIES = 10_000
"""Most combinations of labels; further ones are counted as `_OTHER` with their operation."""
_MAX_SERVERS = 200
"""Most servers with their own labels."""
_MAX_PENDING = 16
"""Records of one series that are pending before they are added up."""


class _Series:
    """Counts and sums of calls with the same labels; guarded by the lock of `Instruments`."""

    __slots__ = (
        "_finishes",
        "_pending",
        "_sums",
        "active",
        "base",
        "by_end",
        "input",
        "is_inference",
        "is_settled",
        "output",
        "response",
    )

    def __init__(self, base: Labels, response: ResponseKind, *, is_inference: bool) -> None:
        # Equal for all calls of the series, as the labels include the operation.
        self.response, self.is_inference = response, is_inference
        self.is_settled = False
        """Whether the names of these calls have answered, and have their final label values."""
        self.base = base
        self.input = {**base, names.TOKEN_TYPE: "input"}
        self.output = {**base, names.TOKEN_TYPE: "output"}
        self.by_end: dict[tuple[str, str | None], Labels] = {}
        self.active = 0
        self._sums: defaultdict[Sum, float] = defaultdict(float)
        self._finishes: Tally[str | None] = Tally()
        self._pending: list[CallRecord] = []

    def add(self, record: CallRecord) -> None:
        """Add an ended call; records are added up in batches, at a third of the cost."""
        self._pending.append(record)
        holds_content = record.answer is not None or record.start.content is not None
        if holds_content or len(self._pending) >= _MAX_PENDING:
            self._add_up()

    def _add_up(self) -> None:
        # Column by column, without a step of the interpreter for each amount.
        amounts = list(map(self._amounts, self._pending))
        for name in dict.fromkeys(chain.from_iterable(amounts)):
            self._sums[name] += sum(map(methodcaller("get", name, 0), amounts))
        if self.is_inference and self.response == "completion":
            self._finishes.update(
                record.finish_reason for record in self._pending if record.outcome == "completed"
            )
        self._pending.clear()

    def _amounts(self, record: CallRecord) -> Mapping[Any, float]:
        """Return the amounts that a call adds to the sums."""
        if not self.is_inference:
            moved = record.progress.moved_bytes
            return {"moved": moved} if moved else {}
        if self.response != "completion":
            return record.phases
        return {
            **record.phases,
            "input_tokens": record.response.input_tokens or 0,
            "output_tokens": record.response.output_tokens or 0,
        }

    @property
    def sums(self) -> Mapping[Sum, float]:
        """The sums of all ended calls."""
        self._add_up()
        return self._sums

    @property
    def finishes(self) -> Mapping[str | None, int]:
        """The number of completed calls that generate, by finish reason."""
        self._add_up()
        return self._finishes

    def without_calls(self) -> _Series:
        """Return the same sums, without the running calls."""
        series = _Series(self.base, self.response, is_inference=self.is_inference)
        series.is_settled = self.is_settled
        series._sums.update(self.sums)
        series._finishes.update(self.finishes)
        return series

    def ended(self, outcome: str, error_type: str | None) -> Labels:
        """Return the labels of the duration, the same object for the same end."""
        labels = self.by_end.get((outcome, error_type))
        if labels is None:
            labels = {**self.base, names.OUTCOME: outcome}
            if error_type is not None:
                labels[names.ERROR_TYPE] = error_type
            self.by_end[outcome, error_type] = labels
        return labels


class Instruments:
    """The instruments of one meter, and the sums of the observable ones.

    There must be one for each meter: observable instruments would report twice.
    """

    def __init__(self, meter: Meter, profile: Profile) -> None:
        # Reentrant: the garbage collector may end a call while this thread holds the lock.
        self.lock = threading.RLock()
        self.series: dict[tuple[Any, ...], _Series] = {}
        self.models = LabelValues(key_of)
        self.response_models = LabelValues(key_of)
        self.servers = LabelValues()
        self.agents = LabelValues()
        self.tools = LabelValues()
        self.tool_errors = LabelValues()
        # The counts of a deleted log stay: counters must not decrease.
        self.losses: set[Callable[[], Mapping[str, int]]] = set()
        self.backlogs: set[Callable[[], Backlog]] = set()
        genai = rows.GENAI_INSTRUMENTS[profile]

        def histogram(row: Instrument | None) -> Histogram | None:
            return None if row is None else _histogram(meter, row)

        self.inference_duration = _histogram(meter, genai.inference_duration)
        self.embeddings_duration = (
            self.inference_duration
            if genai.embeddings_duration == genai.inference_duration
            else _histogram(meter, genai.embeddings_duration)
        )
        self.time_to_first_chunk = _histogram(meter, genai.time_to_first_chunk)
        self.time_per_output_chunk = _histogram(meter, genai.time_per_output_chunk)
        self.token_usage = histogram(genai.token_usage)
        self.input_tokens = histogram(genai.input_tokens)
        self.output_tokens = histogram(genai.output_tokens)
        self.management_duration = _histogram(meter, rows.MANAGEMENT_DURATION)
        self.load_duration = _histogram(meter, rows.LOAD_DURATION)
        self.queue_duration = _histogram(meter, rows.QUEUE_DURATION)
        self.longest_gap = _histogram(meter, rows.LONGEST_GAP)
        self.agent_duration = _histogram(meter, rows.AGENT_DURATION)
        self.agent_rounds = _histogram(meter, rows.AGENT_ROUNDS)
        self.agent_tool_calls = _histogram(meter, rows.AGENT_TOOL_CALLS)
        self.agent_input_tokens = _histogram(meter, rows.AGENT_INPUT_TOKENS)
        self.agent_output_tokens = _histogram(meter, rows.AGENT_OUTPUT_TOKENS)
        self.tool_duration = _histogram(meter, rows.TOOL_DURATION)
        answers = rows.STRUCTURED_ANSWERS
        self.structured_answers = meter.create_counter(
            answers.name, unit=answers.unit, description=answers.description
        )
        self.resilience = ResilienceInstruments(meter)
        self.cost = CostInstruments(meter)
        self.truncations = _counter(meter, rows.TRUNCATIONS)
        self._observe(meter, rows.ACTIVE_REQUESTS, Instruments._active)
        self._observe(meter, rows.PHASE_TIME, Instruments._phases)
        self._observe(meter, rows.FINISH_REASONS, Instruments._finish_reasons)
        self._observe(meter, rows.TRANSFER_SIZE, Instruments._transfers)
        self._observe(meter, rows.LOG_DROPPED, Instruments._dropped)
        self._observe(meter, rows.LOG_PENDING, _backlog_reader("pending_lines"))
        self._observe(meter, rows.LOG_FAILED_WRITES, _backlog_reader("failed_writes"))
        for row, total in (
            (genai.input_tokens_total, "input_tokens"),
            (genai.output_tokens_total, "output_tokens"),
        ):
            if row is not None:
                self._observe(meter, row, _token_reader(total))
        _process.at_fork(after_in_child=self._reset_after_fork)

    def _observe(self, meter: Meter, row: Instrument, read: Any) -> None:
        """Register a callback that reads the sums; it does not keep this object alive."""
        reference = weakref.ref(self)

        def callback(options: CallbackOptions) -> Iterable[Measurement]:  # noqa: ARG001
            instruments = reference()
            if instruments is None:
                return ()
            _process.catch_up()
            with instruments.lock:
                return list(read(instruments))

        create = (
            meter.create_observable_up_down_counter
            if row.kind == "updowncounter"
            else meter.create_observable_counter
        )
        create(row.name, callbacks=[callback], unit=row.unit, description=row.description)

    def _active(self) -> Iterator[Measurement]:
        return (Measurement(series.active, series.base) for series in self.series.values())

    def _phases(self) -> Iterator[Measurement]:
        for series in self.series.values():
            for phase in rows.PHASES:
                if (seconds := series.sums.get(phase)) is not None:
                    yield Measurement(seconds, {**series.base, names.PHASE: phase})

    def _finish_reasons(self) -> Iterator[Measurement]:
        for series in self.series.values():
            for reason, count in series.finishes.items():
                known = {} if reason is None else {names.FINISH_REASON: reason}
                yield Measurement(count, {**series.base, **known})

    def _transfers(self) -> Iterator[Measurement]:
        for series in self.series.values():
            if (moved := series.sums.get("moved")) is not None:
                yield Measurement(int(moved), series.base)

    def _dropped(self) -> Iterator[Measurement]:
        losses = [count() for count in self.losses]
        for item in dict.fromkeys(item for each in losses for item in each):
            lost = sum(each.get(item, 0) for each in losses)
            yield Measurement(lost, {names.LOG_ITEM: item})

    def _reset_after_fork(self) -> None:
        """Drop the parent's running calls, and a lock that it may have held."""
        self.lock = threading.RLock()
        # New objects: a copy of the parent's call may still end here, in the old ones.
        self.series = {key: series.without_calls() for key, series in self.series.items()}


def _backlog_reader(count: str) -> Any:
    def read(instruments: Instruments) -> Iterator[Measurement]:
        if instruments.backlogs:
            yield Measurement(sum(getattr(backlog(), count) for backlog in instruments.backlogs))

    return read


def _token_reader(total: str) -> Any:
    def read(instruments: Instruments) -> Iterator[Measurement]:
        for series in instruments.series.values():
            if (tokens := series.sums.get(total)) is not None:  # type: ignore[call-overload]
                # Ollama's counts do not distinguish text from images.
                yield Measurement(int(tokens), {**series.base, names.TOKEN_MODALITY: "unknown"})

    return read


def _histogram(meter: Meter, row: Instrument) -> Histogram:
    return meter.create_histogram(
        row.name,
        unit=row.unit,
        description=row.description,
        explicit_bucket_boundaries_advisory=row.buckets,
    )


def _counter(meter: Meter, row: Instrument) -> Counter:
    return meter.create_counter(row.name, unit=row.unit, description=row.description)


def _server_of(start: CallStart) -> str:
    """Return one name for a server; empty if it is unknown."""
    return "" if start.server_address is None else f"{start.server_address}:{start.server_port}"


def _at_its_server(record: CallRecord) -> CallRecord:
    """Return a record whose start has the server of the fallback that served the call."""
    served = record.resilience
    start = replace(
        record.start, server_address=served.server_address, server_port=served.server_port
    )
    return replace(record, start=start)


class _MetricFollower(CallFollower):
    __slots__ = ("_observer", "_series")

    def __init__(self, observer: MetricObserver, series: _Series) -> None:
        self._observer = observer
        self._series = series

    def end(self, record: CallRecord) -> None:
        self._observer.record(self._series, record)


class _ChunkTimer(_MetricFollower):
    __slots__ = ("_previous_at",)

    def __init__(self, observer: MetricObserver, series: _Series) -> None:
        super().__init__(observer, series)
        self._previous_at: float | None = None

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        record = self._observer.instruments.time_per_output_chunk.record
        for piece, now in zip(pieces, arrivals, strict=True):
            if not piece:
                continue
            if self._previous_at is not None:
                record(now - self._previous_at, self._series.base)
            self._previous_at = now


class MetricObserver:
    """Counts and times calls. For low cardinality, labels have no text, ids or options."""

    def __init__(self, instruments: Instruments, settings: Settings) -> None:
        self.instruments = instruments
        self._settings = settings.telemetry

    def begin(self, start: CallStart) -> CallFollower:
        instruments = self.instruments
        series = self._series_for(start)
        with instruments.lock:
            series.active += 1
        times_chunks = (
            self._settings.time_per_output_chunk
            and start.request.stream
            and start.endpoint.genai_operation is not None
        )
        return (_ChunkTimer if times_chunks else _MetricFollower)(self, series)

    def _series_for(self, start: CallStart) -> _Series:
        request = start.request
        key = (
            start.endpoint.name,
            request.purpose,
            request.model,
            start.server_address,
            start.server_port,
        )
        series = self.instruments.series.get(key)
        return series if series is not None else self._new_series(key, start)

    def _new_series(self, key: tuple[Any, ...], start: CallStart) -> _Series:
        instruments, model = self.instruments, start.request.model
        with instruments.lock:
            if model is not None:
                model = instruments.models.label(model, self._settings.max_models)
            address, port = start.server_address, start.server_port
            if instruments.servers.label(_server_of(start), _MAX_SERVERS) == names.OTHER:
                address, port = names.OTHER, None
            key = (*key[:2], model, address, port)
            if key not in instruments.series and len(instruments.series) >= _MAX_SERIES:
                model = None if model is None else names.OTHER
                address, port = names.OTHER, None
                key = (*key[:2], model, address, port)
            if key in instruments.series:
                return instruments.series[key]
            attribute, operation = operation_of(start)
            base: Labels = {attribute: operation, names.PROVIDER_NAME: names.PROVIDER}
            for name, value in (
                (names.REQUEST_MODEL, model),
                (names.SERVER_ADDRESS, address),
                (names.SERVER_PORT, port),
            ):
                if value is not None:
                    base[name] = value
            series = instruments.series[key] = _Series(
                base, start.endpoint.response, is_inference=start.is_inference
            )
            return series

    def _settled(self, record: CallRecord) -> _Series:
        """Return the series of an ended call, whose names may have label values now."""
        instruments, start = self.instruments, record.start
        model, server = start.request.model, _server_of(start)
        if record.http_status is not None:
            instruments.servers.answered(server, _MAX_SERVERS)
        if record.outcome == "completed" and model is not None:
            instruments.models.answered(model, self._settings.max_models)
        series = self._series_for(start)
        series.is_settled = (
            names.OTHER not in series.base.values()
            and instruments.servers.is_settled(server)
            and (model is None or instruments.models.is_settled(model))
        )
        return series

    def record(self, series: _Series, record: CallRecord) -> None:
        """Record an ended call, in the context of its span, for exemplars."""
        instruments = self.instruments
        with instruments.lock:
            series.active -= 1
            if record.is_hop:
                return
            if record.resilience.server_address is not None:
                record = _at_its_server(record)
                series = self._series_for(record.start)
            if not series.is_settled:
                series = self._settled(record)
            series.add(record)
        ended = series.ended(record.outcome, record.error_type)
        model = record.response.model
        if self._settings.response_model_on_metrics and model is not None:
            ended = {**ended, names.RESPONSE_MODEL: self._response_model(record, model)}
        if record.resilience.attempts is not None:
            instruments.resilience.record(
                record.resilience, series.base, is_inference=series.is_inference
            )
        if record.cost.currency is not None:
            instruments.cost.record(record.cost, series.base)
        if not series.is_inference:
            instruments.management_duration.record(record.duration, ended)
            return
        duration = (
            instruments.embeddings_duration
            if series.response == "embedding"
            else instruments.inference_duration
        )
        duration.record(record.duration, ended)
        self._tokens(series, record)
        self._waits(series, record)

    def answered(
        self, operation: str, model: str, outcome: StructuredOutcome, *, is_final: bool
    ) -> None:
        """Count an answer to a request for a typed value."""
        instruments = self.instruments
        with instruments.lock:
            model = instruments.models.label(model, self._settings.max_models)
        instruments.structured_answers.add(
            1,
            {
                names.OPERATION_NAME: operation,
                names.PROVIDER_NAME: names.PROVIDER,
                names.REQUEST_MODEL: model,
                names.STRUCTURED_OUTCOME: outcome,
                names.STRUCTURED_IS_FINAL: is_final,
            },
        )

    def count_truncation(self, start: CallStart, kind: TruncationKind) -> None:
        """Count a truncated call; callable from any thread."""
        labels = {**self._series_for(start).base, names.TRUNCATION_KIND: kind}
        self.instruments.truncations.add(1, labels)

    def _response_model(self, record: CallRecord, model: str) -> str:
        instruments, most = self.instruments, self._settings.max_models
        with instruments.lock:
            if record.outcome == "completed":
                instruments.response_models.answered(model, most)
            return instruments.response_models.label(model, most)

    def _waits(self, series: _Series, record: CallRecord) -> None:
        instruments, labels = self.instruments, series.base
        if record.time_to_first_chunk is not None:
            instruments.time_to_first_chunk.record(record.time_to_first_chunk, labels)
        if record.longest_gap is not None:
            instruments.longest_gap.record(record.longest_gap, labels)
        if record.cold_start and (load := record.response.load_duration) is not None:
            instruments.load_duration.record(load, labels)
        queue = record.queue_estimate
        if queue is not None and record.waited_for_slot:
            instruments.queue_duration.record(queue, labels)

    def _tokens(self, series: _Series, record: CallRecord) -> None:
        instruments, response = self.instruments, record.response
        usage = instruments.token_usage
        if usage is not None:
            if response.input_tokens is not None:
                usage.record(response.input_tokens, series.input)
            if response.output_tokens is not None:
                usage.record(response.output_tokens, series.output)
        elif series.response == "completion":
            for tokens, histogram in (
                (response.input_tokens, instruments.input_tokens),
                (response.output_tokens, instruments.output_tokens),
            ):
                if tokens is not None and histogram is not None:
                    histogram.record(tokens, series.base)
