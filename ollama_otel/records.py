"""What is known of a call: values only, frozen at run time.

Observers get these. They hold nothing that can be changed, and nothing that reaches back into
the call. Times are seconds as floats, sizes are bytes; None means unknown, 0 means zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

from msgspec import Struct
from msgspec.structs import fields

from ollama_otel._frozen import FrozenDict
from ollama_otel.context import CallContext

__all__ = [
    "CallRecord",
    "CallStart",
    "Conversation",
    "DialectName",
    "Ending",
    "Endpoint",
    "ErrorType",
    "Media",
    "Message",
    "ModelResidency",
    "Outcome",
    "Part",
    "Phase",
    "Progress",
    "Purpose",
    "ReloadCause",
    "RequestFacts",
    "ResponseFacts",
    "ResponseKind",
    "SpanIds",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolDefinition",
    "ToolResult",
]

Outcome = Literal["completed", "abandoned", "cancelled", "failed"]
"""How a call ended.

`completed`: the final message was seen. `abandoned`: the caller closed the stream early.
`cancelled`: the caller's task was cancelled. `failed`: everything else.
"""

Ending = Literal[
    "final_message",
    "whole_body",
    "redirect",
    "closed_early",
    "cancelled",
    "error_status",
    "error_message",
    "exception",
    "no_final_message",
    "not_protocol",
]
"""Why a call ended: one reason for each way through the recorder.

Completed: `final_message` (the dialect's last message was seen), `whole_body` (all of a body came
whose last message cannot be read: an encoding, or a size) or `redirect`. Abandoned: `closed_early`.
Cancelled: `cancelled`. Failed: `error_status` (HTTP 400 or higher), `error_message` (an error in a
response whose status was good), `exception` (the transport raised), `no_final_message` (the body
ended cleanly without it) or `not_protocol` (the body is not what the dialect says).
"""

Phase = Literal["load", "queue_estimate", "prompt_eval", "eval", "unaccounted", "client"]
"""Where the time of a call goes, in this order.

`client` is what the client's clock measured beyond the server's total: network, and the caller's
own pace. `unaccounted` is the rest in the server where that is no wait for a slot, and the whole
time of a call for which the server gave no timings.
"""

ErrorType = Literal[
    "model_not_found",
    "server_busy",
    "context_exceeded",
    "unsupported",
    "invalid_request",
    "unauthorized",
    "forbidden",
    "rate_limited",
    "not_found",
    "out_of_memory",
    "runner_crashed",
    "load_failed",
    "connect",
    "timeout",
    "network",
    "incomplete",
    "protocol",
    "canceled",
    "upstream",
    "server_error",
    "_OTHER",
]
"""Every value that `error.type` can have: few, so that it can be a metric's label."""

Purpose = Literal["call", "load", "unload"]
"""`load` and `unload` are requests with an empty input: they only move the model."""

DialectName = str
"""Whose protocol a route speaks: `native`, and the names of further dialects."""

ResponseKind = Literal["completion", "embedding", "progress", "usage", "opaque"]
"""What there is to read in a response.

`completion`: text, tokens and timings. `embedding`: vectors, and counts. `progress`: status lines
of a long job. `usage`: token counts. `opaque`: nothing but a possible error.
"""

ReloadCause = str
"""Why a model was loaded again: an option that changed (`num_ctx`), `evicted`, `expired`, ..."""

# A caller that leaves bytes unread can fill the socket, and the server then waits for it: from
# here on the server's timings say something about the caller.
_BACKPRESSURE_BYTES: Final = 64 * 1024
_BACKPRESSURE_SHARE: Final = 0.1

_NOTHING: Final[Mapping[str, Any]] = FrozenDict()


# `gc=False`: these hold no container that could be part of a cycle, so the collector may skip them.


class Endpoint(Struct, frozen=True, kw_only=True, gc=False):
    """One route of a server. Paths match by suffix, as `OLLAMA_HOST` may carry a prefix."""

    method: str
    path: str
    """From its `/api` or `/v1` on; a trailing `/*` stands for one further segment."""
    name: str
    """`ollama.operation.name`."""
    genai_operation: str | None = None
    """`gen_ai.operation.name`, for what the GenAI conventions know."""
    dialect: DialectName = "native"
    streams_by_default: bool | None = None
    """What the server does when the request does not say; None: it never streams."""
    response: ResponseKind = "opaque"
    input_field: str | None = None
    """The request's field that holds the input; if it is empty, the server only loads the model."""
    can_unload: bool = False
    """Whether an empty input with a keep-alive of 0 unloads the model instead."""
    missing_is_an_answer: bool = False
    """Whether status 404 answers the question instead of failing it."""

    @property
    def path_names_body(self) -> bool:
        """Whether the path identifies what is sent: a blob by its digest."""
        return self.path.endswith("/*")

    @property
    def moves_model(self) -> bool:
        """Whether the server needs a model in memory to serve it."""
        return self.response in {"completion", "embedding"}


