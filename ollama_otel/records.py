"""The records of a call: values only, frozen at run time.

Observers get these. They hold only frozen values, and no reference to the running call. Times
are seconds as floats, sizes are bytes; None means unknown, 0 means zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import fields

from ollama_otel._bounds import MORE_NAMES
from ollama_otel._frozen import FrozenDict
from ollama_otel.context import _NO_CONTEXT, CallContext

__all__ = [
    "CallCost",
    "CallRecord",
    "CallResilience",
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
    "Rejection",
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
    "Truncation",
    "TruncationCertainty",
    "TruncationKind",
]

Outcome = Literal["completed", "abandoned", "cancelled", "failed"]
"""How a call ended.

`completed`: the final message was seen. `abandoned`: the caller closed the stream early.
`cancelled`: the caller's task, greenlet or program was stopped, or the telemetry was shut down.
`failed`: everything else.
"""

Ending = Literal[
    "final_message",
    "whole_body",
    "redirect",
    "auth_round",
    "closed_early",
    "cancelled",
    "error_status",
    "error_message",
    "exception",
    "no_final_message",
    "not_protocol",
]
"""Why a call ended: one reason for each path through the recorder.

Completed: `final_message` (the dialect's last message was seen), `whole_body` (the whole body came,
but its last message cannot be read due to its encoding or size), `redirect`, or `auth_round`
(httpx's auth answered the response with another request). Abandoned: `closed_early`. Cancelled:
`cancelled`. Failed: `error_status` (HTTP 400 or higher, or a redirect that turns the request into a
GET), `error_message` (an error in a response with a success status), `exception` (the transport
raised), `no_final_message` (the body ended cleanly without it) or `not_protocol` (the body violates
the dialect).
"""

Phase = Literal[
    "resilience", "load", "queue_estimate", "prompt_eval", "eval", "unaccounted", "client"
]
"""The phases of a call, in this order.

`resilience` is the time before the attempt that gave the result was sent: the limiter's queue,
failed attempts and the waits between them. The other phases belong to that attempt. `client` is its
duration minus the server's total: the network and the caller. `unaccounted` is the rest of the
server's total if it is not a wait for a slot, and the whole duration of a call for which the server
gave no timings.
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
    "rejected",
    "_OTHER",
]
"""All values of `error.type`: few, so that it can be a metric label."""

Rejection = Literal["queue_full", "queue_timeout", "circuit_open", "deadline"]
"""Why a call was not sent.

`queue_full`, `queue_timeout`: the limiter. `circuit_open`: the breaker. `deadline`: its time had
run out before it was sent.
"""

Purpose = Literal["call", "load", "unload"]
"""`load` and `unload` are requests with an empty input: they only move the model."""

DialectName = str
"""The protocol of a route: `native`, and the names of further dialects."""

ResponseKind = Literal["completion", "embedding", "progress", "usage", "opaque"]
"""What a response contains.

`completion`: text, tokens and timings. `embedding`: vectors and counts. `progress`: status lines
of a long job. `usage`: token counts. `opaque`: only a possible error is read.
"""

ReloadCause = str
"""Why a model was loaded again: an option that changed (`num_ctx`), `evicted`, `expired`, ..."""

TruncationKind = Literal["prompt_cut", "history_dropped", "context_shift"]
"""What a server silently left out.

`prompt_cut`: the middle of the prompt, to about half of the context. `history_dropped`: the
oldest messages of a chat. `context_shift`: the beginning of the context, while it generated.
"""

TruncationCertainty = Literal["confirmed", "suspected"]
"""`confirmed`: a count of the prompt's tokens, or the response's own numbers, prove it.
`suspected`: the number of tokens is that of a cut prompt, which happens by chance in one of some
thousand calls.
"""

# A caller that does not read can fill the socket buffer; the server then waits for it. Above
# these limits the server's timings may include the caller's time.
_BACKPRESSURE_BYTES: Final = 64 * 1024
_BACKPRESSURE_SHARE: Final = 0.1

_NOTHING: Final[Mapping[str, Any]] = FrozenDict()


# `gc=False`: these hold no container that could be part of a cycle, so the collector may skip them.


