"""The rows: every fact, in the order of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from ollama_otel import _names as names
from ollama_otel._facts.fact import Attributes, Fact, FactType, Source
from ollama_otel._frozen import FrozenDict

__all__ = ["ROWS"]

_TOO_LARGE: Final = 2**63

# --- attributes that differ from the value ------------------------------------------------


def _is_number(value: object) -> bool:
    """Whether an exporter can encode it as a number: finite, and of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < _TOO_LARGE


def _options(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options with the right type; the server refuses the others."""
    for option, value in options.items():
        if option == "stop":
            stops = [value] if isinstance(value, str) else value
            if isinstance(stops, (list, tuple)) and all(isinstance(stop, str) for stop in stops):
                yield names.REQUEST_STOP_SEQUENCES, list(stops)
        elif not _is_number(value):
            continue
        elif option in names.FLOAT_OPTIONS:
            yield names.FLOAT_OPTIONS[option], float(value)
        elif option == "num_predict" and value <= 0:
            yield names.UNLIMITED_NUM_PREDICT, int(value)
        elif option in names.INTEGER_OPTIONS and int(value) == value:
            yield names.INTEGER_OPTIONS[option], int(value)


def _think(think: bool | str) -> Attributes:  # noqa: FBT001 - a value, not a switch
    is_level = isinstance(think, str)
    return ((names.REQUEST_REASONING_LEVEL if is_level else names.REQUEST_THINK, think),)


def _tags(tags: Mapping[str, str]) -> Attributes:
    return ((names.TAG_PREFIX + tag, text) for tag, text in tags.items())


def _output_type(asks_for_json: bool) -> Attributes:  # noqa: FBT001 - a value, not a switch
    return ((names.OUTPUT_TYPE, "json"),) if asks_for_json else ()


def _cold_start(is_cold: bool) -> Attributes:  # noqa: FBT001 - a value, not a switch
    return ((names.COLD_START, True),) if is_cold else ()


def _served_by(address: str) -> Attributes:
    # In place of the one that is set at the start.
    return ((names.SERVER_ADDRESS, address),)


def _served_at(port: int) -> Attributes:
    return ((names.SERVER_PORT, port),)


# --- the rows -----------------------------------------------------------------------------


def _fact(
    path: str,
    kind: str,
    source: Source,
    sentence: str,
    attribute: str | None = None,
    *,
    is_logged: bool = True,
    **more: Any,
) -> Fact:
    """Return one row; `kind` is type and unit; key and column follow from the path."""
    of_start, name = path.startswith("start."), path.rpartition(".")[2]
    type_, _, unit = kind.partition(" ")
    key = path if not of_start else f"request.{name}" if ".request." in path else name
    return Fact(
        path=path,
        type=cast("FactType", type_),
        unit=unit,
        source=source,
        sentence=sentence,
        attribute=attribute,
        line="request" if of_start else "end",
        **({"key": key, "column": name} if is_logged else {}) | more,
    )


ROWS: Final[tuple[Fact, ...]] = (
    # --- endpoint, server and context
    _fact(
        "start.endpoint.name",
        "text",
        "request",
        "Operation of the server.",
        key="operation",
        column="operation",
    ),
    _fact("start.endpoint.dialect", "text", "request", "Protocol of the route.", absent="native"),
    _fact("start.endpoint.method", "text", "request", "HTTP method."),
    _fact("start.path", "text", "request", "Path of the URL as sent, without the query."),
    _fact(
        "start.server_address",
        "text",
        "request",
        "Host of the URL.",
        names.SERVER_ADDRESS,
        key="server",
        is_at_start=True,
    ),
    _fact(
        "start.server_port",
        "integer",
        "request",
        "Port of the URL.",
        names.SERVER_PORT,
        key="port",
        is_at_start=True,
    ),
    _fact("start.server_scheme", "text", "request", "`http` or `https`.", key="scheme"),
    _fact("start.trace_id", "text", "client", "Trace of the call's span, in hexadecimal."),
    _fact("start.span_id", "text", "client", "The call's span, in hexadecimal."),
    _fact(
        "start.is_sampled",
        "boolean",
        "client",
        "Whether the span was recorded.",
        key="sampled",
        column="sampled",
        absent=False,
    ),
    _fact(
        "start.context.conversation_id",
        "text",
        "caller",
        "Conversation, from `call_context`.",
        names.CONVERSATION_ID,
    ),
    _fact("start.context.user_id", "text", "caller", "User, from `call_context`.", names.USER_ID),
    _fact(
        "start.context.tags",
        "object",
        "caller",
        "Tags, from `call_context`.",
        spread=_tags,
        spreads_to=f"{names.TAG_PREFIX}*",
        absent=FrozenDict(),
    ),
    # --- the request
    _fact(
        "start.request.model",
        "text",
        "request",
        "Requested model.",
        names.REQUEST_MODEL,
        is_at_start=True,
    ),
    _fact(
        "start.request.stream",
        "boolean",
        "request",
        "Whether a streamed response was requested.",
        names.REQUEST_STREAM,
        absent=False,
    ),
    _fact(
        "start.request.purpose",
        "text",
        "request",
        "`load` or `unload` if the request only moves the model.",
        absent="call",
    ),
    _fact(
        "start.request.options",
        "object",
        "request",
        "Options that were sent.",
        spread=_options,
        spreads_to="gen_ai.request.*, ollama.request.*",
        absent=FrozenDict(),
    ),
    _fact(
        "start.request.think",
        "boolean",
        "request",
        "Whether thinking was requested, or its level; `_OTHER` for an unknown level.",
        spread=_think,
        spreads_to=f"{names.REQUEST_THINK}, {names.REQUEST_REASONING_LEVEL}",
        also=str,
    ),
    _fact(
        "start.request.keep_alive",
        "text",
        "request",
        "Requested `keep_alive` of the model, as sent.",
        names.REQUEST_KEEP_ALIVE,
    ),
    _fact(
        "start.request.asks_for_json",
        "boolean",
        "request",
        "Whether a JSON format was requested.",
        spread=_output_type,
        spreads_to=names.OUTPUT_TYPE,
        absent=False,
    ),
    _fact(
        "start.request.raw",
        "boolean",
        "request",
        "Whether the request bypassed the prompt template.",
        names.REQUEST_RAW,
    ),
    _fact(
        "start.request.truncate",
        "boolean",
        "request",
        "Whether a prompt that is too long may be cut.",
        names.REQUEST_TRUNCATE,
    ),
    _fact(
        "start.request.dimensions",
        "integer",
        "request",
        "Requested dimensions of an embedding.",
        names.EMBEDDINGS_DIMENSION_COUNT,
    ),
    _fact(
        "start.request.input_count",
        "integer",
        "request",
        "Number of messages of a chat, or of texts of an embedding request.",
    ),
    _fact(
        "start.message_count",
        "integer",
        "request",
        "Number of messages of a chat.",
        names.REQUEST_MESSAGE_COUNT,
        is_logged=False,
    ),
    _fact(
        "start.embedded_count",
        "integer",
        "request",
        "Number of texts of an embedding request.",
        names.EMBEDDINGS_INPUT_COUNT,
        is_logged=False,
    ),
    _fact(
        "start.request.image_count",
        "integer",
        "request",
        "Number of images sent.",
        names.REQUEST_IMAGE_COUNT,
        absent=0,
    ),
    _fact(
        "start.request.tools",
        "texts",
        "request",
        "Names of the offered tools.",
        names.REQUEST_TOOL_NAMES,
        absent=(),
    ),
    _fact(
        "start.request.tool_count",
        "integer",
        "request",
        "Number of offered tools.",
        names.REQUEST_TOOL_COUNT,
        is_logged=False,
    ),
    _fact(
        "start.request.size",
        "integer By",
        "request",
        "Size of the request's body.",
        names.REQUEST_SIZE,
        column="request_size",
    ),
    # --- outcome
    _fact(
        "outcome",
        "text",
        "client",
        "`completed`, `abandoned`, `cancelled` or `failed`.",
        names.OUTCOME,
    ),
    _fact("ending", "text", "client", "Reason for the outcome, from a closed list."),
    _fact("error_type", "text", "client", "Kind of error, from a closed list.", names.ERROR_TYPE),
    _fact(
        "error_message",
        "text",
        "server",
        "Error message without content; the full redacted text in a log with bodies.",
    ),
    _fact("exception_type", "text", "client", "Class of the exception that was raised."),
    _fact(
        "http_status",
        "integer",
        "server",
        "HTTP status; absent if no response came.",
        names.HTTP_STATUS,
        key="status",
    ),
    # --- the client's clock
    _fact(
        "duration",
        "number s",
        "client",
        "Time from sending the request to the end of the response.",
    ),
    _fact(
        "time_to_first_chunk",
        "number s",
        "client",
        "Time to the first bytes of a stream.",
        names.RESPONSE_TIME_TO_FIRST_CHUNK,
        is_of_completions=True,
    ),
    _fact(
        "time_to_first_answer",
        "number s",
        "client",
        "Time to the first text or tool call of a stream; thinking does not count.",
        names.RESPONSE_TIME_TO_FIRST_ANSWER,
    ),
    _fact(
        "longest_gap",
        "number s",
        "client",
        "Longest wait between two chunks of a stream.",
        names.RESPONSE_LONGEST_GAP,
    ),
    _fact(
        "held_by_caller",
        "number s",
        "client",
        "Time during a stream in which the caller was not reading.",
        names.RESPONSE_HELD_BY_CALLER,
    ),
    _fact(
        "chunk_count",
        "integer",
        "client",
        "Number of messages in a stream; not a token count.",
        names.RESPONSE_CHUNK_COUNT,
        absent=0,
    ),
    _fact(
        "response_size",
        "integer By",
        "client",
        "Size of the response's body as received, before decoding.",
        names.RESPONSE_SIZE,
        key="size",
    ),
    _fact("content_type", "text", "server", "`Content-Type` of the response.", absent=""),
    _fact("content_encoding", "text", "server", "`Content-Encoding` of the response.", absent=""),
    _fact(
        "is_from_network",
        "boolean",
        "client",
        "Whether the response came over a network connection.",
        key="network",
        absent=False,
    ),
    # --- the response
    _fact(
        "response.model",
        "text",
        "server",
        "Model that answered.",
        names.RESPONSE_MODEL,
        column="response_model",
    ),
    _fact(
        "response.remote_model",
        "text",
        "server",
        "Model that a cloud server used.",
        names.RESPONSE_REMOTE_MODEL,
    ),
    _fact(
        "response.remote_host",
        "text",
        "server",
        "Cloud server that answered: scheme, host and port.",
        names.RESPONSE_REMOTE_HOST,
    ),
    _fact(
        "response.done", "boolean", "server", "Whether the final message was seen.", absent=False
    ),
    _fact(
        "response.done_reason",
        "text",
        "server",
        "Why generation ended, in the server's terms; `_OTHER` for an unknown reason.",
        names.RESPONSE_DONE_REASON,
    ),
    _fact(
        "response.input_tokens",
        "integer {token}",
        "server",
        "Prompt tokens, including cached ones.",
        names.USAGE_INPUT_TOKENS,
    ),
    _fact(
        "response.output_tokens",
        "integer {token}",
        "server",
        "Generated tokens.",
        names.USAGE_OUTPUT_TOKENS,
    ),
    _fact(
        "response.total_duration",
        "number s",
        "server",
        "Total time in the server.",
        names.RESPONSE_TOTAL_DURATION,
    ),
    _fact(
        "response.load_duration",
        "number s",
        "server",
        "Time until the model was ready: queue of the scheduler, eviction, load.",
        names.RESPONSE_LOAD_DURATION,
    ),
    _fact(
        "response.prompt_eval_duration",
        "number s",
        "server",
        "Time to process the part of the prompt that was not cached.",
        names.RESPONSE_PROMPT_EVAL_DURATION,
    ),
    _fact(
        "response.eval_duration",
        "number s",
        "server",
        "Time spent generating tokens.",
        names.RESPONSE_EVAL_DURATION,
    ),
    _fact(
        "response.tool_calls",
        "texts",
        "server",
        "Names of the tools that the model called; `_OTHER` for a tool that was not offered.",
        names.RESPONSE_TOOL_CALL_NAMES,
        column="tool_call_names",
        absent=(),
    ),
    _fact(
        "response.tool_call_count",
        "integer",
        "server",
        "Number of tool calls.",
        names.RESPONSE_TOOL_CALL_COUNT,
        is_logged=False,
    ),
    _fact(
        "response.has_thinking",
        "boolean",
        "server",
        "Whether the response has thinking.",
        absent=False,
    ),
    _fact(
        "response.error",
        "text",
        "server",
        "Error message, without content, in a response with a success status.",
        column="response_error",
    ),
    # --- derived facts
    _fact(
        "finish_reason", "text", "server", "Why generation ended, in the terms of the conventions."
    ),
    _fact(
        "finish_reasons",
        "texts",
        "server",
        "The finish reason of each choice.",
        names.RESPONSE_FINISH_REASONS,
        is_logged=False,
    ),
    _fact(
        "cold_start",
        "boolean",
        "server",
        "Whether the call waited for its model to be loaded.",
        spread=_cold_start,
        spreads_to=names.COLD_START,
    ),
    _fact(
        "queue_estimate", "number s", "estimate", "Estimated wait for a slot.", names.QUEUE_ESTIMATE
    ),
    _fact(
        "waited_for_slot",
        "boolean",
        "estimate",
        "Whether the estimated wait for a slot is at least `queue_threshold`.",
        names.QUEUE_ESTIMATED_WAIT,
        absent=False,
        is_logged=False,
    ),
    _fact(
        "phases",
        "object s",
        "estimate",
        "Time of each phase; the phases add up to the duration.",
        absent=FrozenDict(),
    ),
    _fact(
        "decode_rate",
        "number {token}/s",
        "server",
        "Output tokens per second of generation.",
        names.DECODE_RATE,
    ),
    _fact(
        "prefill_rate_estimate",
        "number {token}/s",
        "estimate",
        "Prompt tokens per second; overestimated if part of the prompt was cached.",
        names.PREFILL_RATE_ESTIMATE,
    ),
    # --- pulls and pushes
    _fact(
        "progress.total_bytes",
        "integer By",
        "server",
        "Total size of the layers of a pull or push.",
        names.PROGRESS_TOTAL,
        column="progress_total_bytes",
    ),
    _fact(
        "progress.moved_bytes",
        "integer By",
        "server",
        "Bytes that the call transferred.",
        names.PROGRESS_MOVED,
        column="progress_moved_bytes",
    ),
    _fact(
        "progress.moving_time",
        "number s",
        "client",
        "Time during which bytes were transferred.",
        column="progress_moving_time",
    ),
    _fact(
        "progress.rate",
        "number By/s",
        "client",
        "Transfer rate during that time.",
        names.PROGRESS_RATE,
        column="progress_rate",
    ),
    # --- residency
    _fact(
        "residency.gpu_share",
        "number",
        "residency",
        "Fraction of the model in GPU memory, 0 to 1; below 0.1 it runs on the CPU.",
        names.MODEL_GPU_SHARE,
    ),
    _fact(
        "residency.model_size",
        "integer By",
        "residency",
        "Size of the loaded model in memory, including the contexts of its slots.",
        names.MODEL_SIZE,
    ),
    _fact(
        "residency.model_gpu_size",
        "integer By",
        "residency",
        "Size of the model's part in GPU memory.",
        names.MODEL_GPU_SIZE,
    ),
    _fact(
        "residency.context_length",
        "integer {token}",
        "residency",
        "Context length of the loaded model, per request.",
        names.MODEL_CONTEXT_LENGTH,
    ),
    _fact(
        "residency.reload_cause",
        "text",
        "residency",
        "Why the model had to be loaded again; absent for its first load, as far as known.",
        names.RELOAD_CAUSE,
    ),
    _fact(
        "residency.reload_before",
        "text",
        "residency",
        "Old value of the option that caused the reload.",
        names.RELOAD_BEFORE,
    ),
    _fact(
        "residency.reload_after",
        "text",
        "residency",
        "New value of the option that caused the reload.",
        names.RELOAD_AFTER,
    ),
    _fact(
        "residency.evicted_by",
        "text",
        "residency",
        "Model that evicted this one before.",
        names.EVICTED_BY,
    ),
    # --- resilience
    _fact(
        "resilience.attempts",
        "integer",
        "client",
        "Number of requests sent for the call; 0 if the call was rejected.",
        names.ATTEMPTS,
    ),
    _fact(
        "resilience.delay",
        "number s",
        "client",
        "Time before the attempt that gave the result was sent, or before the rejection.",
        names.ATTEMPT_DELAY,
    ),
    _fact(
        "resilience.retried",
        "texts",
        "client",
        "Error types of the failed attempts that were followed by another attempt.",
        names.RETRIED,
        absent=(),
    ),
    _fact(
        "resilience.limiter_wait",
        "number s",
        "client",
        "Time spent in the queue of the limiter.",
        names.LIMITER_WAIT,
    ),
    _fact(
        "resilience.backoff",
        "number s",
        "client",
        "Time spent waiting between attempts.",
        names.BACKOFF,
    ),
    _fact(
        "resilience.rejection",
        "text",
        "client",
        "Why the call was not sent: `queue_full`, `queue_timeout`, `circuit_open` or `deadline`.",
        names.REJECTION,
    ),
    _fact(
        "resilience.server_address",
        "text",
        "client",
        "Host of the fallback that served the call, if it differs from the request's host.",
        spread=_served_by,
        spreads_to=names.SERVER_ADDRESS,
        column="served_by",
    ),
    _fact(
        "resilience.server_port",
        "integer",
        "client",
        "Port of the fallback that served the call.",
        spread=_served_at,
        spreads_to=names.SERVER_PORT,
        column="served_at_port",
    ),
    _fact(
        "resilience.model",
        "text",
        "client",
        "Model that the fallback requested instead of the caller's.",
        names.FALLBACK_MODEL,
        column="fallback_model",
    ),
    # --- truncation
    _fact(
        "truncation.kind",
        "text",
        "counting",
        "What the server silently left out: `prompt_cut`, `history_dropped` or `context_shift`.",
        names.TRUNCATION_KIND,
        column="truncation_kind",
    ),
    _fact(
        "truncation.certainty",
        "text",
        "counting",
        "`confirmed` or `suspected`.",
        names.TRUNCATION_CERTAINTY,
        column="truncation_certainty",
    ),
    _fact(
        "truncation.context_length",
        "integer {token}",
        "counting",
        "Context length of the call.",
        names.TRUNCATION_CONTEXT_LENGTH,
        column="truncation_context_length",
    ),
    _fact(
        "truncation.prompt_tokens",
        "integer {token}",
        "counting",
        "Prompt tokens before the server left anything out.",
        names.TRUNCATION_PROMPT_TOKENS,
        column="truncation_prompt_tokens",
    ),
    _fact(
        "truncation.lost_tokens",
        "integer {token}",
        "counting",
        "Tokens that the model did not read.",
        names.TRUNCATION_LOST_TOKENS,
        column="truncation_lost_tokens",
    ),
    _fact(
        "truncation.dropped_messages",
        "integer",
        "counting",
        "Messages of the chat that the model did not read.",
        names.TRUNCATION_DROPPED_MESSAGES,
        column="truncation_dropped_messages",
    ),
    # --- cost
    _fact(
        "cost.estimate",
        "number",
        "estimate",
        "Cost of the call's share of machine time and energy, without idle time.",
        names.COST_ESTIMATE,
        column="cost_estimate",
        is_exact=True,
    ),
    _fact(
        "cost.currency",
        "text",
        "estimate",
        "Currency of the cost.",
        names.COST_CURRENCY,
        column="cost_currency",
    ),
    _fact(
        "cost.energy_estimate",
        "number J",
        "estimate",
        "Energy of the call's share, from the power in the price file.",
        names.COST_ENERGY,
    ),
    _fact(
        "cost.gpu_seconds_estimate",
        "number s",
        "estimate",
        "The call's share of machine time; parallel calls of the process divide it between them.",
        names.COST_GPU_TIME,
    ),
)