# --- what was said ------------------------------------------------------------------------


class Text(Struct, frozen=True, tag="text"):
    """Text for the reader."""

    text: str


class Thinking(Struct, frozen=True, tag="thinking"):
    """Text that a model wrote before its answer."""

    text: str


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    """A call of a tool that the model asks for."""

    name: str
    arguments: Any = None
    """JSON, frozen: mappings are read-only, lists are tuples."""
    id: str | None = None


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    """What a tool returned, as it was sent back to the model."""

    text: str
    id: str | None = None
    name: str | None = None


class Media(Struct, frozen=True, kw_only=True, tag="media"):
    """An image or a sound by its hash; the bytes are not here."""

    sha256: str
    """Of the decoded bytes, in hexadecimal."""
    size: int
    """Bytes, decoded."""
    modality: str = "image"
    mime_type: str | None = None
    is_omitted: bool = False
    """Whether the log it comes from does not hold the bytes either."""


Part = Text | Thinking | ToolCall | ToolResult | Media
"""One piece of a message."""


class Message(Struct, frozen=True, kw_only=True):
    """One message, the same for every dialect."""

    role: str
    parts: tuple[Part, ...] = ()
    is_cut: bool = False
    """Whether more came than is kept."""
    name: str | None = None
    """Who speaks, where the request says so."""

    @property
    def text(self) -> str:
        """The text, without thinking."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def thinking(self) -> str:
        """What the model wrote before its answer."""
        return "".join(part.text for part in self.parts if isinstance(part, Thinking))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


class ToolDefinition(Struct, frozen=True, kw_only=True, gc=False):
    """A tool that a request offers."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    """JSON Schema, frozen."""


class Conversation(Struct, frozen=True, kw_only=True):
    """What a request asks, the same for every dialect."""

    system: tuple[Part, ...] = ()
    """Instructions that have a field of their own; a system message is one of the messages."""
    messages: tuple[Message, ...] = ()
    """What was said so far; a bare prompt is a message of the user."""
    inputs: tuple[str, ...] = ()
    """Texts to embed."""
    tools: tuple[ToolDefinition, ...] = ()
    settings: Mapping[str, Any] = _NOTHING
    """Everything else that the request says of how to answer, by its name; frozen JSON."""

    @property
    def question(self) -> str:
        """What the user said last, or the first of the texts to embed; "" if nothing."""
        said = [each.text for each in self.messages if each.role == "user" and each.text]
        return [*said[-1:], *self.inputs, ""][0]


# --- facts --------------------------------------------------------------------------------


class SpanIds(Struct, frozen=True, kw_only=True, gc=False):
    """Which span follows a call; it is the call's span, not the caller's."""

    trace: int
    span: int
    is_sampled: bool


class RequestFacts(Struct, frozen=True, kw_only=True, gc=False):
    """What was asked, as sent: None and empty mean not sent."""

    model: str | None = None
    stream: bool = False
    purpose: Purpose = "call"
    options: Mapping[str, Any] = _NOTHING
    """Sampling and load options; frozen JSON."""
    think: bool | str | None = None
    keep_alive: str | None = None
    asks_for_json: bool = False
    raw: bool | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    input_count: int | None = None
    """Messages of a chat, texts of an embedding request."""
    image_count: int = 0
    tools: tuple[str, ...] = ()
    """Names of the tools offered."""
    size: int | None = None
    """Bytes of the request's body."""

    @property
    def tool_count(self) -> int | None:
        """How many tools are offered; None if none."""
        return len(self.tools) or None


class ResponseFacts(Struct, frozen=True, kw_only=True, gc=False):
    """What the server said of the call; None means that it did not say."""

    model: str | None = None
    remote_model: str | None = None
    remote_host: str | None = None
    done: bool = False
    """Whether the final message of the dialect was seen."""
    done_reason: str | None = None
    input_tokens: int | None = None
    """Tokens of the prompt, after any truncation; since Ollama 0.30.1 with the cached ones."""
    output_tokens: int | None = None
    """Tokens generated: thinking and tool calls included."""
    total_duration: float | None = None
    """Seconds in the server, from the handler's entry to the last token."""
    load_duration: float | None = None
    """Seconds until a runner was ready: reading the body, scheduler queue, eviction and load."""
    prompt_eval_duration: float | None = None
    """Seconds spent on the part of the prompt that was not cached."""
    eval_duration: float | None = None
    """Seconds of generation."""
    tool_calls: tuple[str, ...] = ()
    """Names of the tools that the model called, in order."""
    has_thinking: bool = False
    error: str | None = None
    """The text of an error in a response whose HTTP status was good."""

    @property
    def tool_call_count(self) -> int | None:
        """How many tools the model called; None if none."""
        return len(self.tool_calls) or None