class Endpoint(Struct, frozen=True, kw_only=True, gc=False):
    """One route of a server. Paths match by suffix, as `OLLAMA_HOST` may carry a prefix."""

    method: str
    path: str
    """The path from `/api` or `/v1` on; a trailing `/*` stands for one further segment."""
    name: str
    """`ollama.operation.name`."""
    genai_operation: str | None = None
    """`gen_ai.operation.name`; None if the GenAI conventions do not define the operation."""
    dialect: DialectName = "native"
    streams_by_default: bool | None = None
    """Whether the server streams if the request does not say; None: it never streams."""
    response: ResponseKind = "opaque"
    input_field: str | None = None
    """The request's field that holds the input; if it is empty, the server only loads the model."""
    can_unload: bool = False
    """Whether an empty input with a keep-alive of 0 unloads the model instead."""
    missing_is_an_answer: bool = False
    """Whether status 404 is a valid response and not a failure."""

    @property
    def path_names_body(self) -> bool:
        """Whether the path identifies the request's body: a blob by its digest."""
        return self.path.endswith("/*")

    @property
    def moves_model(self) -> bool:
        """Whether the server needs a model in memory for it."""
        return self.response in {"completion", "embedding"}


# --- conversations ------------------------------------------------------------------------


class Text(Struct, frozen=True, tag="text"):
    """Text of a message."""

    text: str


class Thinking(Struct, frozen=True, tag="thinking"):
    """Text that a model wrote before its answer."""

    text: str


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    """A tool call that the model requests."""

    name: str
    arguments: Any = None
    """JSON, frozen: mappings are read-only, lists are tuples."""
    id: str | None = None


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    """A tool's result, as sent back to the model."""

    text: str
    id: str | None = None
    name: str | None = None


class Media(Struct, frozen=True, kw_only=True, tag="media"):
    """An image or a sound, by hash; the record does not hold the bytes."""

    sha256: str
    """Hash of the decoded bytes, in hexadecimal."""
    size: int
    """Number of decoded bytes."""
    modality: str = "image"
    mime_type: str | None = None
    is_omitted: bool = False
    """Whether the bytes are missing also in the log from which the record was read."""


Part = Text | Thinking | ToolCall | ToolResult | Media
"""One piece of a message."""


class Message(Struct, frozen=True, kw_only=True):
    """One message, the same for every dialect."""

    role: str
    parts: tuple[Part, ...] = ()
    is_cut: bool = False
    """Whether the message was longer than the kept part."""
    name: str | None = None
    """The speaker's name, if the request gives one."""

    @property
    def text(self) -> str:
        """The text, without thinking."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def thinking(self) -> str:
        """The text that the model wrote before its answer."""
        return "".join(part.text for part in self.parts if isinstance(part, Thinking))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


class ToolDefinition(Struct, frozen=True, kw_only=True, gc=False):
    """A tool that a request offers."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    """JSON Schema, frozen."""


class Conversation(Struct, frozen=True, kw_only=True):
    """The content of a request, the same for every dialect."""

    system: tuple[Part, ...] = ()
    """Instructions that have a field of their own; a system message is one of the messages."""
    messages: tuple[Message, ...] = ()
    """The messages so far; a bare prompt is a message of the user."""
    inputs: tuple[str, ...] = ()
    """Texts to embed."""
    tools: tuple[ToolDefinition, ...] = ()
    settings: Mapping[str, Any] = _NOTHING
    """All other fields of the request that affect the response, by name; frozen JSON."""

    @property
    def question(self) -> str:
        """The last text of the user, or the first text to embed; "" if there is none."""
        texts = [each.text for each in self.messages if each.role == "user" and each.text]
        return [*texts[-1:], *self.inputs, ""][0]


# --- facts --------------------------------------------------------------------------------


class SpanIds(Struct, frozen=True, kw_only=True, gc=False):
    """The ids of the call's own span, not the caller's."""

    trace: int
    """128 bits."""
    span: int
    """64 bits."""
    is_sampled: bool
    """Whether the span is recorded."""


class RequestFacts(Struct, frozen=True, kw_only=True, gc=False):
    """Facts of a request, as sent: None and empty mean not sent."""

    model: str | None = None
    """The requested model, as the caller named it."""
    stream: bool = False
    purpose: Purpose = "call"
    options: Mapping[str, Any] = _NOTHING
    """Sampling and load options; frozen JSON."""
    think: bool | str | None = None
    """Whether to think, or a level; `_OTHER` if the level is not a known one."""
    keep_alive: str | None = None
    """A number of seconds or a duration, as sent; None if it is neither."""
    asks_for_json: bool = False
    """Whether `format` asks for JSON, or has a schema."""
    raw: bool | None = None
    """Whether the prompt goes to the model without a template."""
    truncate: bool | None = None
    """Whether the server may cut an input that is too long."""
    dimensions: int | None = None
    """Requested length of the vectors of embeddings."""
    input_count: int | None = None
    """Number of messages of a chat, or of texts of an embedding request."""
    image_count: int | None = 0
    """None if the request has too many values to be read; see `docs/untrusted-input.md`."""
    tools: tuple[str, ...] = ()
    """Names of the offered tools; the last is `ResponseFacts.MORE_NAMES` if there are more."""
    size: int | None = None
    """Bytes of the request's body."""

    @property
    def tool_count(self) -> int | None:
        """Number of offered tools; None if there are none, or if `tools` is not complete."""
        tools = self.tools
        return None if not tools or tools[-1] == MORE_NAMES else len(tools)


