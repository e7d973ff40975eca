"""A call in values only: however it ends, exactly one record says how."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from ollama_otel._exchange.body import PIECES_AT_ONCE
from ollama_otel._exchange.exchange import Exchange, Url
from ollama_otel._exchange.observers import (
    CallFollower,
    CallTrace,
    Instrumentation,
    Observer,
    Tracing,
)
from ollama_otel._exchange.streams import CompletionStream
from ollama_otel._guard import guard
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.native import NativeDialect
from ollama_otel._wire.ndjson import NdjsonFraming
from ollama_otel.records import CallRecord, CallStart, Message, SpanIds, Text, ToolCall
from ollama_otel.testing import TickingClock
from tests.exchange.shell import as_shell

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
NANOSECONDS = {
    "total_duration": 2_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 10,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 30,
    "eval_duration": 750_000_000,
}


def chat(content: str = "", *, done: bool = False, **more: Any) -> bytes:
    """One line of a chat; `thinking` and `tool_calls` belong into its message."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    for key in ("thinking", "tool_calls"):
        if key in more:
            message[key] = more.pop(key)
    part = {"model": "m", "created_at": "2026-08-22T09:00:01Z", "message": message, "done": done}
    return json.dumps(part | more, separators=(",", ":")).encode() + b"\n"


def final(content: str = "", **more: Any) -> bytes:
    return chat(content, done=True, **{"done_reason": "stop", **NANOSECONDS, **more})


def tool_call(name: str) -> dict[str, Any]:
    return {"function": {"index": 0, "name": name, "arguments": {}}}


