"""The table of all metrics: units, buckets, labels and what emits them, per profile.

Sources: GenAI semantic conventions v1.41.0 and the main branch of their successor
(`gen-ai-dev`); OpenTelemetry's conventions for hardware and SDK self-metrics; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Final, Literal, get_args

from ollama_otel._telemetry import names
from ollama_otel.records import Phase
from ollama_otel.settings import Profile

InstrumentKind = Literal["histogram", "counter", "updowncounter", "gauge"]
Requirement = Literal["calls", "event", "residency", "gpu", "sdk_metrics", "time_per_output_chunk"]
"""What has to hold before an app emits a metric.

- calls: nothing but calls.
- event: something that may never happen, such as a call that waits for a slot.
- the others: a feature that is off by default has to be on.
"""

_Source = tuple[Requirement, str]
"""The columns `requires` and `emitted_by`, where several rows have the same."""

_CONVENTION_SECONDS = tuple(0.01 * 2**power for power in range(14))
_LONG_SECONDS = (163.84, 327.68, 655.36, 1200.0)
"""Up to 20 minutes: loading a cold 70B model takes minutes."""
_SECONDS = tuple(round(bound, 2) for bound in _CONVENTION_SECONDS) + _LONG_SECONDS
_TOKENS = tuple(float(4**power) for power in range(14))

SERVER_LABELS: Final = (names.SERVER_ADDRESS, names.SERVER_PORT)
CALL_LABELS: Final = (
    names.OPERATION_NAME,
    names.PROVIDER_NAME,
    names.REQUEST_MODEL,
    *SERVER_LABELS,
)
ANY_CALL_LABELS: Final = (names.OLLAMA_OPERATION_NAME, *CALL_LABELS)
"""Of metrics that include model management, which has the first label and lacks the second."""
END_LABELS: Final = (names.OUTCOME, names.ERROR_TYPE, names.RESPONSE_MODEL)
MODEL_LABELS: Final = (names.MODEL_NAME, *SERVER_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric. Boards and rules are checked against these rows."""

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    requires: Requirement
    emitted_by: str
    """What emits it, for people; completes the sentence "it comes from ..."."""
    labels: tuple[str, ...] = CALL_LABELS
    """Attributes it may carry."""
    buckets: tuple[float, ...] | None = None
    role: str | None = None
    """Shared by instruments of which an app records one or another; None: no alternative."""


def _seconds(
    name: str,
    description: str,
    requires: Requirement,
    emitted_by: str,
    *,
    labels: tuple[str, ...] = CALL_LABELS,
    buckets: tuple[float, ...] | None = _SECONDS,
    role: str | None = None,
) -> Instrument:
    return Instrument(
        name=name,
        kind="histogram",
        unit="s",
        description=description,
        requires=requires,
        emitted_by=emitted_by,
        labels=labels,
        buckets=buckets,
        role=role,
    )


def _tokens(
    name: str, description: str, kind: InstrumentKind, labels: tuple[str, ...] = CALL_LABELS
) -> Instrument:
    return Instrument(
        name=name,
        kind=kind,
        unit="{token}",
        description=description,
        requires="calls",
        emitted_by="any call that completes",
        labels=labels,
        buckets=_TOKENS if kind == "histogram" else None,
        role="tokens",
    )


def _gauge(
    name: str,
    unit: str,
    description: str,
    labels: tuple[str, ...],
    requires: Requirement,
    emitted_by: str,
    *,
    kind: InstrumentKind = "gauge",
) -> Instrument:
    return Instrument(
        name=name,
        kind=kind,
        unit=unit,
        description=description,
        requires=requires,
        emitted_by=emitted_by,
        labels=labels,
    )


_counter = partial(_gauge, kind="counter")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenAIInstruments:
    """The instruments of the GenAI conventions, by the names of one profile."""

    inference_duration: Instrument
    embeddings_duration: Instrument
    time_to_first_chunk: Instrument
    time_per_output_chunk: Instrument
    token_usage: Instrument | None = None
    """One histogram for both directions, by `gen_ai.token.type` (v1.41)."""
    input_tokens: Instrument | None = None
    output_tokens: Instrument | None = None
    """One histogram per direction (gen-ai-dev)."""
    input_tokens_total: Instrument | None = None
    output_tokens_total: Instrument | None = None
    """One counter per direction (gen-ai-dev)."""


