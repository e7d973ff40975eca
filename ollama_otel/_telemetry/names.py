"""The one table of what goes out: attributes, instruments, units, buckets, per profile.

Sources: GenAI semantic conventions v1.41.0 and their successor's main (`gen-ai-dev`);
everything under `ollama.` is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ollama_otel._record import Phase
from ollama_otel.settings import Profile

SCOPE: Final = "ollama_otel"
SCHEMA_URLS: Final[Mapping[Profile, str]] = {
    "v1.41": "https://opentelemetry.io/schemas/1.41.0",
    "gen-ai-dev": "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev",
}

PROVIDER: Final = "ollama"
OTHER: Final = "_OTHER"
"""Stands for all values beyond what a label may carry."""

# --- attributes of the conventions ------------------------------------------------------------

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
OUTPUT_TYPE: Final = "gen_ai.output.type"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS: Final = "http.response.status_code"
USER_ID: Final = "user.id"
EXCEPTION_MESSAGE: Final = "exception.message"

# --- our own attributes -----------------------------------------------------------------------

OLLAMA_OPERATION_NAME: Final = "ollama.operation.name"
OUTCOME: Final = "ollama.outcome"
COLD_START: Final = "ollama.cold_start"
QUEUE_ESTIMATE: Final = "ollama.queue.estimated_duration"
DECODE_RATE: Final = "ollama.decode.rate"
PREFILL_RATE_ESTIMATE: Final = "ollama.prefill.estimated_rate"
PHASE: Final = "ollama.phase"
LOG_ITEM: Final = "ollama.replay_log.item"

REQUEST_PREFIX: Final = "ollama.request."
REQUEST_THINK: Final = "ollama.request.think"
REQUEST_KEEP_ALIVE: Final = "ollama.request.keep_alive"
REQUEST_RAW: Final = "ollama.request.raw"
REQUEST_TRUNCATE: Final = "ollama.request.truncate"
REQUEST_SIZE: Final = "ollama.request.size"
REQUEST_MESSAGE_COUNT: Final = "ollama.request.message_count"
REQUEST_IMAGE_COUNT: Final = "ollama.request.image_count"
REQUEST_TOOL_NAMES: Final = "ollama.request.tool_names"
REQUEST_TOOL_COUNT: Final = "ollama.request.tool_count"
EMBEDDINGS_INPUT_COUNT: Final = "ollama.embeddings.input.count"

RESPONSE_DONE_REASON: Final = "ollama.response.done_reason"
RESPONSE_TOTAL_DURATION: Final = "ollama.response.total_duration"
RESPONSE_LOAD_DURATION: Final = "ollama.response.load_duration"
RESPONSE_PROMPT_EVAL_DURATION: Final = "ollama.response.prompt_eval_duration"
RESPONSE_EVAL_DURATION: Final = "ollama.response.eval_duration"
RESPONSE_REMOTE_MODEL: Final = "ollama.response.remote_model"
RESPONSE_REMOTE_HOST: Final = "ollama.response.remote_host"
RESPONSE_SIZE: Final = "ollama.response.size"
RESPONSE_CHUNK_COUNT: Final = "ollama.response.chunk_count"
RESPONSE_LONGEST_GAP: Final = "ollama.response.longest_gap"
RESPONSE_TIME_TO_FIRST_ANSWER: Final = "ollama.response.time_to_first_answer"
RESPONSE_HELD_BY_CALLER: Final = "ollama.response.held_by_caller"
RESPONSE_TOOL_CALL_NAMES: Final = "ollama.response.tool_call_names"
RESPONSE_TOOL_CALL_COUNT: Final = "ollama.response.tool_call_count"
CONTENT_IS_CUT: Final = "ollama.content.is_cut"
PROGRESS_TOTAL: Final = "ollama.progress.total_size"
PROGRESS_MOVED: Final = "ollama.progress.moved_size"
PROGRESS_RATE: Final = "ollama.progress.rate"
TAG_PREFIX: Final = "ollama.tag."

FLOAT_OPTIONS: Final[Mapping[str, str]] = {
    "temperature": REQUEST_TEMPERATURE,
    "top_p": REQUEST_TOP_P,
    "frequency_penalty": REQUEST_FREQUENCY_PENALTY,
    "presence_penalty": REQUEST_PRESENCE_PENALTY,
    "repeat_penalty": REQUEST_PREFIX + "repeat_penalty",
    "min_p": REQUEST_PREFIX + "min_p",
    "typical_p": REQUEST_PREFIX + "typical_p",
}
"""Options of the request that are numbers, and the attribute each becomes."""

INTEGER_OPTIONS: Final[Mapping[str, str]] = {
    "seed": REQUEST_SEED,
    "top_k": REQUEST_TOP_K,
    "num_predict": REQUEST_MAX_TOKENS,
    "num_ctx": REQUEST_PREFIX + "num_ctx",
    "num_keep": REQUEST_PREFIX + "num_keep",
    "num_batch": REQUEST_PREFIX + "num_batch",
    "num_gpu": REQUEST_PREFIX + "num_gpu",
    "main_gpu": REQUEST_PREFIX + "main_gpu",
    "num_thread": REQUEST_PREFIX + "num_thread",
    "draft_num_predict": REQUEST_PREFIX + "draft_num_predict",
    "repeat_last_n": REQUEST_PREFIX + "repeat_last_n",
}
"""Options of the request that are whole numbers, and the attribute each becomes."""

UNLIMITED_NUM_PREDICT: Final = REQUEST_PREFIX + "num_predict"
"""Where `num_predict` goes when it is 0 or less, which is no number of tokens."""

# --- events -----------------------------------------------------------------------------------

DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"

# --- metrics ----------------------------------------------------------------------------------

InstrumentKind = Literal["histogram", "counter", "updowncounter"]

_CONVENTION_SECONDS = tuple(0.01 * 2**power for power in range(14))
_LONG_SECONDS = (163.84, 327.68, 655.36, 1200.0)
"""Carried on to 20 minutes: a cold 70B model takes some of them."""
_SECONDS = tuple(round(bound, 2) for bound in _CONVENTION_SECONDS) + _LONG_SECONDS
_TOKENS = tuple(float(4**power) for power in range(14))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric: a row of the table that boards and rules are checked against."""

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None


