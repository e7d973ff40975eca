"""Names of all attributes and events; `instruments.py` has those of the metrics.

Sources: GenAI semantic conventions v1.41.0 and their successor's main (`gen-ai-dev`);
everything under `ollama.` is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ollama_otel.settings import Profile

SCOPE: Final = "ollama_otel"
SCHEMA_URLS: Final[Mapping[Profile, str]] = {
    "v1.41": "https://opentelemetry.io/schemas/1.41.0",
    "gen-ai-dev": "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev",
}

PROVIDER: Final = "ollama"
OTHER: Final = "_OTHER"
"""Label value for everything beyond the limit of distinct values."""

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
AGENT_NAME: Final = "gen_ai.agent.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS: Final = "http.response.status_code"
USER_ID: Final = "user.id"
EXCEPTION_MESSAGE: Final = "exception.message"

# --- our own attributes -----------------------------------------------------------------------

OLLAMA_OPERATION_NAME: Final = "ollama.operation.name"
OUTCOME: Final = "ollama.outcome"
FINISH_REASON: Final = "ollama.finish_reason"
COLD_START: Final = "ollama.cold_start"
QUEUE_ESTIMATED_WAIT: Final = "ollama.queue.estimated_wait"
QUEUE_ESTIMATE: Final = "ollama.queue.estimated_duration"
DECODE_RATE: Final = "ollama.decode.rate"
PREFILL_RATE_ESTIMATE: Final = "ollama.prefill.estimated_rate"
PHASE: Final = "ollama.phase"
LOG_ITEM: Final = "ollama.replay_log.item"

AGENT_ENDING: Final = "ollama.agent.ending"
AGENT_ROUNDS: Final = "ollama.agent.rounds"
AGENT_TOOL_CALLS: Final = "ollama.agent.tool_calls"
AGENT_INPUT_TOKENS: Final = "ollama.agent.input_tokens"
AGENT_OUTPUT_TOKENS: Final = "ollama.agent.output_tokens"
AGENT_THINKING_LENGTH: Final = "ollama.agent.thinking_length"
TOOL_OUTCOME: Final = "ollama.tool.outcome"

MODEL_NAME: Final = "ollama.model.name"
"""The name as the server lists it, tag included."""
MODEL_GPU_SHARE: Final = "ollama.model.gpu_share"
MODEL_SIZE: Final = "ollama.model.size"
MODEL_GPU_SIZE: Final = "ollama.model.gpu_size"
MODEL_CONTEXT_LENGTH: Final = "ollama.model.context_length"
MEMORY_TYPE: Final = "ollama.memory.type"
UNLOAD_REASON: Final = "ollama.unload.reason"
RELOAD_CAUSE: Final = "ollama.reload.cause"
RELOAD_BEFORE: Final = "ollama.reload.before"
RELOAD_AFTER: Final = "ollama.reload.after"
RELOAD_COUNT: Final = "ollama.reload.count"
EVICTED_BY: Final = "ollama.model.evicted_by"
TRUNCATION_KIND: Final = "ollama.truncation.kind"
TRUNCATION_CERTAINTY: Final = "ollama.truncation.certainty"
TRUNCATION_CONTEXT_LENGTH: Final = "ollama.truncation.context_length"
TRUNCATION_PROMPT_TOKENS: Final = "ollama.truncation.prompt_tokens"
TRUNCATION_LOST_TOKENS: Final = "ollama.truncation.lost_tokens"
TRUNCATION_DROPPED_MESSAGES: Final = "ollama.truncation.dropped_messages"
SERVER_VERSION: Final = "ollama.server.version"
COST_ESTIMATE: Final = "ollama.cost.estimated_amount"
COST_CURRENCY: Final = "ollama.cost.currency"
COST_ENERGY: Final = "ollama.cost.estimated_energy"
COST_GPU_TIME: Final = "ollama.cost.estimated_gpu_time"
BUDGET_NAME: Final = "ollama.budget.name"
BUDGET_OF: Final = "ollama.budget.of"
"""The value that a budget with one limit for each value is of: a user, a model, ..."""
BUDGET_UNIT: Final = "ollama.budget.unit"
BUDGET_PERIOD: Final = "ollama.budget.period"
MACHINE_NAME: Final = "ollama.machine.name"
HARDWARE_ID: Final = "hw.id"
HARDWARE_NAME: Final = "hw.name"
HARDWARE_PARENT: Final = "hw.parent"
HARDWARE_TYPE: Final = "hw.type"
GPU_TASK: Final = "hw.gpu.task"
SENSOR_LOCATION: Final = "hw.sensor_location"
COMPONENT_NAME: Final = "otel.component.name"
COMPONENT_TYPE: Final = "otel.component.type"

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
ATTEMPTS: Final = "ollama.attempts"
ATTEMPT_DELAY: Final = "ollama.attempts.delay"
RETRIED: Final = "ollama.attempts.retried"
BACKOFF: Final = "ollama.attempts.backoff"
LIMITER_WAIT: Final = "ollama.limiter.wait"
REJECTION: Final = "ollama.rejection"
FALLBACK_MODEL: Final = "ollama.fallback.model"
TAG_PREFIX: Final = "ollama.tag."
STRUCTURED_TYPE: Final = "ollama.structured.type"
STRUCTURED_OUTCOME: Final = "ollama.structured.outcome"
STRUCTURED_ATTEMPT_COUNT: Final = "ollama.structured.attempt_count"
STRUCTURED_IS_FINAL: Final = "ollama.structured.is_final"

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
"""Attribute of a `num_predict` of 0 or less, which is not a number of tokens."""

# --- events -----------------------------------------------------------------------------------

DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
MODEL_LOAD_EVENT: Final = "ollama.model.load"
MODEL_UNLOAD_EVENT: Final = "ollama.model.unload"
MODEL_RELOAD_EVENT: Final = "ollama.model.reload"
RELOAD_THRASH_EVENT: Final = "ollama.model.reload_thrash"
TRUNCATION_EVENT: Final = "ollama.truncation"
SERVER_DOWN_EVENT: Final = "ollama.server.down"
SERVER_UP_EVENT: Final = "ollama.server.up"
RETRY_EVENT: Final = "ollama.call.retry"
LIMITER_EVENT: Final = "ollama.call.limiter_wait"
FALLBACK_EVENT: Final = "ollama.call.fallback"
REJECTION_EVENT: Final = "ollama.call.rejection"