class ResponseFacts(Struct, frozen=True, kw_only=True, gc=False):
    """Facts that the server reported; None means that it did not report them."""

    MORE_NAMES: ClassVar[str] = MORE_NAMES
    """Placeholder for further names, at the end of `tool_calls` or of a request's `tools`."""

    model: str | None = None
    """The model, as the server names it."""
    remote_model: str | None = None
    """The model that a server behind the server ran."""
    remote_host: str | None = None
    """Scheme, host and port of the cloud server that answered."""
    done: bool = False
    """Whether the final message of the dialect was seen."""
    done_reason: str | None = None
    """Why generation ended, from a closed list; `_OTHER` for any other reason."""
    input_tokens: int | None = None
    """Tokens of the prompt, after any truncation; since Ollama 0.30.1 cached ones included."""
    output_tokens: int | None = None
    """Generated tokens, including thinking and tool calls."""
    total_duration: float | None = None
    """Seconds in the server, from the handler's entry to the last token."""
    load_duration: float | None = None
    """Seconds until a runner was ready: reading the body, scheduler queue, eviction and load."""
    prompt_eval_duration: float | None = None
    """Seconds spent on the part of the prompt that was not cached."""
    eval_duration: float | None = None
    """Seconds spent generating tokens."""
    tool_calls: tuple[str, ...] = ()
    """Names of the tools that the model called, in order; `_OTHER` if the tool was not offered. The
    last is `MORE_NAMES` if not all are known.
    """
    has_thinking: bool = False
    """Whether the answer has thinking."""
    error: str | None = None
    """Message of an error in the response, without content; see `CallRecord.error_message`."""

    @property
    def tool_call_count(self) -> int | None:
        """Number of tool calls of the model; None if there are none, or if not all are known."""
        calls = self.tool_calls
        return None if not calls or calls[-1] == self.MORE_NAMES else len(calls)


class Progress(Struct, frozen=True, kw_only=True, gc=False):
    """Progress of a pull, push or create, summed over its layers."""

    total_bytes: int | None = None
    """Bytes of all layers, including those that existed before."""
    moved_bytes: int | None = None
    """Bytes transferred during this call."""
    moving_time: float | None = None
    """Seconds from the first to the last byte count."""

    @property
    def rate(self) -> float | None:
        """Bytes per second while bytes were transferred; None if none were."""
        return (
            self.moved_bytes / self.moving_time if self.moved_bytes and self.moving_time else None
        )