class Progress(Struct, frozen=True, kw_only=True, gc=False):
    """How far a pull, push or create came, summed over its layers."""

    total_bytes: int | None = None
    """Bytes of all layers, those already there included."""
    moved_bytes: int | None = None
    """Bytes moved during this call, those there at its start left out."""
    moving_time: float | None = None
    """Seconds from the first to the last byte count."""

    @property
    def rate(self) -> float | None:
        """Bytes per second while bytes were moving; None if none were."""
        return (
            self.moved_bytes / self.moving_time if self.moved_bytes and self.moving_time else None
        )


class ModelResidency(Struct, frozen=True, kw_only=True, gc=False):
    """What the server held of the call's model: a section that an enricher adds.

    Source: `/api/ps`, polled beside the calls.
    """

    section: ClassVar[str] = "residency"

    gpu_share: float | None = None
    """Part of the model in GPU memory, 0 to 1."""
    context_length: int | None = None
    """Tokens of context that the loaded model has for each request."""
    reload_cause: ReloadCause | None = None
    """Why the model had to be loaded again for this call."""
    reload_before: str | None = None
    """The value of the option before it changed."""
    reload_after: str | None = None
    """The value of the option after it changed."""
    evicted_by: str | None = None
    """The model that had pushed this one out of memory."""


_NO_REQUEST: Final = RequestFacts()
_NO_RESPONSE: Final = ResponseFacts()
_NO_PROGRESS: Final = Progress()
_NO_RESIDENCY: Final = ModelResidency()
_NO_CONTEXT: Final = CallContext()


class CallStart(Struct, frozen=True, kw_only=True):
    """What is known when a request is about to be sent."""

    endpoint: Endpoint
    request: RequestFacts = _NO_REQUEST
    server_address: str | None = None
    """Host, from the request's URL."""
    server_port: int | None = None
    server_scheme: str | None = None
    """`http` or `https`, from the request's URL."""
    path: str | None = None
    """The URL's path as sent, without the query."""
    started_at: int = 0
    """Nanoseconds since the epoch, by the wall clock."""
    is_for_network: bool = False
    """Whether a real server will be asked for certain; False also if that is unknown."""
    context: CallContext = _NO_CONTEXT
    span: SpanIds | None = None
    """The call's span; None if tracing makes none."""
    conversation: Conversation | None = None
    """What was asked; only while content is captured."""
    content: bytes | None = None
    """The request's body as sent; only while an observer keeps it."""

    @property
    def is_inference(self) -> bool:
        """Whether the GenAI conventions know the operation, and a model is to work."""
        return self.endpoint.genai_operation is not None and self.request.purpose == "call"

    @property
    def message_count(self) -> int | None:
        """Messages of a chat; None for anything else."""
        return self.request.input_count if self.endpoint.response == "completion" else None

    @property
    def embedded_count(self) -> int | None:
        """Texts of an embedding request; None for anything else."""
        return None if self.endpoint.response == "completion" else self.request.input_count

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits: where to find the call in a trace back-end."""
        return None if self.span is None else f"{self.span.trace:032x}"

    @property
    def span_id(self) -> str | None:
        """16 hexadecimal digits."""
        return None if self.span is None else f"{self.span.span:016x}"

    @property
    def is_sampled(self) -> bool:
        """Whether the span is recorded."""
        return self.span is not None and self.span.is_sampled

    @property
    def base_url(self) -> str | None:
        """Where the server is: the call's URL without the endpoint. None if that is unknown."""
        path, host, port = self.path, self.server_address, self.server_port
        if self.server_scheme not in {"http", "https"} or path is None or not host or not port:
            return None
        end = path.rfind(self.endpoint.path.removesuffix("*"))
        if end < 0:
            return None
        host = f"[{host}]" if ":" in host else host
        return f"{self.server_scheme}://{host}:{port}{path[:end]}"


