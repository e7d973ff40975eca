"""What is known of a call: when it starts, and once it has ended. Values only.

Observers get these; nothing in them reaches back into the call.
"""

from __future__ import annotations

from typing import Literal

from ollama_otel._exchange.bodies import AnswerText
from ollama_otel._wire import failures, native
from ollama_otel._wire.endpoints import Endpoint
from ollama_otel._wire.frozen import frozen
from ollama_otel.context import CallContext

__all__ = ["CallRecord", "CallStart", "Outcome", "Phase"]

Outcome = Literal["completed", "abandoned", "cancelled", "failed"]
"""How a call ended.

`completed`: the final message was seen; `abandoned`: the caller closed the stream
early; `cancelled`: its task was cancelled; `failed`: everything else.
"""

Phase = Literal["load", "queue_estimate", "prompt_eval", "eval", "unaccounted", "client"]
"""Where the time of a call goes, in this order.

`client` is what the client's clock measured beyond the server's total: network, and the
caller's own pace. `unaccounted` is the rest in the server where that is no wait for a
slot, and all the time of a call of which the server said nothing.
"""

# A caller that leaves bytes unread can fill the socket, and the server then waits for it:
# from here on its timings say something about the caller.
_BACKPRESSURE_BYTES = 64 * 1024
_BACKPRESSURE_SHARE = 0.1


@frozen
class CallStart:
    """What is known when a request is about to be sent."""

    endpoint: Endpoint
    request: native.RequestFacts
    server_address: str | None
    """Host, from the request's URL."""
    server_port: int | None
    started_at: int
    """Nanoseconds since the epoch, by the wall clock."""
    context: CallContext
    path: str | None = None
    """The URL's path as sent, without the query; None: not told."""
    content: bytes | None = None
    """The request's body as sent; only while an observer keeps it."""
    server_scheme: str | None = None
    """`http` or `https`, from the request's URL; None: not told."""
    is_for_network: bool = False
    """Whether a real server will surely be asked; False too where that is not known."""


@frozen
class CallRecord:
    """One call, ended. Seconds are floats, sizes bytes; None means not known."""

    start: CallStart
    outcome: Outcome
    error_type: failures.ErrorType | None
    """From a closed list, only of a failed call."""
    error_message: str | None
    http_status: int | None
    response: native.ResponseFacts
    duration: float
    """Seconds from the request to the end, by the client's clock."""
    time_to_first_chunk: float | None
    """Seconds until the first bytes of a stream."""
    time_to_first_answer: float | None
    """Seconds until the first answer text of a stream, thinking apart."""
    chunk_count: int
    """Lines of a stream that came, the final one included; no count of tokens."""
    longest_gap: float | None
    """Longest wait for one further chunk of a stream; the caller's own time is not in it."""
    held_by_caller: float | None
    """Seconds of a stream in which the caller did not ask for more."""
    response_size: int
    """Bytes of the body, as they came over the wire."""
    progress: native.Progress | None
    answer: AnswerText | None
    """What was said, only while content is captured."""
    sent_at: float = 0.0
    """The clock's reading in seconds when the request was sent; those of pieces follow it."""
    content_type: str | None = None
    """As the answer's head says; None where there was no answer."""
    content_encoding: str | None = None
    """As the answer's head says; None where there was no answer, or nothing to undo."""
    is_from_network: bool = False
    """Whether the answer came over a connection: not a mock's, a cache's or a replay's."""

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
    def queue_estimate(self) -> float | None:
        """Estimated seconds of waiting for a slot: what no phase of the server accounts for.

        None where the rest means something else: two runs in one call (a format and
        thinking), images being encoded, or a caller so slow that the server waited.
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

    @property
    def phases(self) -> dict[Phase, float]:
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
        return phases

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second of generation, by the server's own clock."""
        tokens, seconds = self.response.output_tokens, self.response.eval_duration
        return tokens / seconds if tokens and seconds else None

    @property
    def prefill_rate_estimate(self) -> float | None:
        """Prompt tokens per second of prompt processing: too high when part was cached.

        The server counts all tokens but times only those that were not in its cache.
        """
        tokens, seconds = self.response.input_tokens, self.response.prompt_eval_duration
        return tokens / seconds if tokens and seconds else None