_CALL_ENDS: Final[_Source] = ("calls", "any call that ends")
_STREAM: Final[_Source] = ("event", "calls that stream (stream=True)")
_EVERY_CHUNK: Final[_Source] = (
    "time_per_output_chunk",
    "configure(time_per_output_chunk=True) and calls that stream",
)


def _duration(name: str) -> Instrument:
    return _seconds(
        name,
        "Duration of a call, from sending the request to the end of the response.",
        *_CALL_ENDS,
        labels=(*CALL_LABELS, *END_LABELS),
        role="duration",
    )


def _time_to_first_chunk(name: str) -> Instrument:
    return _seconds(
        name,
        "Time from sending the request to the first chunk of a streamed response.",
        *_STREAM,
        role="time_to_first_chunk",
    )


def _time_per_output_chunk(name: str) -> Instrument:
    return _seconds(
        name,
        "Time between two consecutive chunks of a streamed response, after the first.",
        *_EVERY_CHUNK,
        role="time_per_output_chunk",
    )


_OPERATION_DURATION = _duration("gen_ai.client.operation.duration")

GENAI_INSTRUMENTS: Final[Mapping[Profile, GenAIInstruments]] = {
    "v1.41": GenAIInstruments(
        inference_duration=_OPERATION_DURATION,
        embeddings_duration=_OPERATION_DURATION,
        time_to_first_chunk=_time_to_first_chunk("gen_ai.client.operation.time_to_first_chunk"),
        time_per_output_chunk=_time_per_output_chunk(
            "gen_ai.client.operation.time_per_output_chunk"
        ),
        token_usage=_tokens(
            "gen_ai.client.token.usage",
            "Tokens used by a call, as counted by the server.",
            "histogram",
            (*CALL_LABELS, names.TOKEN_TYPE),
        ),
    ),
    "gen-ai-dev": GenAIInstruments(
        inference_duration=_duration("gen_ai.client.inference.duration"),
        embeddings_duration=_OPERATION_DURATION,
        time_to_first_chunk=_time_to_first_chunk("gen_ai.client.inference.time_to_first_chunk"),
        time_per_output_chunk=_time_per_output_chunk(
            "gen_ai.client.inference.time_per_output_chunk"
        ),
        input_tokens=_tokens(
            "gen_ai.client.inference.operation.input_tokens",
            "Input tokens of a call.",
            "histogram",
        ),
        output_tokens=_tokens(
            "gen_ai.client.inference.operation.output_tokens",
            "Output tokens of a call.",
            "histogram",
        ),
        input_tokens_total=_tokens(
            "gen_ai.client.inference.usage.input_tokens",
            "Input tokens, summed over all calls.",
            "counter",
            (*CALL_LABELS, names.TOKEN_MODALITY),
        ),
        output_tokens_total=_tokens(
            "gen_ai.client.inference.usage.output_tokens",
            "Output tokens, summed over all calls.",
            "counter",
            (*CALL_LABELS, names.TOKEN_MODALITY),
        ),
    ),
}