class Keeper:
    """An observer that keeps the records it is given."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def begin(self, start: CallStart) -> CallFollower:
        keeper = self

        class Kept(CallFollower):
            def end(self, record: CallRecord) -> None:
                keeper.records.append(record)

        return Kept()


class Scene:
    """One call as a shell tells it. Time goes by only where a test says so."""

    def __init__(
        self,
        body: Any = HELLO,
        *,
        method: str = "POST",
        path: str = "/api/chat",
        observers: Sequence[Observer] = (),
        tracing: Tracing | None = None,
        keeps_content: bool = False,
    ) -> None:
        self.clock = TickingClock(start=100.0, step=0.0)
        self.keeper = Keeper()
        endpoint = find_endpoint(method, path)
        assert endpoint is not None
        self.call = Exchange.begin(
            Instrumentation(
                tracing=tracing or Tracing(),
                observers=(*observers, self.keeper),
                clock=self.clock,
                wall_clock=lambda: 1_700_000_000_000_000_000,
                keeps_content=keeps_content,
            ),
            endpoint,
            Url("http", "127.0.0.1", 11434, path),
            content=None,
            size=None,
            body=body,
        )

    def head(self, status: int = 200, content_type: str = NDJSON, encoding: str = "") -> Scene:
        with self.call.sending():
            pass
        self.call.head(status, content_type=content_type, content_encoding=encoding)
        return self

    def body(self, *steps: bytes | float | BaseException) -> Iterator[bytes]:
        """Iterate as the shells do; a number is a wait, an exception breaks the body off."""
        with self.call.receiving() as inlets:
            feed, pulled = as_shell(inlets)
            pulled()
            for step in steps:
                if isinstance(step, float):
                    self.clock.advance(step)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    feed(step)
                    yield step
                    pulled()

    def drain(self, *steps: bytes | float | BaseException, hold: float = 0.0) -> CallRecord:
        """Read to the end, and hold each piece for a while."""
        for _ in self.body(*steps):
            self.clock.advance(hold)
        self.call.close()
        return self.record

    @property
    def record(self) -> CallRecord:
        (record,) = self.keeper.records
        return record


def ended(record: CallRecord) -> tuple[str, str | None, str | None]:
    return record.outcome, record.error_type, record.error_message


# --- completed --------------------------------------------------------------------------------


def test_a_stream_read_to_its_final_line_is_completed() -> None:
    record = Scene().head().drain(chat("Hel"), chat("lo"), final())
    assert ended(record) == ("completed", None, None)
    assert record.chunk_count == 3
    assert record.http_status == 200
    assert record.response.done_reason == "stop"


def test_a_final_line_without_a_newline_is_seen() -> None:
    record = Scene().head().drain(chat("Hello"), final().rstrip())
    assert record.outcome == "completed"
    assert record.chunk_count == 2
    assert record.response.output_tokens == 30


def test_a_stream_closed_after_its_final_line_is_completed() -> None:
    scene = Scene().head()
    body = scene.body(chat("Hello"), final())
    next(body)
    next(body)
    body.close()
    scene.call.close()
    assert ended(scene.record) == ("completed", None, None)


def test_a_whole_document_is_completed() -> None:
    scene = Scene({**HELLO, "stream": False}).head(content_type=JSON)
    record = scene.drain(final("Hello").rstrip())
    assert ended(record) == ("completed", None, None)
    assert record.chunk_count == 0
    assert record.time_to_first_chunk is None
    assert record.response.input_tokens == 10


def test_a_document_in_pieces_is_read_whole() -> None:
    document = final("Hello").rstrip()
    scene = Scene({**HELLO, "stream": False}).head(content_type=JSON)
    record = scene.drain(*(document[i : i + 7] for i in range(0, len(document), 7)))
    assert record.outcome == "completed"
    assert record.response.eval_duration == 0.75
    assert record.response_size == len(document)


def test_an_empty_body_answers_a_question_that_has_no_answer() -> None:
    record = (
        Scene({"model": "m"}, method="DELETE", path="/api/delete").head(content_type="").drain()
    )
    assert ended(record) == ("completed", None, None)


def test_an_absent_blob_is_an_answer_and_no_failure() -> None:
    record = Scene(None, method="HEAD", path="/api/blobs/sha256:ab").head(404).drain()
    assert ended(record) == ("completed", None, None)
    assert record.http_status == 404


def test_a_malformed_digest_is_a_failure_even_so() -> None:
    record = Scene(None, method="HEAD", path="/api/blobs/sha256:ab").head(400).drain()
    assert ended(record) == ("failed", "invalid_request", "HTTP status 400")


@pytest.mark.parametrize("status", [307, 308, 304])
def test_a_redirect_is_completed_and_known_as_one(status: int) -> None:
    record = Scene().head(status, content_type="text/html").drain(b"<a href=/>moved</a>")
    assert ended(record) == ("completed", None, None)
    assert record.is_redirect
    assert record.ending == "redirect"


def test_a_redirect_of_a_route_without_a_final_message_is_one_too() -> None:
    assert Scene(None, method="GET", path="/api/tags").head(307).drain().ending == "redirect"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/chat", 301),
        ("POST", "/api/pull", 302),
        ("POST", "/api/embed", 303),
        ("DELETE", "/api/delete", 302),
        ("DELETE", "/api/delete", 303),
    ],
)
def test_a_redirect_that_turns_the_request_into_a_get_is_a_failure(
    method: str, path: str, status: int
) -> None:
    record = Scene(method=method, path=path).head(status, content_type="text/html").drain(b"moved")
    text = f"a redirect with HTTP status {status} turns {method} into GET, without the request"
    assert ended(record) == ("failed", "protocol", text)
    assert record.ending == "error_status"
    assert not record.is_redirect


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/tags", 301),
        ("GET", "/api/tags", 302),
        ("HEAD", "/api/version", 303),
        ("DELETE", "/api/delete", 301),
    ],
)
def test_a_redirect_that_keeps_the_method_is_another_call(
    method: str, path: str, status: int
) -> None:
    assert Scene(None, method=method, path=path).head(status).drain().is_redirect


def test_an_error_in_the_body_of_a_redirect_does_not_end_the_request() -> None:
    assert Scene().head(307, content_type=JSON).drain(b'{"error":"moved"}').is_redirect


def test_a_success_is_no_redirect() -> None:
    assert not Scene().head().drain(final()).is_redirect


def test_a_stream_that_calls_itself_a_document_is_read_at_its_last_line() -> None:
    record = Scene().head(content_type=JSON).drain(chat("Hel"), chat("lo"), final())
    assert record.outcome == "completed"
    assert record.response.total_duration == 2.0


@pytest.mark.slow
def test_an_embedding_of_many_megabytes_is_completed_with_its_counts() -> None:
    vectors = b"0.123456789," * 1_000_000
    document = (
        b'{"model":"m","embeddings":[[' + vectors + b'0.5]],"total_duration":2000000000,'
        b'"load_duration":1000000000,"prompt_eval_count":7}'
    )
    scene = Scene({"model": "m", "input": "a"}, path="/api/embed").head(content_type=JSON)
    record = scene.drain(*(document[i : i + 65_536] for i in range(0, len(document), 65_536)))
    assert ended(record) == ("completed", None, None)
    assert record.response.input_tokens == 7
    assert record.response.total_duration == 2.0
    assert record.response.model == "m"


def test_a_document_too_long_to_be_read_here_is_completed_all_the_same() -> None:
    document = final("x" * 9_000_000).rstrip()
    scene = Scene({**HELLO, "stream": False}).head(content_type=JSON)
    record = scene.drain(*(document[i : i + 65_536] for i in range(0, len(document), 65_536)))
    assert ended(record) == ("completed", None, None)
    assert record.response_size == len(document)
    assert record.response.output_tokens is None


def test_a_usage_object_is_read() -> None:
    scene = Scene({"model": "m"}, path="/v1/systemone").head(content_type=JSON)
    record = scene.drain(b'{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}')
    assert ended(record) == ("completed", None, None)
    assert (record.response.input_tokens, record.response.output_tokens) == (3, 4)


def test_blanks_after_the_final_line_change_nothing() -> None:
    record = Scene().head().drain(chat("Hello"), final(), b"  ")
    assert ended(record) == ("completed", None, None)
    assert record.chunk_count == 2


# --- abandoned --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_stream_closed_early_is_abandoned(count: int) -> None:
    scene = Scene().head()
    body = scene.body(*[chat("x")] * 9, final())
    for _ in range(count):
        next(body)
    body.close()
    scene.call.close()
    assert ended(scene.record) == ("abandoned", None, None)
    assert scene.record.chunk_count == count
    assert scene.record.response.model == "m"
    assert scene.record.response.output_tokens is None


def test_a_body_that_is_closed_unread_is_abandoned() -> None:
    scene = Scene().head()
    scene.call.close()
    assert ended(scene.record) == ("abandoned", None, None)
    assert scene.record.chunk_count == 0
    assert scene.record.time_to_first_chunk is None
    assert scene.record.held_by_caller is None


def test_a_stream_closed_in_the_middle_of_a_line_is_abandoned() -> None:
    scene = Scene().head()
    body = scene.body(chat("Hel"), chat("lo")[:20], final())
    next(body)
    next(body)
    body.close()
    assert ended(scene.record) == ("abandoned", None, None)


# --- failed: told by the server ---------------------------------------------------------------


def test_an_error_status_whose_body_is_read_tells_its_text() -> None:
    record = Scene().head(404, content_type=JSON).drain(b'{"error":"model \'m\' not found"}')
    assert ended(record) == ("failed", "model_not_found", "model 'm' not found")


def test_an_error_status_whose_body_is_not_read_is_failed_all_the_same() -> None:
    scene = Scene().head(503, content_type=JSON)
    scene.call.close()
    assert ended(scene.record) == ("failed", "server_busy", "HTTP status 503")


def test_an_error_status_wins_over_a_break_in_its_body() -> None:
    scene = Scene().head(500, content_type=JSON)
    with pytest.raises(OSError, match="gone"):
        scene.drain(b'{"error":"server busy"}', OSError("gone"))
    assert ended(scene.record) == ("failed", "server_busy", "server busy")


def test_a_compressed_error_is_read() -> None:
    body = gzip.compress(b'{"error":"model \'m\' not found"}')
    record = Scene().head(404, content_type=JSON, encoding="gzip").drain(body)
    assert ended(record) == ("failed", "model_not_found", "model 'm' not found")


def test_an_error_line_in_a_stream_is_failed() -> None:
    text = "an error was encountered while running the model: CUDA error: out of memory"
    record = Scene().head().drain(chat("Once"), json.dumps({"error": text}).encode() + b"\n")
    assert ended(record) == ("failed", "out_of_memory", text)
    assert record.http_status == 200
    assert record.chunk_count == 2


def test_an_error_line_is_failed_when_the_caller_closes_at_it() -> None:
    scene = Scene().head()
    body = scene.body(b'{"error":"unexpected EOF"}\n', final())
    next(body)
    body.close()
    assert ended(scene.record) == ("failed", "server_error", "unexpected EOF")


def test_an_error_that_is_an_object_gives_its_message() -> None:
    record = Scene().head().drain(b'{"error":{"message":"server busy","code":503}}\n')
    assert ended(record) == ("failed", "server_busy", "server busy")


def test_a_clean_end_without_the_final_line_is_failed() -> None:
    record = Scene().head().drain(chat(" "), chat(" "))
    assert ended(record) == (
        "failed",
        "incomplete",
        "the answer ended without its final message",
    )
    assert record.chunk_count == 2


def test_an_empty_stream_is_incomplete() -> None:
    assert ended(Scene().head().drain())[:2] == ("failed", "incomplete")


def test_a_document_that_says_it_is_not_done_is_incomplete() -> None:
    scene = Scene({**HELLO, "stream": False}).head(content_type=JSON)
    assert ended(scene.drain(chat("   ").rstrip()))[:2] == ("failed", "incomplete")


def test_a_stream_cut_in_the_middle_of_a_line_is_failed() -> None:
    record = Scene().head().drain(chat("Hello"), final()[:40])
    assert ended(record)[:2] == ("failed", "protocol")
    assert record.chunk_count == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_page_in_place_of_an_answer_is_failed(stream: bool) -> None:
    scene = Scene({**HELLO, "stream": stream}).head(content_type="text/html")
    record = scene.drain(b"<html>Welcome to nginx!</html>")
    assert ended(record) == (
        "failed",
        "protocol",
        "the answer is not what an Ollama server sends",
    )


def test_a_page_in_place_of_an_opaque_answer_is_failed() -> None:
    record = (
        Scene(None, method="GET", path="/api/tags").head(content_type="text/html").drain(b"<html>")
    )
    assert ended(record)[:2] == ("failed", "protocol")


def test_a_pull_that_ends_with_an_error_line_is_failed() -> None:
    record = (
        Scene({"model": "m"}, path="/api/pull")
        .head()
        .drain(
            b'{"status":"pulling manifest"}\n',
            b'{"error":"pull model manifest: file does not exist"}\n',
        )
    )
    assert ended(record) == (
        "failed",
        "model_not_found",
        "pull model manifest: file does not exist",
    )


# --- failed or cancelled: exceptions ----------------------------------------------------------


class ConnectError(Exception):
    """Stands for httpx's, which is known by its name."""


