"""The rows: every fact, in the order of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

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


# --- the rows -----------------------------------------------------------------------------


def _of_request(
    name: str, kind: FactType, sentence: str, column: str | None = None, **more: Any
) -> Fact:
    return Fact(
        path=f"start.request.{name}",
        type=kind,
        source="request",
        sentence=sentence,
        key=f"request.{name}",
        line="request",
        column=column or name,
        **more,
    )


def _of_response(
    name: str, kind: FactType, sentence: str, column: str | None = None, **more: Any
) -> Fact:
    return Fact(
        path=f"response.{name}",
        type=kind,
        source="server",
        sentence=sentence,
        key=f"response.{name}",
        column=column or name,
        **more,
    )


def _of_start(name: str, kind: FactType, source: Source, sentence: str, **more: Any) -> Fact:
    given = {"key": name.rpartition(".")[2], "column": name.rpartition(".")[2], **more}
    return Fact(
        path=f"start.{name}", type=kind, source=source, sentence=sentence, line="request", **given
    )


def _of_call(path: str, kind: FactType, source: Source, sentence: str, **more: Any) -> Fact:
    given = {"key": path, "column": path.replace(".", "_"), **more}
    return Fact(path=path, type=kind, source=source, sentence=sentence, **given)


ROWS: Final[tuple[Fact, ...]] = (
    # --- endpoint, server and context
    _of_start(
        "endpoint.name",
        "text",
        "request",
        "Operation of the server.",
        key="operation",
        column="operation",
    ),
    _of_start("endpoint.dialect", "text", "request", "Protocol of the route.", absent="native"),
    _of_start("endpoint.method", "text", "request", "HTTP method."),
    _of_start("path", "text", "request", "Path of the URL as sent, without the query."),
    _of_start(
        "server_address",
        "text",
        "request",
        "Host of the URL.",
        key="server",
        attribute=names.SERVER_ADDRESS,
        is_at_start=True,
    ),
    _of_start(
        "server_port",
        "integer",
        "request",
        "Port of the URL.",
        key="port",
        attribute=names.SERVER_PORT,
        is_at_start=True,
    ),
    _of_start("server_scheme", "text", "request", "`http` or `https`.", key="scheme"),
    _of_start("trace_id", "text", "client", "Trace of the call's span, in hexadecimal."),
    _of_start("span_id", "text", "client", "The call's span, in hexadecimal."),
    _of_start(
        "is_sampled",
        "boolean",
        "client",
        "Whether the span was recorded.",
        key="sampled",
        column="sampled",
        absent=False,
    ),
    _of_start(
        "context.conversation_id",
        "text",
        "caller",
        "Conversation, from `call_context`.",
        attribute=names.CONVERSATION_ID,
    ),
    _of_start(
        "context.user_id", "text", "caller", "User, from `call_context`.", attribute=names.USER_ID
    ),
    _of_start(
        "context.tags",
        "object",
        "caller",
        "Tags, from `call_context`.",
        spread=_tags,
        spreads_to=f"{names.TAG_PREFIX}*",
        absent=FrozenDict(),
    ),
    # --- the request
    _of_request(
        "model",
        "text",
        "Requested model.",
        attribute=names.REQUEST_MODEL,
        is_at_start=True,
    ),
    _of_request(
        "stream",
        "boolean",
        "Whether a streamed response was requested.",
        attribute=names.REQUEST_STREAM,
        absent=False,
    ),
    _of_request(
        "purpose",
        "text",
        "`load` or `unload` if the request only moves the model.",
        absent="call",
    ),
    _of_request(
        "options",
        "object",
        "Options that were sent.",
        spread=_options,
        spreads_to="gen_ai.request.*, ollama.request.*",
        absent=FrozenDict(),
    ),
    _of_request(
        "think",
        "boolean",
        "Whether, or at which level, thinking was requested.",
        also=str,
        spread=_think,
        spreads_to=f"{names.REQUEST_THINK}, {names.REQUEST_REASONING_LEVEL}",
    ),
    _of_request(
        "keep_alive",
        "text",
        "Requested time for the model to stay in memory, as sent.",
        attribute=names.REQUEST_KEEP_ALIVE,
    ),
    _of_request(
        "asks_for_json",
        "boolean",
        "Whether a JSON format was requested.",
        spread=_output_type,
        spreads_to=names.OUTPUT_TYPE,
        absent=False,
    ),
    _of_request(
        "raw",
        "boolean",
        "Whether the request bypassed the prompt template.",
        attribute=names.REQUEST_RAW,
    ),
    _of_request(
        "truncate",
        "boolean",
        "Whether a prompt that is too long may be cut.",
        attribute=names.REQUEST_TRUNCATE,
    ),
    _of_request(
        "dimensions",
        "integer",
        "Requested dimensions of an embedding.",
        attribute=names.EMBEDDINGS_DIMENSION_COUNT,
    ),
    _of_request("input_count", "integer", "Messages of a chat, texts of an embedding request."),
    Fact(
        path="start.message_count",
        type="integer",
        source="request",
        sentence="Messages of a chat.",
        attribute=names.REQUEST_MESSAGE_COUNT,
    ),
    Fact(
        path="start.embedded_count",
        type="integer",
        source="request",
        sentence="Texts of an embedding request.",
        attribute=names.EMBEDDINGS_INPUT_COUNT,
    ),
    _of_request(
        "image_count",
        "integer",
        "Images that were sent.",
        attribute=names.REQUEST_IMAGE_COUNT,
        absent=0,
    ),
    _of_request(
        "tools",
        "texts",
        "Names of the tools offered.",
        attribute=names.REQUEST_TOOL_NAMES,
        absent=(),
    ),
    Fact(
        path="start.request.tool_count",
        type="integer",
        source="request",
        sentence="Tools offered.",
        attribute=names.REQUEST_TOOL_COUNT,
    ),
    _of_request(
        "size",
        "integer",
        "Size of the request's body.",
        "request_size",
        unit="By",
        attribute=names.REQUEST_SIZE,
    ),
    # --- outcome
    _of_call(
        "outcome",
        "text",
        "client",
        "`completed`, `abandoned`, `cancelled` or `failed`.",
        attribute=names.OUTCOME,
    ),
    _of_call("ending", "text", "client", "Why it ended, from a closed list."),
    _of_call(
        "error_type",
        "text",
        "client",
        "Kind of error, from a closed list.",
        attribute=names.ERROR_TYPE,
    ),
    _of_call("error_message", "text", "server", "Message of the server's error or the exception."),
    _of_call("exception_type", "text", "client", "Class of the exception that was raised."),
    _of_call(
        "http_status",
        "integer",
        "server",
        "HTTP status; absent if no response came.",
        key="status",
        attribute=names.HTTP_STATUS,
    ),
    # --- the client's clock
    _of_call("duration", "number", "client", "Time from the request to the end.", unit="s"),
    _of_call(
        "time_to_first_chunk",
        "number",
        "client",
        "Time to the first bytes of a stream.",
        unit="s",
        attribute=names.RESPONSE_TIME_TO_FIRST_CHUNK,
        is_of_completions=True,
    ),
    _of_call(
        "time_to_first_answer",
        "number",
        "client",
        "Time to the first text or tool call of a stream; thinking does not count.",
        unit="s",
        attribute=names.RESPONSE_TIME_TO_FIRST_ANSWER,
    ),
    _of_call(
        "longest_gap",
        "number",
        "client",
        "Longest wait for a further chunk of a stream.",
        unit="s",
        attribute=names.RESPONSE_LONGEST_GAP,
    ),
    _of_call(
        "held_by_caller",
        "number",
        "client",
        "Time of a stream in which the caller did not read.",
        unit="s",
        attribute=names.RESPONSE_HELD_BY_CALLER,
    ),
    _of_call(
        "chunk_count",
        "integer",
        "client",
        "Messages of a stream; this is not a count of tokens.",
        attribute=names.RESPONSE_CHUNK_COUNT,
        absent=0,
    ),
    _of_call(
        "response_size",
        "integer",
        "client",
        "Size of the response's body as received, before decoding.",
        unit="By",
        key="size",
        attribute=names.RESPONSE_SIZE,
    ),
    _of_call("content_type", "text", "server", "`Content-Type` of the response.", absent=""),
    _of_call(
        "content_encoding", "text", "server", "`Content-Encoding` of the response.", absent=""
    ),
    _of_call(
        "is_from_network",
        "boolean",
        "client",
        "Whether the response came over a connection.",
        key="network",
        column="is_from_network",
        absent=False,
    ),
    # --- the response
    _of_response(
        "model", "text", "Model that answered.", "response_model", attribute=names.RESPONSE_MODEL
    ),
    _of_response(
        "remote_model",
        "text",
        "Model that a cloud server used.",
        attribute=names.RESPONSE_REMOTE_MODEL,
    ),
    _of_response(
        "remote_host",
        "text",
        "Cloud server that answered.",
        attribute=names.RESPONSE_REMOTE_HOST,
    ),
    _of_response("done", "boolean", "Whether the final message was seen.", absent=False),
    _of_response(
        "done_reason",
        "text",
        "Why generation ended, as the server names it.",
        attribute=names.RESPONSE_DONE_REASON,
    ),
    _of_response(
        "input_tokens",
        "integer",
        "Tokens of the prompt, cached ones included.",
        unit="{token}",
        attribute=names.USAGE_INPUT_TOKENS,
    ),
    _of_response(
        "output_tokens",
        "integer",
        "Tokens generated.",
        unit="{token}",
        attribute=names.USAGE_OUTPUT_TOKENS,
    ),
    _of_response(
        "total_duration",
        "number",
        "Time in the server.",
        unit="s",
        attribute=names.RESPONSE_TOTAL_DURATION,
    ),
    _of_response(
        "load_duration",
        "number",
        "Time until the model was ready: queue of the scheduler, eviction, load.",
        unit="s",
        attribute=names.RESPONSE_LOAD_DURATION,
    ),
    _of_response(
        "prompt_eval_duration",
        "number",
        "Time for the part of the prompt that was not cached.",
        unit="s",
        attribute=names.RESPONSE_PROMPT_EVAL_DURATION,
    ),
    _of_response(
        "eval_duration",
        "number",
        "Time of generation.",
        unit="s",
        attribute=names.RESPONSE_EVAL_DURATION,
    ),
    _of_response(
        "tool_calls",
        "texts",
        "Names of the tools that the model called.",
        "tool_call_names",
        attribute=names.RESPONSE_TOOL_CALL_NAMES,
        absent=(),
    ),
    Fact(
        path="response.tool_call_count",
        type="integer",
        source="server",
        sentence="Number of tool calls.",
        attribute=names.RESPONSE_TOOL_CALL_COUNT,
    ),
    _of_response("has_thinking", "boolean", "Whether the response has thinking.", absent=False),
    _of_response("error", "text", "Error in a response whose status was good.", "response_error"),
    # --- derived facts
    _of_call(
        "finish_reason",
        "text",
        "server",
        "Why generation ended, as the conventions name it.",
    ),
    Fact(
        path="finish_reasons",
        type="texts",
        source="server",
        sentence="The finish reason of each choice.",
        attribute=names.RESPONSE_FINISH_REASONS,
    ),
    _of_call(
        "cold_start",
        "boolean",
        "server",
        "Whether the call waited for its model to be loaded.",
        spread=_cold_start,
        spreads_to=names.COLD_START,
    ),
    _of_call(
        "queue_estimate",
        "number",
        "estimate",
        "Estimated wait for a slot.",
        unit="s",
        attribute=names.QUEUE_ESTIMATE,
    ),
    _of_call(
        "phases",
        "object",
        "estimate",
        "Time of each phase; they add up to the duration.",
        unit="s",
        absent={},
    ),
    _of_call(
        "decode_rate",
        "number",
        "server",
        "Output tokens per second of generation.",
        unit="{token}/s",
        attribute=names.DECODE_RATE,
    ),
    _of_call(
        "prefill_rate_estimate",
        "number",
        "estimate",
        "Prompt tokens per second; too high if part of the prompt was cached.",
        unit="{token}/s",
        attribute=names.PREFILL_RATE_ESTIMATE,
    ),
    # --- pulls and pushes
    _of_call(
        "progress.total_bytes",
        "integer",
        "server",
        "Size of all layers of a pull or push.",
        unit="By",
        attribute=names.PROGRESS_TOTAL,
    ),
    _of_call(
        "progress.moved_bytes",
        "integer",
        "server",
        "Bytes that the call moved.",
        unit="By",
        attribute=names.PROGRESS_MOVED,
    ),
    _of_call("progress.moving_time", "number", "client", "Time in which bytes moved.", unit="s"),
    _of_call(
        "progress.rate",
        "number",
        "client",
        "Bytes per second while bytes moved.",
        unit="By/s",
        attribute=names.PROGRESS_RATE,
    ),
    # --- residency
    _of_call(
        "residency.gpu_share",
        "number",
        "residency",
        "Part of the model in GPU memory, 0 to 1.",
        column="gpu_share",
        attribute=names.MODEL_GPU_SHARE,
    ),
    _of_call(
        "residency.context_length",
        "integer",
        "residency",
        "Context that the loaded model has for each request.",
        unit="{token}",
        column="context_length",
        attribute=names.MODEL_CONTEXT_LENGTH,
    ),
    _of_call(
        "residency.reload_cause",
        "text",
        "residency",
        "Why the model had to be loaded again for this call.",
        column="reload_cause",
        attribute=names.RELOAD_CAUSE,
    ),
    _of_call(
        "residency.reload_before",
        "text",
        "residency",
        "The option's old value.",
        column="reload_before",
        attribute=names.RELOAD_BEFORE,
    ),
    _of_call(
        "residency.reload_after",
        "text",
        "residency",
        "The option's new value.",
        column="reload_after",
        attribute=names.RELOAD_AFTER,
    ),
    _of_call(
        "residency.evicted_by",
        "text",
        "residency",
        "The model that had evicted this one.",
        column="evicted_by",
        attribute=names.EVICTED_BY,
    ),
)