class ModelResidency(Struct, frozen=True, kw_only=True, gc=False):
    """The state of the call's model in the server's memory: a section that an enricher adds.

    Source: polls of `/api/ps`.
    """

    section: ClassVar[str] = "residency"
    on_cpu_below: ClassVar[float] = 0.1
    """A model with a smaller share in GPU memory runs on the CPU.

    The share is not 0 if the machine has a GPU: buffers stay there. Measured with a model of 1.9 GB
    and Ollama 0.33 on an H100: without layers on the GPU, a share of 0.046 and 7 tokens/s; with
    half of them, 0.485 and 31; with all, 1.0 and 196.
    """

    gpu_share: float | None = None
    """Fraction of the model in GPU memory, 0 to 1; see `is_on_cpu`."""
    model_size: int | None = None
    """Bytes of the loaded model in all memory, including the contexts of its slots."""
    model_gpu_size: int | None = None
    """Bytes of the model in GPU memory."""
    context_length: int | None = None
    """Context length of the loaded model per request, in tokens."""
    reload_cause: ReloadCause | None = None
    """Why the model had to be loaded again; None for its first load, as far as known."""
    reload_before: str | None = None
    """The value of the option before it changed."""
    reload_after: str | None = None
    """The value of the option after it changed."""
    evicted_by: str | None = None
    """The model that evicted this one before."""

    @property
    def is_on_cpu(self) -> bool | None:
        """Whether the model runs on the CPU, by `on_cpu_below`."""
        return None if self.gpu_share is None else self.gpu_share < self.on_cpu_below


class CallResilience(Struct, frozen=True, kw_only=True, gc=False):
    """Retries, waits, rejection and fallback of the call: a section."""

    section: ClassVar[str] = "resilience"

    attempts: int | None = None
    """Number of requests sent for the call; 0 if it was rejected, None without resilience."""
    delay: float | None = None
    """Seconds before the attempt that gave the result was sent, or before the rejection."""
    retried: tuple[ErrorType, ...] = ()
    """Error types of the failed attempts that were followed by another attempt, in order."""
    limiter_wait: float | None = None
    """Seconds in the limiter's queue; None without a limiter."""
    backoff: float | None = None
    """Seconds of waiting between attempts; None if there was one attempt."""
    rejection: Rejection | None = None
    """Why the call was not sent."""
    server_address: str | None = None
    """Host of the fallback that served the call; None if it is the request's host."""
    server_port: int | None = None
    """Port of that fallback."""
    model: str | None = None
    """Model that the fallback requested instead of the caller's."""


class Truncation(Struct, frozen=True, kw_only=True, gc=False):
    """What the server silently left out of a call: a section that an enricher adds.

    Source: the tokens that the server reported, and a count of the request's own. All None: the
    server left out nothing, or it is unknown.
    """

    section: ClassVar[str] = "truncation"

    kind: TruncationKind | None = None
    """What was left out."""
    certainty: TruncationCertainty | None = None
    """How certain it is."""
    context_length: int | None = None
    """Context length of the call, in tokens."""
    prompt_tokens: int | None = None
    """Prompt tokens before the server left anything out; approximate, unless the template is
    known.
    """
    lost_tokens: int | None = None
    """Prompt tokens that the model did not read, as exact as `prompt_tokens`. For a context shift,
    the tokens by which prompt and answer exceed the context.
    """
    dropped_messages: int | None = None
    """Messages of the chat that the model did not read."""


class CallCost(Struct, frozen=True, kw_only=True, gc=False):
    """What a call cost: a section that an enricher adds, while there is a price file.

    All are estimates: a process sees its own calls only, and does not know how long the machine
    will be idle. `ollama_otel.analysis.cost` computes exact shares from a log.
    """

    section: ClassVar[str] = "cost"

    estimate: float | None = None
    """Cost of the call's share of machine time and energy, without idle time, in `currency`."""
    currency: str | None = None
    """ISO 4217 code of the currency."""
    energy_estimate: float | None = None
    """Joules: the call's share of machine time, times the power in the price file."""
    gpu_seconds_estimate: float | None = None
    """Seconds: the call's share of machine time, which parallel calls of this process share."""


_T = TypeVar("_T")