class ReadTimeout(TimeoutError):  # noqa: N818 - httpx's name
    """Stands for httpx's."""


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


TrioCancelled = type("Cancelled", (BaseException,), {"__module__": "trio"})

EXCEPTIONS: list[tuple[BaseException, tuple[str, str | None, str | None]]] = [
    (
        ConnectError("All connection attempts failed"),
        ("failed", "connect", "All connection attempts failed"),
    ),
    (ReadTimeout("timed out"), ("failed", "timeout", "timed out")),
    (
        ConnectionResetError("Connection reset by peer"),
        ("failed", "network", "Connection reset by peer"),
    ),
    (ValueError(), ("failed", "_OTHER", "ValueError")),
    (asyncio.CancelledError(), ("cancelled", None, None)),
    (TrioCancelled(), ("cancelled", None, None)),
    (KeyboardInterrupt(), ("cancelled", None, None)),
    (SystemExit(1), ("cancelled", None, None)),
    (UnprintableError(), ("failed", "_OTHER", "UnprintableError")),
]
by_exception = pytest.mark.parametrize(
    ("cause", "end"), EXCEPTIONS, ids=[type(cause).__name__ for cause, _ in EXCEPTIONS]
)


@by_exception
def test_an_exception_while_sending_ends_the_call(
    cause: BaseException, end: tuple[str, str | None, str | None]
) -> None:
    scene = Scene()
    with pytest.raises(type(cause)) as caught, scene.call.sending():
        scene.clock.advance(3.0)
        raise cause
    assert caught.value is cause
    assert ended(scene.record) == end
    assert scene.record.duration == 3.0
    assert scene.record.http_status is None
    assert scene.record.response_size == 0