MANAGEMENT_DURATION: Final = _seconds(
    "ollama.client.operation.duration",
    "Duration of model-management calls, including loading and unloading.",
    "event",
    "model-management calls: list, show, pull, ...",
    labels=(*ANY_CALL_LABELS, *END_LABELS),
    buckets=(*_SECONDS, 2621.44),
)
LOAD_DURATION: Final = _seconds(
    "ollama.client.load.duration",
    "Time the server spent loading the model for a call; cold starts only.",
    "event",
    "calls that wait for their model to be loaded",
)
QUEUE_DURATION: Final = _seconds(
    "ollama.client.queue.estimated_duration",
    "Estimated time a call waited for a slot, from the server's timings; only calls that waited.",
    "event",
    "calls that wait for a slot",
)
LONGEST_GAP: Final = _seconds(
    "ollama.client.stream.longest_gap",
    "Longest time between two chunks of a streamed response, without time spent in the caller.",
    *_STREAM,
)
PHASE_TIME: Final = _counter(
    "ollama.client.phase.time",
    "s",
    "Time spent in each phase, summed over all calls; by ollama.phase.",
    (*CALL_LABELS, names.PHASE),
    *_CALL_ENDS,
)
ACTIVE_REQUESTS: Final = Instrument(
    name="ollama.client.request.active",
    kind="updowncounter",
    unit="{request}",
    description="Calls in progress.",
    requires="calls",
    emitted_by="any call",
    labels=ANY_CALL_LABELS,
)
TRANSFER_SIZE: Final = _counter(
    "ollama.client.transfer.size",
    "By",
    "Bytes transferred by pulling and pushing models.",
    ANY_CALL_LABELS,
    "event",
    "pulls and pushes of models",
)
LOG_DROPPED: Final = _counter(
    "ollama.client.replay_log.dropped",
    "{item}",
    "Items dropped from the replay log, by ollama.replay_log.item.",
    (names.LOG_ITEM,),
    "event",
    "a replay log that drops something",
)

# --- server and models, observed by polling /api/ps ------------------------------------------

_RESIDENCY: Final = "configure(residency=True)"
_WATCHED: Final[_Source] = ("residency", _RESIDENCY)
_LOADED: Final[_Source] = ("residency", f"{_RESIDENCY} and a model in memory")


SERVER_UP: Final = _gauge(
    "ollama.server.up",
    "{server}",
    "1 if the server can be reached, 0 if not.",
    SERVER_LABELS,
    *_WATCHED,
)
SERVER_BUSY: Final = _gauge(
    "ollama.server.busy",
    "{server}",
    "1 if the last poll of /api/ps was accepted but timed out, otherwise 0.",
    SERVER_LABELS,
    *_WATCHED,
)
SERVER_INFO: Final = _gauge(
    "ollama.server.info",
    "{server}",
    "Always 1; the server's version is a label.",
    (names.SERVER_VERSION, *SERVER_LABELS),
    *_WATCHED,
)
MODELS_LOADED: Final = _gauge(
    "ollama.server.model.loaded", "{model}", "Models in memory.", SERVER_LABELS, *_WATCHED
)
MODELS_INSTALLED: Final = _gauge(
    "ollama.server.model.installed", "{model}", "Models on disk.", SERVER_LABELS, *_WATCHED
)
MEMORY_USAGE: Final = _gauge(
    "ollama.model.memory.usage",
    "By",
    "Memory used by a loaded model, by ollama.memory.type: gpu or cpu.",
    (*MODEL_LABELS, names.MEMORY_TYPE),
    *_LOADED,
)
# The unit is not "1": OTLP receivers would append `_ratio` to the name, the scrape endpoint not.
GPU_SHARE: Final = _gauge(
    "ollama.model.gpu.share",
    "{share}",
    "Fraction of a loaded model that is in GPU memory, from 0 to 1.",
    MODEL_LABELS,
    *_LOADED,
)
CONTEXT_LENGTH: Final = _gauge(
    "ollama.model.context.length",
    "{token}",
    "Context length of a loaded model, per request.",
    MODEL_LABELS,
    *_LOADED,
)
EXPIRY: Final = _gauge(
    "ollama.model.expiry.remaining",
    "s",
    "Time until an idle model is unloaded; absent for a model without expiry.",
    MODEL_LABELS,
    "residency",
    f"{_RESIDENCY} and a model in memory that expires",
)
LOADS: Final = _counter(
    "ollama.model.loads",
    "{load}",
    "Observed loads of a model.",
    MODEL_LABELS,
    "residency",
    f"{_RESIDENCY} and a model being loaded",
)
RELOADS: Final = _counter(
    "ollama.model.reloads",
    "{reload}",
    "Observed loads of a model that was in memory before, by ollama.reload.cause.",
    (*MODEL_LABELS, names.RELOAD_CAUSE),
    "residency",
    f"{_RESIDENCY} and a model being loaded again",
)
UNLOADS: Final = _counter(
    "ollama.model.unloads",
    "{unload}",
    "Observed unloads of a model, by ollama.unload.reason.",
    (*MODEL_LABELS, names.UNLOAD_REASON),
    "residency",
    f"{_RESIDENCY} and a model being unloaded",
)
EVICTIONS: Final = _counter(
    "ollama.model.evictions",
    "{eviction}",
    "Observed unloads of a model to make room for another, by ollama.model.evicted_by.",
    (*MODEL_LABELS, names.EVICTED_BY),
    "residency",
    f"{_RESIDENCY} and a model being evicted by another",
)
_HARDWARE = (names.HARDWARE_ID, names.HARDWARE_NAME, names.HARDWARE_TYPE)
_GPU: Final[_Source] = (
    "gpu",
    f"{_RESIDENCY}, pip install 'ollama_otel[nvidia]' and an NVIDIA GPU in the app's machine",
)
GPU_MEMORY_USAGE: Final = _gauge(
    "hw.gpu.memory.usage", "By", "GPU memory in use on this machine.", _HARDWARE, *_GPU
)
GPU_MEMORY_LIMIT: Final = _gauge(
    "hw.gpu.memory.limit", "By", "Total GPU memory on this machine.", _HARDWARE, *_GPU
)
GPU_POWER: Final = _gauge(
    "hw.power", "W", "Power drawn by a GPU of this machine.", _HARDWARE, *_GPU
)