class _computed_once(Generic[_T]):  # noqa: N801 - a decorator
    """Like `functools.cached_property`, which takes a lock and costs four times as much."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, record: Any, owner: type) -> _T:
        # Found in the record's `__dict__` from now on, before this descriptor.
        value = record.__dict__[self._name] = self._compute(record)
        return value


_NO_REQUEST: Final = RequestFacts()
_NO_RESPONSE: Final = ResponseFacts()
_NO_PROGRESS: Final = Progress()
_NO_RESIDENCY: Final = ModelResidency()
_NO_RESILIENCE: Final = CallResilience()


_NO_TRUNCATION: Final = Truncation()
_NO_COST: Final = CallCost()


class CallStart(Struct, frozen=True, kw_only=True):
    """Facts known before the request is sent."""

    endpoint: Endpoint
    request: RequestFacts = _NO_REQUEST
    server_address: str | None = None
    """Host of the request's URL."""
    server_port: int | None = None
    server_scheme: str | None = None
    """`http` or `https`."""
    path: str | None = None
    """The URL's path as sent, without the query."""
    started_at: int = 0
    """Nanoseconds since the epoch, by the wall clock."""
    is_for_network: bool = False
    """Whether the request certainly goes to a real server; False also if that is unknown."""
    context: CallContext = _NO_CONTEXT
    span: SpanIds | None = None
    """The call's span; None if tracing makes none."""
    conversation: Conversation | None = None
    """The content of the request; None unless content is captured."""
    content: bytes | None = None
    """The request's body as sent; None unless an observer keeps it."""

    @property
    def is_inference(self) -> bool:
        """Whether the GenAI conventions define the operation, and the model gets an input."""
        return self.endpoint.genai_operation is not None and self.request.purpose == "call"

    @property
    def message_count(self) -> int | None:
        """Number of messages of a chat; None for anything else."""
        return self.request.input_count if self.endpoint.response == "completion" else None

    @property
    def embedded_count(self) -> int | None:
        """Number of texts of an embedding request; None for anything else."""
        return None if self.endpoint.response == "completion" else self.request.input_count

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None if there is no span."""
        return None if self.span is None else f"{self.span.trace:032x}"

    @property
    def span_id(self) -> str | None:
        """16 hexadecimal digits; None if there is no span."""
        return None if self.span is None else f"{self.span.span:016x}"

    @property
    def is_sampled(self) -> bool:
        """Whether the span is recorded."""
        return self.span is not None and self.span.is_sampled

    @property
    def base_url(self) -> str | None:
        """The server's URL: the call's URL without the endpoint's path. None if unknown."""
        path, host, port = self.path, self.server_address, self.server_port
        if self.server_scheme not in {"http", "https"} or path is None or not host or not port:
            return None
        end = path.rfind(self.endpoint.path.removesuffix("*"))
        if end < 0:
            return None
        host = f"[{host}]" if ":" in host else host
        return f"{self.server_scheme}://{host}:{port}{path[:end]}"