@by_exception
def test_an_exception_while_receiving_ends_the_call(
    cause: BaseException, end: tuple[str, str | None, str | None]
) -> None:
    scene = Scene().head()
    with pytest.raises(type(cause)) as caught:
        scene.drain(1.0, chat("Hello"), 2.0, cause)
    assert caught.value is cause
    assert ended(scene.record) == end
    assert scene.record.duration == 3.0
    assert scene.record.chunk_count == 1
    # What was waited for at the end brought nothing, but the caller did not hold it up.
    assert scene.record.held_by_caller == 0.0


def test_a_coroutine_closed_while_it_sends_is_abandoned() -> None:
    scene = Scene()
    with pytest.raises(GeneratorExit), scene.call.sending():
        raise GeneratorExit
    assert ended(scene.record) == ("abandoned", None, None)


def test_a_cancellation_wins_over_an_error_status() -> None:
    scene = Scene().head(500)
    with pytest.raises(asyncio.CancelledError):
        scene.drain(asyncio.CancelledError())
    assert scene.record.outcome == "cancelled"


def test_a_break_after_the_final_line_is_still_a_failure_the_caller_sees() -> None:
    scene = Scene().head()
    with pytest.raises(ConnectionResetError):
        scene.drain(final(), ConnectionResetError("Connection reset by peer"))
    assert ended(scene.record) == ("failed", "network", "Connection reset by peer")
    assert scene.record.response.output_tokens == 30


# --- once -------------------------------------------------------------------------------------


FINISHES: list[Callable[[Exchange], None]] = [
    Exchange.close,
    Exchange.exhausted,
    lambda call: call.interrupted(OSError("late")),
]


@pytest.mark.parametrize("first", FINISHES)
@pytest.mark.parametrize("second", FINISHES)
def test_only_the_first_end_counts(
    first: Callable[[Exchange], None], second: Callable[[Exchange], None]
) -> None:
    scene = Scene().head()
    first(scene.call)
    before = scene.record
    assert scene.call.is_finished
    second(scene.call)
    assert scene.record is before


def test_a_call_that_is_not_ended_gives_no_record() -> None:
    scene = Scene().head()
    assert not scene.call.is_finished
    assert scene.keeper.records == []


# --- observers --------------------------------------------------------------------------------


POINTS = ("trace", "headers", "enter", "exit", "begin", "pieces", "end", "end of trace")