def _seconds(name: str, description: str) -> Instrument:
    return Instrument(
        name=name, kind="histogram", unit="s", description=description, buckets=_SECONDS
    )


def _tokens(name: str, description: str) -> Instrument:
    return Instrument(
        name=name, kind="histogram", unit="{token}", description=description, buckets=_TOKENS
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
    "gen_ai.client.operation.duration", "Time from the request to the end of the answer."
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
            "gen_ai.client.token.usage", "Tokens of a call, by the server's count."
        ),
    ),
    "gen-ai-dev": GenAIInstruments(
        inference_duration=_seconds(
            "gen_ai.client.inference.duration", "Time from the request to the end of the answer."
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
        ),
        output_tokens_total=Instrument(
            name="gen_ai.client.inference.usage.output_tokens",
            kind="counter",
            unit="{token}",
            description="Tokens generated, all calls together.",
        ),
    ),
}

MANAGEMENT_DURATION: Final = Instrument(
    name="ollama.client.operation.duration",
    kind="histogram",
    unit="s",
    description="Time of what is no inference: model management, loading and unloading.",
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
PHASE_TIME: Final = Instrument(
    name="ollama.client.phase.time",
    kind="counter",
    unit="s",
    description="Where the time of calls went, all calls together, by ollama.phase.",
)
ACTIVE_REQUESTS: Final = Instrument(
    name="ollama.client.request.active",
    kind="updowncounter",
    unit="{request}",
    description="Calls under way.",
)
TRANSFER_SIZE: Final = Instrument(
    name="ollama.client.transfer.size",
    kind="counter",
    unit="By",
    description="Bytes of models moved by pulls and pushes.",
)
LOG_DROPPED: Final = Instrument(
    name="ollama.client.replay_log.dropped",
    kind="counter",
    unit="{item}",
    description="What the replay log had to leave out, by ollama.replay_log.item.",
)

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
"""Values of `ollama.phase`; together they make up the calls' durations."""
