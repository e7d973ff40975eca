"""The table of all metrics: units, buckets, labels and what emits them, per profile.

Sources: GenAI semantic conventions v1.41.0 and the main branch of their successor
(`gen-ai-dev`); OpenTelemetry's conventions for hardware and SDK self-metrics; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Final, Literal, TypedDict, get_args

from ollama_otel import _names as names
from ollama_otel.records import Phase
from ollama_otel.settings import Profile

InstrumentKind = Literal["histogram", "counter", "updowncounter", "gauge"]
Requirement = Literal[
    "calls", "event", "residency", "gpu", "prices", "sdk_metrics", "time_per_output_chunk"
]
"""The condition under which an app emits a metric.

- calls: the app makes calls.
- event: an event that may never happen, such as a call that waits for a slot.
- the others: a feature that is off by default is on.
"""


class _Source(TypedDict):
    """Columns that several rows share."""

    requires: Requirement
    emitted_by: str


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
"""Labels of metrics that include model management; those calls have the first label only."""
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
    """The source, as the end of the sentence "it comes from ..."."""
    labels: tuple[str, ...] = CALL_LABELS
    """Attributes that a data point may have."""
    buckets: tuple[float, ...] | None = None
    role: str | None = None
    """Shared by alternative instruments, of which an app records only one; None: no alternative."""


_seconds = partial(Instrument, kind="histogram", unit="s", buckets=_SECONDS)
_gauge = partial(Instrument, kind="gauge")
_counter = partial(Instrument, kind="counter")


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


_CALL_ENDS: Final = _Source(requires="calls", emitted_by="any call that ends")
_STREAM: Final = _Source(requires="event", emitted_by="calls that stream (stream=True)")
_EVERY_CHUNK: Final = _Source(
    requires="time_per_output_chunk",
    emitted_by="configure(time_per_output_chunk=True) and calls that stream",
)


def _duration(name: str) -> Instrument:
    return _seconds(
        name=name,
        description="Duration of a call, from sending the request to the end of the response.",
        **_CALL_ENDS,
        labels=(*CALL_LABELS, *END_LABELS),
        role="duration",
    )


def _time_to_first_chunk(name: str) -> Instrument:
    return _seconds(
        name=name,
        description="Time from sending the request to the first chunk of a streamed response.",
        **_STREAM,
        role="time_to_first_chunk",
    )


def _time_per_output_chunk(name: str) -> Instrument:
    return _seconds(
        name=name,
        description="Time between two consecutive chunks of a streamed response, after the first.",
        **_EVERY_CHUNK,
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
    name="ollama.client.operation.duration",
    description="Duration of model-management calls, including loading and unloading.",
    requires="event",
    emitted_by="model-management calls: list, show, pull, ...",
    labels=(*ANY_CALL_LABELS, *END_LABELS),
    buckets=(*_SECONDS, 2621.44),
)
LOAD_DURATION: Final = _seconds(
    name="ollama.client.load.duration",
    description="Time the server spent loading the model for a call; cold starts only.",
    requires="event",
    emitted_by="calls that wait for the model to load",
)
QUEUE_DURATION: Final = _seconds(
    name="ollama.client.queue.estimated_duration",
    description="Estimated time that a call waited for a slot; only calls that waited.",
    requires="event",
    emitted_by="calls that wait for a slot",
)
LONGEST_GAP: Final = _seconds(
    name="ollama.client.stream.longest_gap",
    description="Longest wait between two chunks of a stream, excluding time spent in the caller.",
    **_STREAM,
)
PHASE_TIME: Final = _counter(
    name="ollama.client.phase.time",
    unit="s",
    description="Time spent in each phase, summed over all calls; by ollama.phase.",
    labels=(*CALL_LABELS, names.PHASE),
    **_CALL_ENDS,
)
FINISH_REASONS: Final = _counter(
    name="ollama.client.finish_reasons",
    unit="{call}",
    description="Completed calls of chat and generate, by ollama.finish_reason: stop, length "
    "or tool_call; the attribute is absent if the server did not report a reason.",
    labels=(*CALL_LABELS, names.FINISH_REASON),
    requires="event",
    emitted_by="calls of chat and generate that complete",
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
LIMITER_WAIT: Final = _seconds(
    name="ollama.client.limiter.wait",
    description="Time that a call waited in the queue of a limiter; only calls that waited.",
    requires="event",
    emitted_by="calls that wait in a limiter (resilience=)",
)
LIMITER_ACTIVE: Final = Instrument(
    name="ollama.client.limiter.active",
    kind="updowncounter",
    unit="{call}",
    description="Calls that have a slot of a limiter.",
    requires="event",
    emitted_by="a client with a limiter (resilience=)",
    labels=SERVER_LABELS,
)
LIMITER_WAITING: Final = Instrument(
    name="ollama.client.limiter.waiting",
    kind="updowncounter",
    unit="{call}",
    description="Calls in the queue of a limiter.",
    requires="event",
    emitted_by="a client with a limiter (resilience=)",
    labels=SERVER_LABELS,
)
OPEN_CIRCUITS: Final = Instrument(
    name="ollama.client.breaker.open",
    kind="updowncounter",
    unit="{circuit}",
    description="Circuits that are open or half-open: the server gets no calls, or only probes.",
    requires="event",
    emitted_by="a client with a breaker (resilience=)",
    labels=SERVER_LABELS,
)
RETRIES: Final = _counter(
    name="ollama.client.retries",
    unit="{attempt}",
    description="Failed attempts that were followed by another attempt, by error.type.",
    requires="event",
    emitted_by="calls that are repeated (resilience=)",
    labels=(*ANY_CALL_LABELS, names.ERROR_TYPE),
)
FALLBACKS: Final = _counter(
    name="ollama.client.fallbacks",
    unit="{call}",
    description="Calls served by a fallback; server.address is the address of the fallback.",
    requires="event",
    emitted_by="calls that fall back (resilience=)",
    labels=ANY_CALL_LABELS,
)
REJECTIONS: Final = _counter(
    name="ollama.client.rejections",
    unit="{call}",
    description="Calls that were not sent, by ollama.rejection.",
    requires="event",
    emitted_by="calls that a limiter, a breaker or a deadline rejects (resilience=)",
    labels=(*ANY_CALL_LABELS, names.REJECTION),
)
TRANSFER_SIZE: Final = _counter(
    name="ollama.client.transfer.size",
    unit="By",
    description="Bytes transferred by pulling and pushing models.",
    labels=ANY_CALL_LABELS,
    requires="event",
    emitted_by="pulls and pushes of models",
)
STRUCTURED_ANSWERS: Final = _counter(
    name="ollama.client.structured.answers",
    unit="{answer}",
    description="Answers to requests for a typed value, by ollama.structured.outcome; "
    "ollama.structured.is_final is false if another answer was requested.",
    labels=(
        *(names.OPERATION_NAME, names.PROVIDER_NAME, names.REQUEST_MODEL),
        *(names.STRUCTURED_OUTCOME, names.STRUCTURED_IS_FINAL),
    ),
    requires="event",
    emitted_by="calls with a type as format",
)
TRUNCATIONS: Final = _counter(
    name="ollama.client.truncations",
    unit="{call}",
    description="Calls whose prompt or history the server silently truncated, by "
    "ollama.truncation.kind.",
    labels=(*CALL_LABELS, names.TRUNCATION_KIND),
    requires="event",
    emitted_by="configure(truncation='confirm') and calls that the server truncated",
)
LOG_DROPPED: Final = _counter(
    name="ollama.client.replay_log.dropped",
    unit="{item}",
    description="Items dropped from the replay log, by ollama.replay_log.item.",
    labels=(names.LOG_ITEM,),
    requires="event",
    emitted_by="a replay log that drops something",
)
_LOG: Final = _Source(requires="event", emitted_by="a replay log")
LOG_PENDING: Final = Instrument(
    name="ollama.client.replay_log.pending",
    kind="updowncounter",
    unit="{line}",
    description="Lines of the replay log waiting to be written.",
    labels=(),
    **_LOG,
)
LOG_FAILED_WRITES: Final = _counter(
    name="ollama.client.replay_log.failed_writes",
    unit="{write}",
    description="Failed attempts to write the replay log; each is repeated.",
    labels=(),
    **_LOG,
)

# --- runs of agents ---------------------------------------------------------------------------

_RUNS: Final = "runs of agents (ollama_otel.tools)"
_RUN_ENDS: Final = _Source(requires="event", emitted_by=_RUNS)
_RUN_COUNTS = tuple(float(2**power) for power in range(8))
AGENT_DURATION: Final = _seconds(
    name="gen_ai.invoke_agent.duration",
    description="Duration of a run of an agent, by ollama.agent.ending.",
    labels=(names.AGENT_NAME, names.REQUEST_MODEL, names.AGENT_ENDING, names.ERROR_TYPE),
    buckets=tuple(round(0.1 * 2**power, 1) for power in range(13)),
    **_RUN_ENDS,
)
AGENT_ROUNDS: Final = Instrument(
    name="gen_ai.invoke_agent.inference_calls",
    kind="histogram",
    unit="{inference_call}",
    description="Calls of the model (rounds) in a run of an agent.",
    labels=(names.AGENT_NAME,),
    buckets=_RUN_COUNTS,
    **_RUN_ENDS,
)
AGENT_TOOL_CALLS: Final = Instrument(
    name="gen_ai.invoke_agent.tool_calls",
    kind="histogram",
    unit="{tool_call}",
    description="Tool calls in a run of an agent, including rejected ones.",
    labels=(names.AGENT_NAME,),
    buckets=_RUN_COUNTS,
    **_RUN_ENDS,
)


def _run_tokens(name: str, direction: str) -> Instrument:
    return Instrument(
        name=name,
        kind="histogram",
        unit="{token}",
        description=f"{direction} tokens of a run; absent unless reported for all of its calls.",
        labels=(names.AGENT_NAME, names.REQUEST_MODEL),
        buckets=_TOKENS,
        **_RUN_ENDS,
    )


AGENT_INPUT_TOKENS: Final = _run_tokens(names.AGENT_INPUT_TOKENS, "Input")
AGENT_OUTPUT_TOKENS: Final = _run_tokens(names.AGENT_OUTPUT_TOKENS, "Output")
TOOL_DURATION: Final = _seconds(
    name="gen_ai.execute_tool.duration",
    description="Duration of a tool call of an agent, by ollama.tool.outcome.",
    labels=(
        names.TOOL_NAME,
        names.TOOL_TYPE,
        names.AGENT_NAME,
        names.TOOL_OUTCOME,
        names.ERROR_TYPE,
    ),
    requires="event",
    emitted_by=f"{_RUNS} that call tools",
)

# --- server and models, observed by polling /api/ps ------------------------------------------

_RESIDENCY: Final = "configure(residency=True)"
_WATCHED: Final = _Source(requires="residency", emitted_by=_RESIDENCY)
_LOADED: Final = _Source(requires="residency", emitted_by=f"{_RESIDENCY} and a model in memory")


SERVER_UP: Final = _gauge(
    name="ollama.server.up",
    unit="{server}",
    description="1 if polls or calls reach the server, 0 if neither do; absent if no poll has "
    "reached it and there were no recent calls.",
    labels=SERVER_LABELS,
    **_WATCHED,
)
SERVER_BUSY: Final = _gauge(
    name="ollama.server.busy",
    unit="{server}",
    description="1 if the last poll of /api/ps was accepted but timed out, otherwise 0.",
    labels=SERVER_LABELS,
    **_WATCHED,
)
SERVER_INFO: Final = _gauge(
    name="ollama.server.info",
    unit="{server}",
    description="Always 1; the server's version is a label.",
    labels=(names.SERVER_VERSION, *SERVER_LABELS),
    **_WATCHED,
)
MODELS_LOADED: Final = _gauge(
    name="ollama.server.model.loaded",
    unit="{model}",
    description="Models in memory.",
    labels=SERVER_LABELS,
    **_WATCHED,
)
MODELS_INSTALLED: Final = _gauge(
    name="ollama.server.model.installed",
    unit="{model}",
    description="Models on disk.",
    labels=SERVER_LABELS,
    **_WATCHED,
)
MEMORY_USAGE: Final = _gauge(
    name="ollama.model.memory.usage",
    unit="By",
    description="Memory used by a loaded model, by ollama.memory.type: gpu or cpu.",
    labels=(*MODEL_LABELS, names.MEMORY_TYPE),
    **_LOADED,
)
# Not "1": OTLP receivers would append `_ratio` to the name, and the scrape endpoint would not.
GPU_SHARE: Final = _gauge(
    name="ollama.model.gpu.share",
    unit="{share}",
    description="Fraction of a loaded model in GPU memory, 0 to 1; below 0.1 it runs on the CPU.",
    labels=MODEL_LABELS,
    **_LOADED,
)
CONTEXT_LENGTH: Final = _gauge(
    name="ollama.model.context.length",
    unit="{token}",
    description="Context length of a loaded model, per request.",
    labels=MODEL_LABELS,
    **_LOADED,
)
EXPIRY: Final = _gauge(
    name="ollama.model.expiry.remaining",
    unit="s",
    description="Time until an idle model is unloaded; absent for a model without expiry.",
    labels=MODEL_LABELS,
    requires="residency",
    emitted_by=f"{_RESIDENCY} and a model in memory that expires",
)
LOADS: Final = _counter(
    name="ollama.model.loads",
    unit="{load}",
    description="Observed loads of a model.",
    labels=MODEL_LABELS,
    requires="residency",
    emitted_by=f"{_RESIDENCY} and a model being loaded",
)
RELOADS: Final = _counter(
    name="ollama.model.reloads",
    unit="{reload}",
    description="Observed loads of a model that was in memory before, by ollama.reload.cause.",
    labels=(*MODEL_LABELS, names.RELOAD_CAUSE),
    requires="residency",
    emitted_by=f"{_RESIDENCY} and a model being loaded again",
)
UNLOADS: Final = _counter(
    name="ollama.model.unloads",
    unit="{unload}",
    description="Observed unloads of a model, by ollama.unload.reason.",
    labels=(*MODEL_LABELS, names.UNLOAD_REASON),
    requires="residency",
    emitted_by=f"{_RESIDENCY} and a model being unloaded",
)
EVICTIONS: Final = _counter(
    name="ollama.model.evictions",
    unit="{eviction}",
    description="Observed unloads of a model to make room for another, by ollama.model.evicted_by.",
    labels=(*MODEL_LABELS, names.EVICTED_BY),
    requires="residency",
    emitted_by=f"{_RESIDENCY} and a model being evicted by another",
)
_COMPONENT = (names.HARDWARE_ID, names.HARDWARE_NAME, names.HARDWARE_PARENT)
"""`hw.parent` is the GPU of a MIG instance; other GPUs do not have it."""
_HARDWARE = (*_COMPONENT, names.HARDWARE_TYPE)
_NVIDIA: Final = (
    f"{_RESIDENCY}, pip install 'ollama_otel[nvidia]' and an NVIDIA GPU in the machine of the app"
)
_GPU: Final = _Source(requires="gpu", emitted_by=_NVIDIA)
_SENSOR: Final = _Source(requires="gpu", emitted_by=f"{_NVIDIA} that reports it")
GPU_MEMORY_USAGE: Final = _gauge(
    name="hw.gpu.memory.usage",
    unit="By",
    description="GPU memory in use on this machine, excluding the driver's reserve.",
    labels=_HARDWARE,
    **_GPU,
)
GPU_MEMORY_LIMIT: Final = _gauge(
    name="hw.gpu.memory.limit",
    unit="By",
    description="Total GPU memory on this machine, including the driver's reserve.",
    labels=_HARDWARE,
    **_GPU,
)
# The conventions require the unit 1. OTLP receivers append `_ratio`; scrape endpoints do not.
GPU_UTILIZATION: Final = _gauge(
    name="hw.gpu.utilization",
    unit="1",
    description="Fraction of the last second in which a GPU of this machine was executing.",
    labels=(*_HARDWARE, names.GPU_TASK),
    **_SENSOR,
)
GPU_TEMPERATURE: Final = _gauge(
    name="hw.temperature",
    unit="Cel",
    description="Temperature of a GPU of this machine.",
    labels=(*_COMPONENT, names.SENSOR_LOCATION),
    **_SENSOR,
)
GPU_POWER: Final = _gauge(
    name="hw.power",
    unit="W",
    description="Power drawn by a GPU of this machine.",
    labels=_HARDWARE,
    **_SENSOR,
)
GPU_ENERGY: Final = _counter(
    name="hw.energy",
    unit="J",
    description="Energy consumed by a GPU of this machine since the app first read it.",
    labels=_HARDWARE,
    **_SENSOR,
)

# --- costs, by the prices of a file ----------------------------------------------------------

_PRICES: Final = "configure(prices=...)"
_COSTED: Final = _Source(requires="prices", emitted_by=f"{_PRICES} and calls to a machine in it")
COST: Final = _counter(
    name="ollama.client.cost.estimated_amount",
    unit="{currency}",
    description="Estimated cost of calls: their share of machine time and energy.",
    labels=(*CALL_LABELS, names.COST_CURRENCY),
    **_COSTED,
)
COST_ENERGY: Final = _counter(
    name="ollama.client.cost.estimated_energy",
    unit="J",
    description="Estimated energy of calls: their share of machine time, times its power.",
    **_COSTED,
)
COST_GPU_TIME: Final = _counter(
    name="ollama.client.cost.estimated_gpu_time",
    unit="s",
    description="Estimated share of the machine's busy time used by calls.",
    **_COSTED,
)
MACHINE_COST: Final = _gauge(
    name="ollama.machine.hourly_cost",
    unit="{currency}",
    description="Cost of a machine per hour without calls, from the price file.",
    labels=(names.MACHINE_NAME, names.COST_CURRENCY),
    requires="prices",
    emitted_by=f"{_PRICES} with a machine",
)
_BUDGET_LABELS: Final = (names.BUDGET_NAME, names.BUDGET_UNIT, names.BUDGET_PERIOD)
BUDGET_USED: Final = _counter(
    name="ollama.client.budget.used",
    unit="{budget_unit}",
    description="Amount of a budget used by calls, in its unit: money, gpu_seconds or tokens.",
    labels=(*_BUDGET_LABELS, names.BUDGET_OF),
    requires="event",
    emitted_by=f"{_PRICES} with a budget, and calls that count towards it",
)
BUDGET_LIMIT: Final = _gauge(
    name="ollama.client.budget.limit",
    unit="{budget_unit}",
    description="Limit of a budget per period, in its unit.",
    labels=_BUDGET_LABELS,
    requires="event",
    emitted_by=f"{_PRICES} with a budget",
)
SERVER_SLOTS: Final = _gauge(
    name="ollama.server.slots",
    unit="{slot}",
    description="Number of calls that a server computes in parallel, from the price file.",
    labels=SERVER_LABELS,
    requires="event",
    emitted_by=f"{_PRICES} with a machine that has slots",
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
    name="otel.sdk.processor.span.processed",
    unit="{span}",
    description="Spans that left the SDK's queue; error.type is set if they were dropped.",
    labels=_SDK_LABELS,
    requires="sdk_metrics",
    emitted_by=f"{_SDK}, and spans",
)
SDK_SPANS_EXPORTED: Final = _counter(
    name="otel.sdk.exporter.span.exported",
    unit="{span}",
    description="Spans whose export finished; error.type is set if it failed.",
    labels=_SDK_LABELS,
    requires="sdk_metrics",
    emitted_by=f"{_SDK}, and exported spans",
)
SDK_POINTS_EXPORTED: Final = _counter(
    name="otel.sdk.exporter.metric_data_point.exported",
    unit="{data_point}",
    description="Metric data points whose export finished; error.type is set if it failed.",
    labels=_SDK_LABELS,
    requires="sdk_metrics",
    emitted_by=f"{_SDK}, and exported metrics",
)
# The counters above count responses with status 400 or 503 as successes; this one has the status.
SDK_EXPORT_DURATION: Final = _seconds(
    name="otel.sdk.exporter.operation.duration",
    description="Duration of one export; error.type or the HTTP status code is set if it failed.",
    requires="sdk_metrics",
    emitted_by=f"{_SDK}, and exports",
    labels=(*_SDK_LABELS, names.HTTP_STATUS),
    buckets=None,
)

EVIDENCE: Final[Mapping[Requirement, Instrument]] = {
    "prices": MACHINE_COST,
    "residency": SERVER_UP,
    "sdk_metrics": SDK_POINTS_EXPORTED,
}
"""For each feature, a metric that every app with the feature emits."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
"""Values of `ollama.phase`; the times of all phases add up to the durations of the calls."""


def instruments_of(profile: Profile) -> tuple[Instrument, ...]:
    genai = GENAI_INSTRUMENTS[profile]
    of_profile = (getattr(genai, each.name) for each in fields(genai))
    own = (row for row in globals().values() if isinstance(row, Instrument))
    return tuple(dict.fromkeys(row for row in (*of_profile, *own) if row is not None))


def all_instruments() -> tuple[Instrument, ...]:
    return tuple(dict.fromkeys(row for each in GENAI_INSTRUMENTS for row in instruments_of(each)))