class Faulty(Tracing):
    """A tracing and an observer in one, which raises at one point and notes those it came to."""

    def __init__(self, point: str = "") -> None:
        self.point = point
        self.called: list[str] = []

    def meet(self, point: str) -> None:
        self.called.append(point)
        if point == self.point:
            raise RuntimeError(point)

    @property
    def observer(self) -> Observer:
        return _FaultyObserver(self)

    def begin(self, start: CallStart) -> CallTrace:
        self.meet("trace")
        faulty = self

        class Traced(CallTrace):
            ids = SpanIds(trace=1, span=2, is_sampled=True)

            def headers(self) -> Mapping[str, str]:
                faulty.meet("headers")
                return {"traceparent": "00-1"}

            def enter(self) -> None:
                faulty.meet("enter")

            def exit(self) -> None:
                faulty.meet("exit")

            def end(self, record: CallRecord) -> None:
                faulty.meet("end of trace")

        return Traced()


class _FaultyObserver:
    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty

    def begin(self, start: CallStart) -> CallFollower:
        faulty = self.faulty
        faulty.meet("begin")

        class Observed(CallFollower):
            def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
                faulty.meet("pieces")

            def end(self, record: CallRecord) -> None:
                faulty.meet("end")

        return Observed()


def test_tracing_and_observers_are_called_in_this_order() -> None:
    faulty = Faulty()
    scene = Scene(tracing=faulty, observers=[faulty.observer])
    assert scene.call.headers() == {"traceparent": "00-1"}
    scene.head().drain(chat("Hello"), final())
    assert faulty.called == [
        "trace",
        "begin",
        "headers",
        *("enter", "exit"),
        "pieces",
        *("enter", "end", "exit"),
        "end of trace",
    ]


def test_pieces_that_come_after_the_end_are_not_handed_on() -> None:
    faulty = Faulty()
    scene = Scene(observers=[faulty.observer]).head()
    with scene.call.receiving() as inlets:
        feed, pulled = as_shell(inlets)
        pulled()
        feed(chat("Hello"))
        scene.call.close()
        for _ in range(200):
            pulled()
            feed(chat("late"))
    assert faulty.called == ["begin", "pieces", "end"]


def test_observers_find_the_ids_of_the_span_in_the_start() -> None:
    starts: list[CallStart] = []

    class Curious:
        def begin(self, start: CallStart) -> None:
            starts.append(start)

    record = Scene(tracing=Faulty(), observers=[Curious()]).head().drain(final())
    assert [start.span for start in starts] == [SpanIds(trace=1, span=2, is_sampled=True)]
    assert record.start.trace_id == "0" * 31 + "1"
    assert record.start.span_id == "0" * 15 + "2"


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("point", POINTS)
def test_a_fault_in_one_costs_the_others_nothing(point: str) -> None:
    faulty, healthy = Faulty(point), Faulty()
    scene = Scene(tracing=faulty, observers=[faulty.observer, healthy.observer])
    is_lost = point in {"trace", "headers"}
    assert scene.call.headers() == ({} if is_lost else {"traceparent": "00-1"})
    record = scene.head().drain(chat("Hello"), final())
    assert ended(record) == ("completed", None, None)
    assert record.response.output_tokens == 30
    assert healthy.called.count("end") == 1
    assert sum(guard.faults.values()) == faulty.called.count(point)
    assert all(kind.endswith(": RuntimeError") for kind in guard.faults)


@pytest.mark.parametrize("point", POINTS)
def test_a_fault_is_loud_in_tests(point: str) -> None:
    with pytest.raises(RuntimeError, match=point):
        faulty = Faulty(point)
        scene = Scene(tracing=faulty, observers=[faulty.observer])
        scene.call.headers()
        scene.head().drain(chat("Hello"), final())


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("stream", [True, False])
def test_a_fault_of_our_own_while_reading_costs_the_caller_nothing(stream: bool) -> None:
    odd: Any = "no bytes"
    scene = Scene({**HELLO, "stream": stream}).head()
    assert list(scene.body(chat("Hello"), odd, final())) == [chat("Hello"), odd, final()]
    assert (scene.record.outcome, scene.record.ending) == ("completed", "whole_body")
    assert guard.faults == {"reading a response: TypeError": 1}


def test_an_observer_may_leave_a_call_alone() -> None:
    class Indifferent:
        def begin(self, start: CallStart) -> None:
            return None

    record = Scene(observers=[Indifferent()]).head().drain(final())
    assert record.outcome == "completed"


def test_nothing_is_kept_of_a_call_that_has_ended() -> None:
    scene = Scene().head()
    scene.drain(final())
    assert scene.call._reader is None
    assert not scene.call._followers
    assert not scene.call._listeners
    assert not scene.call._enrichments


# --- times ------------------------------------------------------------------------------------


def test_each_time_is_measured_from_the_request() -> None:
    scene = Scene()
    scene.clock.advance(1.0)
    scene.head()
    record = scene.drain(
        *(2.0, chat(thinking="Hm")),
        *(4.0, chat(thinking=".")),
        *(8.0, chat("Hello")),
        *(16.0, final()),
    )
    assert record.time_to_first_chunk == 3.0
    assert record.time_to_first_answer == 15.0
    assert record.longest_gap == 16.0
    assert record.held_by_caller == 0.0
    assert record.duration == 31.0