# --- self-metrics of OpenTelemetry's SDK -----------------------------------------------------

_SDK: Final = "configure() or OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true"
_SDK_LABELS = (
    names.COMPONENT_NAME,
    names.COMPONENT_TYPE,
    names.ERROR_TYPE,
    names.SERVER_ADDRESS,
    names.SERVER_PORT,
)
SDK_SPANS_PROCESSED: Final = _counter(
    "otel.sdk.processor.span.processed",
    "{span}",
    "Spans that left the SDK's queue; error.type is set if they were dropped.",
    _SDK_LABELS,
    "sdk_metrics",
    f"{_SDK}, and spans",
)
SDK_SPANS_EXPORTED: Final = _counter(
    "otel.sdk.exporter.span.exported",
    "{span}",
    "Spans whose export finished; error.type is set if it failed.",
    _SDK_LABELS,
    "sdk_metrics",
    f"{_SDK}, and exported spans",
)
SDK_POINTS_EXPORTED: Final = _counter(
    "otel.sdk.exporter.metric_data_point.exported",
    "{data_point}",
    "Metric data points whose export finished; error.type is set if it failed.",
    _SDK_LABELS,
    "sdk_metrics",
    f"{_SDK}, and exported metrics",
)
# The counters above take a response of 400 or 503 for a success; only here its status shows it.
SDK_EXPORT_DURATION: Final = _seconds(
    "otel.sdk.exporter.operation.duration",
    "Duration of one export; error.type or the HTTP status is set if it failed.",
    "sdk_metrics",
    f"{_SDK}, and exports",
    labels=(*_SDK_LABELS, names.HTTP_STATUS),
    buckets=None,
)

EVIDENCE: Final[Mapping[Requirement, Instrument]] = {
    "residency": SERVER_UP,
    "sdk_metrics": SDK_POINTS_EXPORTED,
}
"""Metrics that every app emits on which a feature is on: where one is there, so is its feature."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
"""Values of `ollama.phase`; their times add up to the durations of the calls."""


def instruments_of(profile: Profile) -> tuple[Instrument, ...]:
    """Return all instruments of a profile."""
    genai = GENAI_INSTRUMENTS[profile]
    of_profile = (getattr(genai, each.name) for each in fields(genai))
    own = (row for row in globals().values() if isinstance(row, Instrument))
    return tuple(dict.fromkeys(row for row in (*of_profile, *own) if row is not None))


def all_instruments() -> tuple[Instrument, ...]:
    """Return the instruments of all profiles."""
    return tuple(dict.fromkeys(row for each in GENAI_INSTRUMENTS for row in instruments_of(each)))