class CallRecord(Struct, frozen=True, kw_only=True, dict=True):
    """One finished call. Properties are computed once, at first use."""

    start: CallStart
    outcome: Outcome
    ending: Ending
    error_type: ErrorType | None = None
    """None unless the call failed."""
    error_message: str | None = None
    """The known parts of the error message: fixed phrases of servers and clients, the numbers in
    them, and the requested model; `[...]` stands for the rest. Without a known phrase, the HTTP
    status or the exception's class. A record read from a log with bodies has the full redacted
    text. None unless the call failed.
    """
    error_text: str | None = None
    """The unchanged text of the server's error or the exception, which may quote anything; at most
    64 KiB. None unless content is captured or bodies are logged.
    """
    exception_type: str | None = None
    """Name of the exception class that the transport raised; None unless the call failed."""
    http_status: int | None = None
    """Status of the response; None if none came."""
    response: ResponseFacts = _NO_RESPONSE
    duration: float
    """Seconds from sending the request to the end of the response, by the client's clock."""
    time_to_first_chunk: float | None = None
    """Seconds until the first bytes of a stream."""
    time_to_first_answer: float | None = None
    """Seconds until the first text or tool call of a stream; thinking does not count."""
    chunk_count: int = 0
    """Number of messages in a stream, including the final one; not a token count."""
    longest_gap: float | None = None
    """Longest wait between two chunks of a stream, in seconds, without the caller's own time."""
    held_by_caller: float | None = None
    """Seconds during a stream in which the caller was not reading."""
    response_size: int = 0
    """Bytes of the body, as received: before decoding."""
    cold_start: bool | None = None
    """Whether the call waited for its model to be loaded; None if the server did not say."""
    queue_threshold: float = 0.05
    """Least estimated wait for a slot, in seconds, that counts as a wait."""
    progress: Progress = _NO_PROGRESS
    answer: Message | None = None
    """The answer; None unless content is captured."""
    residency: ModelResidency = _NO_RESIDENCY
    """The state of the model in the server's memory; set while residency is on."""
    resilience: CallResilience = _NO_RESILIENCE
    """Retries, waits and fallbacks of the call; set if its client has resilience."""

    truncation: Truncation = _NO_TRUNCATION
    """What the server left out; set if the setting `truncation` is on."""
    cost: CallCost = _NO_COST
    """The cost of the call; set if there is a price file."""
    sent_at: float = 0.0
    """Monotonic clock when the request was sent, seconds."""
    content_type: str | None = None
    """The response's `Content-Type`."""
    content_encoding: str | None = None
    """The response's `Content-Encoding`; None if there was nothing to decode."""
    is_from_network: bool = False
    """Whether the response came over a network connection, and not from a mock, a cache or a
    replay.
    """

    @property
    def is_redirect(self) -> bool:
        """Whether the call was redirected; the client sends the request again, as another call."""
        return self.outcome == "completed" and self.has_redirect_status

    @property
    def is_hop(self) -> bool:
        """Whether the same call goes on with another request: after a redirect or an auth round."""
        return self.is_redirect or self.ending == "auth_round"

    @property
    def has_redirect_status(self) -> bool:
        """Whether the response's HTTP status is a redirect, followed or not."""
        return self.http_status is not None and 300 <= self.http_status < 400  # noqa: PLR2004

    @property
    def finish_reason(self) -> str | None:
        """Why generation ended; `tool_call` if the model called tools, where Ollama says `stop`."""
        reason = self.response.done_reason
        return "tool_call" if reason == "stop" and self.response.tool_calls else reason

    @property
    def finish_reasons(self) -> tuple[str, ...] | None:
        """The finish reasons as the GenAI conventions require: one for each choice."""
        is_answer = self.start.endpoint.response == "completion" and self.start.is_inference
        reason = self.finish_reason if is_answer else None
        return None if reason is None else (reason,)

    @_computed_once
    def queue_estimate(self) -> float | None:
        """Estimated seconds spent waiting for a slot: the server's total duration minus its phases.

        None if the rest has another cause: two runs in one call (a format and thinking),
        encoding of images, or a caller so slow that the server waited.
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
        if runs_twice or request.image_count != 0 or stalls:
            return None
        return max(0.0, total - load - prompt - generation)

    @property
    def waited_for_slot(self) -> bool | None:
        """Whether the estimated wait for a slot reaches the threshold; None if it is unknown."""
        queue = self.queue_estimate
        return None if queue is None else queue >= self.queue_threshold

    @_computed_once
    def phases(self) -> Mapping[Phase, float]:
        """Seconds of each known phase; they add up to the duration."""
        response = self.response
        total, queue = response.total_duration, self.queue_estimate
        phases: dict[Phase, float] = {}
        delay = self.resilience.delay
        if delay is not None:
            phases["resilience"] = delay
        if response.load_duration is not None:
            phases["load"] = response.load_duration
        if queue is not None:
            phases["queue_estimate"] = queue
        if response.prompt_eval_duration is not None:
            phases["prompt_eval"] = response.prompt_eval_duration
        if response.eval_duration is not None:
            phases["eval"] = response.eval_duration
        waited = delay or 0.0
        rest = (self.duration if total is None else total + waited) - sum(phases.values())
        if queue is None and rest > 0:
            phases["unaccounted"] = rest
        if total is not None:
            phases["client"] = max(0.0, self.duration - total - waited)
        return FrozenDict(phases)

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second of generation, by the server's clock."""
        tokens, seconds = self.response.output_tokens, self.response.eval_duration
        return tokens / seconds if tokens and seconds else None

    @property
    def prefill_rate_estimate(self) -> float | None:
        """Prompt tokens per second of prompt processing; too high if part was cached.

        The server counts all tokens but measures the time of uncached ones only.
        """
        tokens, seconds = self.response.input_tokens, self.response.prompt_eval_duration
        return tokens / seconds if tokens and seconds else None


SECTIONS: Final[Mapping[type, str]] = FrozenDict(
    {field.type: field.name for field in fields(CallRecord) if hasattr(field.type, "section")}
)
"""The sections that enrichers may add: the type of each, and the record's field for it."""