def test_the_first_wait_is_no_gap() -> None:
    record = Scene().head().drain(60.0, chat("Hello"), 0.5, final())
    assert record.longest_gap == 0.5


def test_one_chunk_makes_no_gap() -> None:
    assert Scene().head().drain(1.0, final("Hello")).longest_gap is None


def test_the_longest_gap_is_found_wherever_it_stands() -> None:
    for position in range(1, 30):
        steps: list[bytes | float] = []
        for index in range(30):
            steps += [5.0 if index == position else 0.1, chat("x")]
        assert Scene().head().drain(*steps, 0.1, final()).longest_gap == pytest.approx(5.0)


def test_the_callers_own_time_is_held_and_no_gap() -> None:
    scene = Scene().head()
    record = scene.drain(1.0, chat("a"), 0.5, chat("b"), 0.25, final(), hold=10.0)
    assert record.longest_gap == 0.5
    assert record.held_by_caller == 30.0
    assert record.duration == 31.75


def test_the_time_before_an_early_close_was_the_callers() -> None:
    scene = Scene().head()
    body = scene.body(1.0, chat("a"), 0.5, chat("b"), final())
    next(body)
    scene.clock.advance(2.0)
    next(body)
    scene.clock.advance(4.0)
    body.close()
    assert scene.record.held_by_caller == 6.0
    assert scene.record.longest_gap == 0.5


def test_the_time_before_the_body_is_asked_for_is_not_waited() -> None:
    scene = Scene().head()
    scene.clock.advance(7.0)
    record = scene.drain(1.0, chat("a"), final())
    assert record.held_by_caller == 7.0
    assert record.time_to_first_chunk == 8.0


def test_text_in_the_first_chunk_is_the_first_answer() -> None:
    record = Scene().head().drain(1.0, chat("Hello"), 1.0, final())
    assert record.time_to_first_answer == record.time_to_first_chunk == 1.0


def test_a_tool_call_is_an_answer() -> None:
    record = Scene().head().drain(1.0, chat(), 1.0, chat(tool_calls=[tool_call("f")]), 1.0, final())
    assert record.time_to_first_answer == 2.0


def test_an_answer_that_never_comes_has_no_time() -> None:
    record = Scene().head().drain(1.0, chat(thinking="Hm"), 1.0, final())
    assert record.time_to_first_answer is None


def test_an_answer_after_long_thinking_is_timed_at_its_chunk() -> None:
    thinking: list[bytes | float] = []
    for _ in range(500):
        thinking += [0.01, chat(thinking="hm")]
    record = Scene().head().drain(*thinking, 0.01, chat("Hello"), 0.01, final())
    assert record.time_to_first_answer == pytest.approx(5.01)


