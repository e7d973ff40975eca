"""The one table of metrics that go out: units, buckets and labels, per profile.

Sources: GenAI semantic conventions v1.41.0 and their successor's main (`gen-ai-dev`), for
what the SDK tells of itself and for hardware OpenTelemetry's own; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from ollama_otel import _names as names
from ollama_otel.records import Phase
from ollama_otel.settings import Profile

InstrumentKind = Literal["histogram", "counter", "updowncounter", "gauge"]

_CONVENTION_SECONDS = tuple(0.01 * 2**power for power in range(14))
_LONG_SECONDS = (163.84, 327.68, 655.36, 1200.0)
"""Carried on to 20 minutes: a cold 70B model takes some of them."""
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
"""Of metrics that also tell of what is no inference; that has the first and not the second."""
END_LABELS: Final = (names.OUTCOME, names.ERROR_TYPE, names.RESPONSE_MODEL)
MODEL_LABELS: Final = (names.MODEL_NAME, *SERVER_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric: a row of the table that boards and rules are checked against."""

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    labels: tuple[str, ...] = CALL_LABELS
    """Attributes it may carry."""
    buckets: tuple[float, ...] | None = None


def _seconds(
    name: str, description: str, labels: tuple[str, ...] = CALL_LABELS, **more: Any
) -> Instrument:
    return Instrument(
        name=name,
        kind="histogram",
        unit="s",
        description=description,
        labels=labels,
        **{"buckets": _SECONDS, **more},
    )