class CallRecord(Struct, frozen=True, kw_only=True, dict=True):
    """One call, ended. What follows from its fields is computed once, when it is asked for."""

    start: CallStart
    outcome: Outcome
    ending: Ending
    error_type: ErrorType | None = None
    """From a closed list, only of a failed call."""
    error_message: str | None = None
    exception_type: str | None = None
    """Name of the exception class that the transport raised, only of a failed call."""
    http_status: int | None = None
    response: ResponseFacts = _NO_RESPONSE
    duration: float
    """Seconds from the request to the end, by the client's clock."""
    time_to_first_chunk: float | None = None
    """Seconds until the first bytes of a stream."""
    time_to_first_answer: float | None = None
    """Seconds until the first text or tool call of a stream; thinking does not count."""
    chunk_count: int = 0
    """Messages of a stream, the final one included; this is not a count of tokens."""
    longest_gap: float | None = None
    """Longest wait for one further chunk of a stream; the caller's own time is not in it."""
    held_by_caller: float | None = None
    """Seconds of a stream in which the caller did not ask for more."""
    response_size: int = 0
    """Bytes of the body, as they came over the wire."""
    cold_start: bool | None = None
    """Whether the call waited for its model to be loaded; None if the server did not say."""
    progress: Progress = _NO_PROGRESS
    answer: Message | None = None
    """What was answered, only while content is captured."""
    residency: ModelResidency = _NO_RESIDENCY
    """What the server held of the model; filled while residency is on."""
    sent_at: float = 0.0
    """Reading of the monotonic clock when the request was sent, seconds."""
    content_type: str | None = None
    """As the response's head says."""
    content_encoding: str | None = None
    """As the response's head says; None if there was nothing to decode."""
    is_from_network: bool = False
    """Whether the response came over a connection: not from a mock, a cache or a replay."""

    @property
    def is_redirect(self) -> bool:
        """Whether the server only pointed elsewhere; the call goes on with another request."""
        return self.http_status is not None and 300 <= self.http_status < 400  # noqa: PLR2004

    @property
    def finish_reason(self) -> str | None:
        """Why generation ended; the server says `stop` for tool calls too."""
        reason = self.response.done_reason
        return "tool_call" if reason == "stop" and self.response.tool_calls else reason

    @property
    def finish_reasons(self) -> tuple[str, ...] | None:
        """The finish reason as the GenAI conventions want it: one for each choice of an answer."""
        is_answer = self.start.endpoint.response == "completion" and self.start.is_inference
        reason = self.finish_reason if is_answer else None
        return None if reason is None else (reason,)

    @cached_property
    def queue_estimate(self) -> float | None:
        """Estimated seconds of waiting for a slot: what no phase of the server accounts for.

        None if the rest means something else: two runs in one call (a format and thinking),
        images being encoded, or a caller so slow that the server waited.
        """
        response, request = self.response, self.start.request
        total, load = response.total_duration, response.load_duration
        prompt, generation = response.prompt_eval_duration, response.eval_duration
        if total is None or load is None or prompt is None or generation is None:
            return None
        runs_twice = request.asks_for_json and (response.has_thinking or bool(request.think))
        stalls = (
            self.response_size > _BACKPRESSURE_BYTES
            and (self.held_by_caller or 0.0) > _BACKPRESSURE_SHARE * total
        )
        if runs_twice or request.image_count or stalls:
            return None
        return max(0.0, total - load - prompt - generation)

    @cached_property
    def phases(self) -> Mapping[Phase, float]:
        """Seconds of each phase that is known; together they make up the duration."""
        response = self.response
        total, queue = response.total_duration, self.queue_estimate
        known: tuple[tuple[Phase, float | None], ...] = (
            ("load", response.load_duration),
            ("queue_estimate", queue),
            ("prompt_eval", response.prompt_eval_duration),
            ("eval", response.eval_duration),
        )
        phases: dict[Phase, float] = {name: spent for name, spent in known if spent is not None}
        rest = (self.duration if total is None else total) - sum(phases.values())
        if queue is None and rest > 0:
            phases["unaccounted"] = rest
        if total is not None:
            phases["client"] = max(0.0, self.duration - total)
        return FrozenDict(phases)

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second of generation, by the server's own clock."""
        tokens, seconds = self.response.output_tokens, self.response.eval_duration
        return tokens / seconds if tokens and seconds else None

    @property
    def prefill_rate_estimate(self) -> float | None:
        """Prompt tokens per second of prompt processing: too high if part was cached.

        The server counts all tokens but times only those that were not in its cache.
        """
        tokens, seconds = self.response.input_tokens, self.response.prompt_eval_duration
        return tokens / seconds if tokens and seconds else None


SECTIONS: Final[Mapping[type, str]] = FrozenDict(
    {field.type: field.name for field in fields(CallRecord) if hasattr(field.type, "section")}
)
"""The sections that enrichers may add: the type of each, and the record's field for it."""