@pytest.mark.parametrize("size", [1, 7, 64, 150, 1000, 10_000])
def test_an_answer_after_thinking_is_timed_however_the_stream_is_cut(size: int) -> None:
    before = chat(thinking="hm") * 200
    stream = before + chat("Hello") + chat(" you") * 70 + final()
    steps: list[bytes | float] = []
    for start in range(0, len(stream), size):
        steps += [1.0, stream[start : start + size]]
    record = Scene().head().drain(*steps)
    pieces_until_answer = -(-len(before + chat("Hello")) // size)
    assert record.time_to_first_answer == pieces_until_answer
    assert (record.chunk_count, record.response.has_thinking) == (272, True)


class _CountingFraming(NdjsonFraming):
    """Counts how often messages are looked at."""

    looks = 0

    def count(self, data: bytes) -> int:
        self.looks += 1
        return super().count(data)


@pytest.mark.slow
def test_long_thinking_is_looked_at_in_batches() -> None:
    class Counted(NativeDialect):
        framing = _CountingFraming()

    reader = CompletionStream(Counted(), lambda: 0.0, watches_tools=False)
    feed, pulled = as_shell(reader.inlets())
    for _ in range(10_000):
        pulled()
        feed(chat(thinking="hm"))
    assert reader.facts().has_thinking
    assert Counted.framing.looks < 10_000 / PIECES_AT_ONCE + 2 * PIECES_AT_ONCE


def test_the_first_answer_is_found_in_generations_too() -> None:
    def part(**fields: Any) -> bytes:
        return (
            json.dumps({"model": "m", "done": False} | fields, separators=(",", ":")).encode()
            + b"\n"
        )

    record = (
        Scene({"model": "m", "prompt": "Hello"}, path="/api/generate")
        .head()
        .drain(
            *(1.0, part(response="", thinking="Hm")),
            *(1.0, part(response="", thinking=".")),
            *(1.0, part(response="Hi")),
            *(1.0, part(response="", done=True, done_reason="stop")),
        )
    )
    assert record.time_to_first_chunk == 1.0
    assert record.time_to_first_answer == 3.0
    assert record.response.has_thinking


def test_empty_pieces_are_no_chunks() -> None:
    record = (
        Scene()
        .head()
        .drain(*(1.0, b""), *(1.0, chat("a")), *(1.0, b""), *(1.0, chat("b")), b"", final(), b"")
    )
    assert record.outcome == "completed"
    assert record.chunk_count == 3
    assert record.time_to_first_chunk == 2.0
    assert record.response_size == len(chat("a") + chat("b") + final())


def test_blank_lines_change_nothing() -> None:
    record = Scene().head().drain(chat("a"), b"\n", chat("b"), b"\n", final(), b"\n", b" \n")
    assert ended(record) == ("completed", None, None)
    assert record.response.output_tokens == 30


def test_carriage_returns_change_nothing() -> None:
    record = Scene().head().drain(chat("a")[:-1] + b"\r\n", final()[:-1] + b"\r\n")
    assert record.outcome == "completed"
    assert record.chunk_count == 2


def test_a_sized_body_has_its_size() -> None:
    record = Scene().head().drain(chat("a"), final())
    assert record.response_size == len(chat("a")) + len(final())


# --- encodings --------------------------------------------------------------------------------


BODY = chat("Hel", tool_calls=[tool_call("f")]) + chat("lo") + final()


def deflated(body: bytes) -> bytes:
    return zlib.compress(body)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", deflated),
    ],
)
@pytest.mark.parametrize("step", [1, 13, 10_000])
def test_a_compressed_stream_is_read(
    encoding: str, compress: Callable[[bytes], bytes], step: int
) -> None:
    body = compress(BODY)
    record = (
        Scene()
        .head(encoding=encoding)
        .drain(*(body[i : i + step] for i in range(0, len(body), step)))
    )
    assert ended(record) == ("completed", None, None)
    assert record.chunk_count == 3
    assert record.response.output_tokens == 30
    assert record.response_size == len(body)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_a_stream_in_an_encoding_only_the_caller_can_undo_is_completed(encoding: str) -> None:
    record = Scene().head(encoding=encoding).drain(b"\x8b\x02\x80", b"\x03")
    assert ended(record) == ("completed", None, None)
    assert record.response_size == 4
    assert record.response.output_tokens is None


def test_an_error_in_an_unknown_encoding_is_failed_by_its_status() -> None:
    record = Scene().head(404, encoding="br").drain(b"\x8b\x02\x80")
    assert ended(record) == ("failed", "not_found", "HTTP status 404")


def test_an_unreadable_stream_closed_early_is_abandoned() -> None:
    scene = Scene().head(encoding="br")
    body = scene.body(b"\x8b", b"\x02")
    next(body)
    body.close()
    assert scene.record.outcome == "abandoned"


@pytest.mark.parametrize("stream", [True, False])
def test_broken_compression_is_the_callers_to_find_out(stream: bool) -> None:
    scene = Scene({**HELLO, "stream": stream}).head(encoding="gzip")
    record = scene.drain(b"this is not gzip", b"at all")
    assert record.outcome == "completed"
    assert record.response_size == 22


# --- what the numbers say ---------------------------------------------------------------------


def test_tool_calls_are_collected_from_all_lines() -> None:
    record = (
        Scene({**HELLO, "tools": [{"function": {"name": name}} for name in "fghi"]})
        .head()
        .drain(
            chat(tool_calls=[tool_call("f")]),
            chat("and "),
            chat(tool_calls=[tool_call("g"), tool_call("h")]),
            final(tool_calls=[tool_call("i")]),
        )
    )
    assert record.response.tool_calls == ("f", "g", "h", "i")
    assert record.finish_reason == "tool_call"
    assert record.response.done_reason == "stop"


def test_tool_calls_after_the_answer_has_begun_are_collected() -> None:
    record = (
        Scene({**HELLO, "tools": [{"function": {"name": "f"}}]})
        .head()
        .drain(*[chat("word ")] * 50, chat(tool_calls=[tool_call("f")]), *[chat()] * 3, final())
    )
    assert record.response.tool_calls == ("f",)


def test_a_call_cut_off_among_tool_calls_names_each_once() -> None:
    scene = Scene({**HELLO, "tools": [{"function": {"name": name}} for name in "fg"]}).head()
    body = scene.body(chat(tool_calls=[tool_call("f")]), chat(tool_calls=[tool_call("g")]), final())
    next(body)
    next(body)
    body.close()
    assert scene.record.response.tool_calls == ("f", "g")
    assert scene.record.finish_reason is None