def _tokens(name: str, description: str, labels: tuple[str, ...] = CALL_LABELS) -> Instrument:
    return Instrument(
        name=name,
        kind="histogram",
        unit="{token}",
        description=description,
        labels=labels,
        buckets=_TOKENS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenAIInstruments:
    """The conventions' instruments as one profile names them."""

    inference_duration: Instrument
    embeddings_duration: Instrument
    time_to_first_chunk: Instrument
    time_per_output_chunk: Instrument
    token_usage: Instrument | None = None
    """One histogram told apart by `gen_ai.token.type` (v1.41)."""
    input_tokens: Instrument | None = None
    output_tokens: Instrument | None = None
    """A histogram for each side (gen-ai-dev)."""
    input_tokens_total: Instrument | None = None
    output_tokens_total: Instrument | None = None
    """A counter for each side (gen-ai-dev)."""


_OPERATION_DURATION = _seconds(
    "gen_ai.client.operation.duration",
    "Time from the request to the end of the answer.",
    (*CALL_LABELS, *END_LABELS),
)

GENAI_INSTRUMENTS: Final[Mapping[Profile, GenAIInstruments]] = {
    "v1.41": GenAIInstruments(
        inference_duration=_OPERATION_DURATION,
        embeddings_duration=_OPERATION_DURATION,
        time_to_first_chunk=_seconds(
            "gen_ai.client.operation.time_to_first_chunk",
            "Time from the request to the first chunk of a stream.",
        ),
        time_per_output_chunk=_seconds(
            "gen_ai.client.operation.time_per_output_chunk",
            "Time between two chunks of a stream, after the first.",
        ),
        token_usage=_tokens(
            "gen_ai.client.token.usage",
            "Tokens of a call, by the server's count.",
            (*CALL_LABELS, names.TOKEN_TYPE),
        ),
    ),
    "gen-ai-dev": GenAIInstruments(
        inference_duration=_seconds(
            "gen_ai.client.inference.duration",
            "Time from the request to the end of the answer.",
            (*CALL_LABELS, *END_LABELS),
        ),
        embeddings_duration=_OPERATION_DURATION,
        time_to_first_chunk=_seconds(
            "gen_ai.client.inference.time_to_first_chunk",
            "Time from the request to the first chunk of a stream.",
        ),
        time_per_output_chunk=_seconds(
            "gen_ai.client.inference.time_per_output_chunk",
            "Time between two chunks of a stream, after the first.",
        ),
        input_tokens=_tokens(
            "gen_ai.client.inference.operation.input_tokens", "Tokens in the prompt of a call."
        ),
        output_tokens=_tokens(
            "gen_ai.client.inference.operation.output_tokens", "Tokens generated in a call."
        ),
        input_tokens_total=Instrument(
            name="gen_ai.client.inference.usage.input_tokens",
            kind="counter",
            unit="{token}",
            description="Tokens in prompts, all calls together.",
            labels=(*CALL_LABELS, names.TOKEN_MODALITY),
        ),
        output_tokens_total=Instrument(
            name="gen_ai.client.inference.usage.output_tokens",
            kind="counter",
            unit="{token}",
            description="Tokens generated, all calls together.",
            labels=(*CALL_LABELS, names.TOKEN_MODALITY),
        ),
    ),
}

MANAGEMENT_DURATION: Final = _seconds(
    "ollama.client.operation.duration",
    "Time of what is no inference: model management, loading and unloading.",
    (*ANY_CALL_LABELS, *END_LABELS),
    buckets=(*_SECONDS, 2621.44),
)
LOAD_DURATION: Final = _seconds(
    "ollama.client.load.duration",
    "Time until the model was ready, by the server's clock; cold starts only.",
)
QUEUE_DURATION: Final = _seconds(
    "ollama.client.queue.estimated_duration",
    "Estimated wait for a slot, from the server's clocks; only of calls that waited.",
)
LONGEST_GAP: Final = _seconds(
    "ollama.client.stream.longest_gap",
    "Longest wait within a stream for one further chunk, without the caller's own time.",
)
PHASE_TIME: Final = Instrument(
    name="ollama.client.phase.time",
    kind="counter",
    unit="s",
    description="Where the time of calls went, all calls together, by ollama.phase.",
    labels=(*CALL_LABELS, names.PHASE),
)
ACTIVE_REQUESTS: Final = Instrument(
    name="ollama.client.request.active",
    kind="updowncounter",
    unit="{request}",
    description="Calls under way.",
    labels=ANY_CALL_LABELS,
)
TRANSFER_SIZE: Final = Instrument(
    name="ollama.client.transfer.size",
    kind="counter",
    unit="By",
    description="Bytes of models moved by pulls and pushes.",
    labels=ANY_CALL_LABELS,
)
LOG_DROPPED: Final = Instrument(
    name="ollama.client.replay_log.dropped",
    kind="counter",
    unit="{item}",
    description="What the replay log had to leave out, by ollama.replay_log.item.",
    labels=(names.LOG_ITEM,),
)

# --- what the server holds, as it says itself when it is asked --------------------------------


def _gauge(name: str, unit: str, description: str, labels: tuple[str, ...]) -> Instrument:
    return Instrument(name=name, kind="gauge", unit=unit, description=description, labels=labels)


def _counter(name: str, unit: str, description: str, labels: tuple[str, ...]) -> Instrument:
    return Instrument(name=name, kind="counter", unit=unit, description=description, labels=labels)


SERVER_UP: Final = _gauge(
    "ollama.server.up", "{server}", "1: the server can be reached, 0: it cannot.", SERVER_LABELS
)
SERVER_BUSY: Final = _gauge(
    "ollama.server.busy",
    "{server}",
    "1: the server took the question what it holds and did not answer in time.",
    SERVER_LABELS,
)
SERVER_INFO: Final = _gauge(
    "ollama.server.info",
    "{server}",
    "Always 1; the server's version is a label.",
    (names.SERVER_VERSION, *SERVER_LABELS),
)
MODELS_LOADED: Final = _gauge(
    "ollama.server.model.loaded", "{model}", "Models in memory.", SERVER_LABELS
)
MODELS_INSTALLED: Final = _gauge(
    "ollama.server.model.installed", "{model}", "Models on disk.", SERVER_LABELS
)
MEMORY_USAGE: Final = _gauge(
    "ollama.model.memory.usage",
    "By",
    "Memory of a loaded model, by ollama.memory.type: gpu or cpu.",
    (*MODEL_LABELS, names.MEMORY_TYPE),
)
# Not of unit 1: OTLP receivers make `_ratio` of it, the scrape endpoint nothing.
GPU_SHARE: Final = _gauge(
    "ollama.model.gpu.share",
    "{share}",
    "Part of a loaded model that is in GPU memory: 1 all of it, 0 none.",
    MODEL_LABELS,
)
CONTEXT_LENGTH: Final = _gauge(
    "ollama.model.context.length",
    "{token}",
    "Tokens of context that a loaded model has for each request.",
    MODEL_LABELS,
)
EXPIRY: Final = _gauge(
    "ollama.model.expiry.remaining",
    "s",
    "Time until an idle model is unloaded; absent of one that stays.",
    MODEL_LABELS,
)
LOADS: Final = _counter(
    "ollama.model.loads", "{load}", "Times a model was loaded, as far as seen.", MODEL_LABELS
)
RELOADS: Final = _counter(
    "ollama.model.reloads",
    "{reload}",
    "Times a model was loaded that had been in memory before, by ollama.reload.cause.",
    (*MODEL_LABELS, names.RELOAD_CAUSE),
)
UNLOADS: Final = _counter(
    "ollama.model.unloads",
    "{unload}",
    "Times a model left memory, as far as seen, by ollama.unload.reason.",
    (*MODEL_LABELS, names.UNLOAD_REASON),
)
EVICTIONS: Final = _counter(
    "ollama.model.evictions",
    "{eviction}",
    "Times a model had to leave memory for another, by ollama.model.evicted_by.",
    (*MODEL_LABELS, names.EVICTED_BY),
)
_HARDWARE = (names.HARDWARE_ID, names.HARDWARE_NAME, names.HARDWARE_TYPE)
GPU_MEMORY_USAGE: Final = _gauge(
    "hw.gpu.memory.usage", "By", "Memory in use of a GPU of this machine.", _HARDWARE
)
GPU_MEMORY_LIMIT: Final = _gauge(
    "hw.gpu.memory.limit", "By", "Memory of a GPU of this machine.", _HARDWARE
)
GPU_POWER: Final = _gauge("hw.power", "W", "Power that a GPU of this machine draws.", _HARDWARE)

# --- what OpenTelemetry's SDK tells of itself --------------------------------------------------

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
    "Spans that left the queue of the SDK; with error.type those that it dropped.",
    _SDK_LABELS,
)
SDK_SPANS_EXPORTED: Final = _counter(
    "otel.sdk.exporter.span.exported",
    "{span}",
    "Spans whose export ended; with error.type those that were lost.",
    _SDK_LABELS,
)
SDK_POINTS_EXPORTED: Final = _counter(
    "otel.sdk.exporter.metric_data_point.exported",
    "{data_point}",
    "Data points of metrics whose export ended; with error.type those that were lost.",
    _SDK_LABELS,
)
# The other two take an answer of 400 or 503 for a success; of this one a failure has the status.
SDK_EXPORT_DURATION: Final = Instrument(
    name="otel.sdk.exporter.operation.duration",
    kind="histogram",
    unit="s",
    description="Time of one export; of a failed one with error.type or the HTTP status.",
    labels=(*_SDK_LABELS, names.HTTP_STATUS),
)

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
"""Values of `ollama.phase`; together they make up the calls' durations."""


def instruments_of(profile: Profile) -> tuple[Instrument, ...]:
    """Return every row of a profile, each once."""
    genai = GENAI_INSTRUMENTS[profile]
    of_profile = (getattr(genai, each.name) for each in fields(genai))
    own = (row for row in globals().values() if isinstance(row, Instrument))
    return tuple(dict.fromkeys(row for row in (*of_profile, *own) if row is not None))