@pytest.mark.parametrize(
    ("done_reason", "calls", "finish_reason"),
    [
        ("stop", [], "stop"),
        ("length", [], "length"),
        ("stop", [tool_call("f")], "tool_call"),
        ("length", [tool_call("f")], "length"),
        ("", [], None),
    ],
)
def test_the_finish_reason_tells_tool_calls_from_a_stop(
    done_reason: str, calls: list[Any], finish_reason: str | None
) -> None:
    record = Scene().head().drain(final(done_reason=done_reason, tool_calls=calls))
    assert record.finish_reason == finish_reason


def test_the_rates_are_by_the_servers_clock() -> None:
    record = Scene().head().drain(9.0, final())
    assert record.decode_rate == 40.0
    assert record.prefill_rate_estimate == 40.0
    assert record.queue_estimate == 0.5


@pytest.mark.parametrize("absent", ["eval_count", "eval_duration"])
def test_a_rate_of_what_is_not_known_is_not_known(absent: str) -> None:
    record = Scene().head().drain(final(**{absent: None}))
    assert record.decode_rate is None
    assert record.prefill_rate_estimate == 40.0


def test_a_rate_over_no_time_is_not_known() -> None:
    record = Scene().head().drain(final(eval_duration=0, prompt_eval_count=0))
    assert record.decode_rate is None
    assert record.prefill_rate_estimate is None


@pytest.mark.parametrize(
    "absent", ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"]
)
def test_the_queue_is_not_known_where_a_phase_is_missing(absent: str) -> None:
    assert Scene().head().drain(final(**{absent: None})).queue_estimate is None


def test_the_queue_is_never_shorter_than_nothing() -> None:
    assert Scene().head().drain(final(total_duration=1_000_000_000)).queue_estimate == 0.0


SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("request_", "line", "is_known"),
    [
        ({"format": "json"}, final(), True),
        ({"format": SCHEMA, "think": False}, final(), True),
        ({"think": True}, final(thinking="Hm"), True),
        ({"format": ""}, final(thinking="Hm"), True),
        ({"format": "json", "think": True}, final(), False),
        ({"format": SCHEMA, "think": "low"}, final(), False),
        ({"format": SCHEMA}, final(thinking="Hm"), False),
        ({"messages": [{"role": "user", "content": "", "images": ["aGk="]}]}, final(), False),
    ],
)
def test_the_queue_is_not_guessed_where_the_rest_means_something_else(
    request_: dict[str, Any], line: bytes, is_known: bool
) -> None:
    record = Scene({**HELLO, **request_}).head().drain(line)
    assert record.queue_estimate == (0.5 if is_known else None)


@pytest.mark.parametrize(
    ("pieces", "hold", "is_known"),
    [(8, 0.0, True), (8, 0.1, False), (8, 0.001, True), (2, 0.1, True)],
    ids=["fast", "slow", "slow, but not by much", "slow with little"],
)
def test_the_queue_is_not_guessed_where_the_server_waited_for_the_caller(
    pieces: int, hold: float, is_known: bool
) -> None:
    big = chat("x" * 10_000)
    record = Scene().head().drain(*[big] * pieces, final(), hold=hold)
    assert record.queue_estimate == (0.5 if is_known else None)


# --- content ----------------------------------------------------------------------------------


def test_nothing_said_is_kept_without_leave() -> None:
    record = Scene().head().drain(chat("Hello"), final())
    assert record.answer is None
    assert record.start.conversation is None


def test_what_was_said_is_put_together() -> None:
    record = (
        Scene(keeps_content=True)
        .head()
        .drain(
            chat(thinking="Hm"),
            chat(thinking="."),
            chat("Hel"),
            chat("lo", tool_calls=[tool_call("f")]),
            final("!"),
        )
    )
    assert record.answer is not None
    assert record.answer.role == "assistant"
    assert record.answer.thinking == "Hm."
    assert record.answer.text == "Hello!"
    assert record.answer.tool_calls == (ToolCall(name="f", arguments={}),)
    assert not record.answer.is_cut
    assert record.start.conversation is not None
    assert record.start.conversation.messages == (Message(role="user", parts=(Text("Hello"),)),)


def test_what_was_said_before_a_break_is_kept() -> None:
    scene = Scene(keeps_content=True).head()
    with pytest.raises(OSError, match="gone"):
        scene.drain(chat("Hel"), chat("lo"), OSError("gone"))
    assert scene.record.answer is not None
    assert scene.record.answer.text == "Hello"


def test_of_a_very_long_answer_the_beginning_is_kept() -> None:
    record = Scene(keeps_content=True).head().drain(*[chat("x" * 100_000)] * 20, final("end"))
    assert record.answer is not None
    assert record.answer.is_cut
    assert 1_000_000 <= len(record.answer.text) < 1_200_000
    assert record.response.output_tokens == 30


def test_a_document_that_was_said_is_kept() -> None:
    scene = Scene({**HELLO, "stream": False}, keeps_content=True).head(content_type=JSON)
    record = scene.drain(final("Hello", thinking="Hm"))
    assert record.answer is not None
    assert (record.answer.text, record.answer.thinking) == ("Hello", "Hm")
