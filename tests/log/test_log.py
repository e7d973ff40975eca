"""The log as its user meets it: calls go in, files come out, and read they are the same calls."""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_otel import Client, call_context, instrument_client
from ollama_otel.replay import RecordedCall, ReplayLog, read
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeModel, FakeOllama, Fault
from tests.examples import examples
from tests.scripts import run_script

HELLO = [{"role": "user", "content": "Hello"}]
RECORDED = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "data" / "ollama-0.33.0").glob("*.json"))
    if path.stem not in {"error-no-such-path", "error-wrong-method"}  # no calls of Ollama's
}


class Scripted(httpx.BaseTransport):
    """Answers with given pieces of a body, which may end in an error."""

    def __init__(
        self,
        pieces: list[bytes],
        *,
        status: int = 200,
        error: Exception | None = None,
        **headers: str,
    ) -> None:
        self.pieces = pieces
        self.status = status
        self.error = error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self.status, headers=self.headers, stream=_Body(self))


class _Body(httpx.SyncByteStream):
    def __init__(self, script: Scripted) -> None:
        self.script = script

    def __iter__(self) -> Iterator[bytes]:
        yield from self.script.pieces
        if self.script.error is not None:
            raise self.script.error


def logged(
    path: Path, transport: httpx.BaseTransport, *, read_pieces: int | None = None, **options: Any
) -> tuple[RecordedCall, list[bytes]]:
    """Make one streamed chat through a log; return it as read, and what the caller got."""
    got: list[bytes] = []
    with ReplayLog(path, **{"bodies": True, "media": True, **options}) as log:
        client = instrument_client(httpx.Client(transport=transport), observers=[log])
        try:
            with client.stream(
                "POST", "http://host:11434/api/chat", json={"model": "m", "messages": HELLO}
            ) as response:
                for number, piece in enumerate(response.iter_raw(), 1):
                    got.append(piece)
                    if number == read_pieces:
                        break
        except httpx.HTTPError:
            pass
    [call] = read(path)
    return call, got


# --- what comes out is what went in ---------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_body_comes_back_to_the_byte(name: str, tmp_path: Path) -> None:
    exchange = RECORDED[name]
    request, path = exchange["request"], tmp_path / "calls.jsonl"
    pieces = [
        chunk["body"].encode() if isinstance(chunk, dict) else chunk.encode()
        for chunk in exchange["chunks"]
    ]
    transport = Scripted(pieces, status=exchange["status"])
    transport.headers = exchange["headers"]
    capture = Capture()
    with ReplayLog(path, bodies=True, media=True) as log:
        options = capture.options
        options["observers"] = [*options.get("observers", ()), log]
        client = instrument_client(httpx.Client(transport=transport), **options)
        body = request["body"]
        client.request(
            request["method"],
            f"http://127.0.0.1:11434{request['path']}",
            content=body if isinstance(body, str) or body is None else json.dumps(body),
        )
    [call], [record] = list(read(path)), capture.records
    assert call.record is not None
    stored = b"".join(pieces)
    if b'"context":[' in stored:
        assert call.answer_changes == {"token_ids"}
        assert call.body == re.sub(rb'"context":\[[0-9,]+\]', b'"context":[]', stored)
    else:
        assert call.body == stored
        assert [chunk.data for chunk in call.chunks or ()] == [piece for piece in pieces if piece]
    assert call.start.endpoint == record.start.endpoint
    assert call.path == request["path"]
    for fact in (
        "outcome",
        "error_type",
        "http_status",
        "chunk_count",
        "response_size",
        "progress",
    ):
        assert getattr(call.record, fact) == getattr(record, fact), fact
    assert call.record.response == record.response
    assert call.record.start.request.model == record.start.request.model
    if isinstance(body, dict):
        assert call.request_body == body
    # What is no JSON is no request that could be shown: the weights of a model, mostly.
    assert call.request_changes == ({"binary"} if isinstance(body, str) else set())
    assert call.answer_changes <= {"token_ids"}


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.binary(max_size=40), max_size=12),
    status=st.sampled_from([200, 200, 404, 500]),
    read_pieces=st.one_of(st.none(), st.integers(1, 5)),
    error=st.sampled_from([None, httpx.ReadError("reset"), httpx.RemoteProtocolError("cut")]),
)
def test_any_bytes_in_any_pieces_come_back(
    pieces: list[bytes],
    status: int,
    read_pieces: int | None,
    error: Exception | None,
    tmp_path_factory: pytest.TempPathFactory,
    quiet_guard: None,
) -> None:
    path = tmp_path_factory.mktemp("log") / "calls.jsonl"
    call, got = logged(path, Scripted(pieces, status=status, error=error), read_pieces=read_pieces)
    if not call.changes:
        assert [chunk.data for chunk in call.chunks or ()] == [piece for piece in got if piece]


@pytest.mark.slow
def test_chunks_keep_their_times(tmp_path: Path) -> None:
    fake = FakeOllama([FakeModel("m", reply="one two three four five", load=0, prompt=0)])
    with ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
        client = Client(transport=fake.transport(), observers=[log])
        arrivals = []
        began = time.perf_counter()
        for _ in client.chat("m", messages=HELLO, stream=True):
            arrivals.append(time.perf_counter() - began)
            time.sleep(0.01)
    [call] = read(tmp_path / "calls.jsonl")
    offsets = [chunk.offset for chunk in call.chunks or ()]
    assert len(offsets) == len(arrivals)
    assert offsets == sorted(offsets)
    assert all(offset <= arrival for offset, arrival in zip(offsets, arrivals, strict=True))
    assert call.record is not None and call.record.time_to_first_chunk == pytest.approx(
        offsets[0], abs=2e-6
    )
    assert offsets[-1] <= call.record.duration


@pytest.mark.sockets
def test_a_call_that_failed_before_any_answer_is_there(tmp_path: Path) -> None:
    with ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
        client = Client("http://127.0.0.1:1", observers=[log])
        with pytest.raises(ConnectionError):
            client.chat("m", messages=HELLO)
    [call] = read(tmp_path / "calls.jsonl")
    assert call.record is not None
    assert (call.record.outcome, call.record.error_type, call.record.http_status) == (
        "failed",
        "connect",
        None,
    )
    assert call.chunks == ()


def test_an_encoded_body_is_logged_as_the_caller_reads_it(tmp_path: Path) -> None:
    fake = FakeOllama([FakeModel("m", reply="one two three")])
    fake.fault("/api/chat", Fault(gzip=True))
    with ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
        client = Client(transport=fake.transport(), observers=[log])
        said = "".join(
            part.message.content for part in client.chat("m", messages=HELLO, stream=True)
        )
    [call] = read(tmp_path / "calls.jsonl")
    assert call.record is not None
    assert call.record.content_encoding == "gzip"
    assert "decoded" in call.changes
    answer = call.answer()
    assert answer is not None and answer.text == said


def test_a_body_that_cannot_be_decoded_is_not_stored_unread(tmp_path: Path) -> None:
    call, _ = logged(tmp_path / "calls.jsonl", Scripted([b"\x01\x02"], content_encoding="br"))
    assert (call.chunks, call.missing) == (None, "encoding")


def test_a_body_that_is_not_what_its_encoding_says_is_not_stored(tmp_path: Path) -> None:
    call, _ = logged(tmp_path / "calls.jsonl", Scripted([b"secret"], content_encoding="gzip"))
    assert (call.chunks, call.missing) == (None, "encoding")


def test_context_and_trace_lead_to_the_span(tmp_path: Path, capture: Capture) -> None:
    with ReplayLog(tmp_path / "calls.jsonl") as log:
        options = capture.options
        options["observers"] = [*options.get("observers", ()), log]
        client = Client(transport=FakeOllama().transport(), **options)
        with call_context(conversation_id="c-1", user_id="ada", tags={"feature": "search"}):
            client.chat("llama3.2", messages=HELLO)
    [call] = read(tmp_path / "calls.jsonl")
    [span] = capture.spans
    assert call.trace_id == f"{span.context.trace_id:032x}"
    assert call.span_id == f"{span.context.span_id:016x}"
    assert call.is_sampled
    assert call.start.context.conversation_id == "c-1"
    assert call.start.context.user_id == "ada"
    assert call.start.context.tags == {"feature": "search"}


# --- private by default ---------------------------------------------------------------------


def test_without_bodies_nothing_said_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    fake = FakeOllama([FakeModel("m", reply="classified answer")])
    with ReplayLog(path) as log:
        client = Client(transport=fake.transport(), observers=[log])
        client.chat("m", messages=[{"role": "user", "content": "classified question"}])
        list(client.generate("m", prompt="classified question", stream=True))
    assert b"classified" not in path.read_bytes()
    calls = list(read(path))
    assert [call.record.outcome for call in calls if call.record] == ["completed", "completed"]
    assert all(call.chunks is None and call.request_body is None for call in calls)


def test_options_are_facts_only_as_far_as_they_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    options: dict[str, Any] = {"stop": ["classified"], "seed": 7, "temperature": 0.5, "numa": True}
    with ReplayLog(path) as log:
        client = Client(transport=FakeOllama().transport(), observers=[log])
        with suppress(ollama.ResponseError):
            client.chat("llama3.2", messages=HELLO, options=options)
    assert b"classified" not in path.read_bytes()
    [call] = read(path)
    assert call.start.request.options == {"seed": 7, "temperature": 0.5, "numa": True}


def test_secrets_in_facts_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    tool = {"type": "function", "function": {"name": "mail_ada@example.org", "parameters": {}}}
    with ReplayLog(path, bodies=True) as log, call_context(tags={"password": "hunter2"}):
        client = Client(transport=FakeOllama().transport(), observers=[log])
        with suppress(ollama.ResponseError):
            client.chat("llama3.2", HELLO, tools=[tool], options={"stop": ["a@example.org"]})
    stored = path.read_text()
    assert "example.org" not in stored
    assert "hunter2" not in stored


def test_with_bodies_secrets_and_media_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    image = os.urandom(3000)
    fake = FakeOllama(
        [
            FakeModel(
                "m",
                reply="write to ada@example.org or pay with 4111 1111 1111 1111",
                capabilities=("completion", "vision"),
            )
        ]
    )
    with ReplayLog(
        path, bodies=True, redactors=[lambda text: text.replace("Zanzibar", "[place]")]
    ) as log:
        client = Client(transport=fake.transport(), observers=[log])
        question = {
            "role": "user",
            "content": "Bearer abcdef0123456789abcdef Zanzibar",
            "images": [image],
        }
        parts = list(client.chat("m", messages=[question], stream=True))
    stored = path.read_text()
    for secret in ("ada@example.org", "4111", "abcdef0123456789abcdef", "Zanzibar"):
        assert secret not in stored
    [call] = read(path)
    assert call.changes == {"redacted", "images"}
    assert len(call.chunks or ()) == len(parts)
    assert call.request_body is not None
    [omitted] = call.request_body["messages"][0]["images"]
    assert omitted == {
        "ollama_otel": "omitted",
        "sha256": hashlib.sha256(image).hexdigest(),
        "size": 3000,
    }


def test_token_ids_that_repeat_a_prompt_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with ReplayLog(path, bodies=True) as log:
        client = Client(
            transport=FakeOllama([FakeModel("m", reply="Thanks.")]).transport(), observers=[log]
        )
        client.generate("m", prompt="I am ada@example.org")
        client.generate("m", prompt="I am Ada")
        client.generate("m", prompt="And again?", context=[9001, 9002])
    calls = list(read(path))
    assert [json.loads(call.body or b"")["context"] for call in calls] == [[], [], []]
    assert [call.answer_changes for call in calls] == [{"token_ids"}] * 3
    assert [call.request_changes for call in calls] == [{"redacted"}, set(), {"token_ids"}]
    assert b"9001" not in path.read_bytes()


def test_what_repeats_a_request_that_is_not_known_stays_out(tmp_path: Path) -> None:
    """A request that was dropped may have held a secret; the response's tokens may repeat it."""
    path = tmp_path / "calls.jsonl"
    tokens = [{"token": "hun", "logprob": -0.1}, {"token": "ter2", "logprob": -0.1}]
    answer = {
        "model": "m",
        "message": {"role": "assistant", "content": "ok"},
        "done": True,
        "logprobs": tokens,
    }
    for limits, kept in (({"max_bytes": 300}, []), ({}, tokens)):
        path.unlink(missing_ok=True)
        transport = Scripted([json.dumps(answer).encode()])
        with ReplayLog(path, bodies=True, **limits) as log:
            Client(transport=transport, observers=[log]).chat(
                "m", messages=[{"role": "user", "content": "x" * 300}]
            )
        [call] = read(path)
        assert json.loads(call.body or b"")["logprobs"] == kept


def test_errors_and_tags_are_redacted_even_without_bodies(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    transport = Scripted(
        [b'{"error":"no key sk-abcdefghijklmnopqrstuvwxyz0123456789"}'], status=401
    )
    with ReplayLog(path) as log, call_context(tags={"mail": "ada@example.org"}):
        client = Client(transport=transport, observers=[log])
        with pytest.raises(ollama.ResponseError):
            client.chat("m", messages=HELLO)
    stored = path.read_text()
    assert "sk-abc" not in stored
    assert "ada@example.org" not in stored
    assert "redacted" in stored


def test_a_fact_of_the_server_that_may_be_any_text_is_not_logged(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    body = b'{"model":"m","message":{"role":"assistant"},"done":true,"done_reason":"joe@example.com"}\n'
    with ReplayLog(path) as log:
        client = Client(
            transport=Scripted([body], content_type="application/json"), observers=[log]
        )
        client.chat("m", messages=HELLO)
    assert "joe@example.com" not in path.read_text()
    [call] = read(path)
    assert call.record is not None
    assert call.record.finish_reason == "_OTHER"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "calls.jsonl"
    with ReplayLog(path, max_size=1) as log:
        client = Client(transport=FakeOllama().transport(), observers=[log])
        for _ in range(3):
            client.list()
            log.flush()
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


# --- off the call's path --------------------------------------------------------------------


@pytest.mark.slow
def test_a_disk_that_sleeps_does_not_hold_up_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write takes a quarter of a second; fifty calls take a fraction of one."""
    write, slept = os.write, threading.Event()

    def slow(descriptor: int, data: Any) -> int:
        if threading.current_thread().name == "ollama_otel log":
            slept.set()
            time.sleep(0.25)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", slow)
    log = ReplayLog(tmp_path / "calls.jsonl", bodies=True)
    client = Client(transport=FakeOllama().transport(), observers=[log])
    client.chat("llama3.2", messages=HELLO)
    assert slept.wait(5)
    longest = 0.0
    for _ in range(50):
        began = time.perf_counter()
        client.chat("llama3.2", messages=HELLO)
        longest = max(longest, time.perf_counter() - began)
    assert longest < 0.2
    assert log.close()
    assert len(list(read(tmp_path / "calls.jsonl"))) == 51


@pytest.mark.slow
def test_when_too_much_waits_bodies_go_first_and_all_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, may_write = os.write, threading.Event()

    def stuck(descriptor: int, data: Any) -> int:
        if threading.current_thread().name == "ollama_otel log":
            may_write.wait(20)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", stuck)
    path = tmp_path / "calls.jsonl"
    log = ReplayLog(path, bodies=True, max_lines=40)
    client = Client(transport=FakeOllama().transport(), observers=[log])
    client.list()
    time.sleep(0.1)
    for _ in range(60):
        client.chat("llama3.2", messages=HELLO)
    may_write.set()
    client.list()
    assert log.flush()
    client.list()
    assert log.close()
    statistics = log.statistics
    calls = list(read(path, report=lambda skipped: None))
    without_body = [call for call in calls if call.missing == "queue_full"]
    assert statistics.dropped_bodies > 0
    assert statistics.dropped_lines > 0
    assert without_body
    assert statistics.written + statistics.dropped_lines >= 2 * 63
    dropped = [json.loads(line) for line in path.read_text().splitlines() if '"dropped"' in line]
    assert sum(line["lines"] for line in dropped) == statistics.dropped_lines
    assert sum(line["bodies"] for line in dropped) == statistics.dropped_bodies


def test_a_body_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    call, got = logged(tmp_path / "calls.jsonl", Scripted([b"x" * 600] * 3), max_body=1000)
    assert len(got) == 3
    assert (call.chunks, call.missing) == (None, "too_long")
    assert call.record is not None and call.record.response_size == 1800


def post(path: Path, transport: httpx.BaseTransport, content: Any, **options: Any) -> RecordedCall:
    """Send a request as given, and return it as logged."""
    with ReplayLog(path, **{"bodies": True, **options}) as log:
        client = instrument_client(httpx.Client(transport=transport), observers=[log])
        client.post("http://host:11434/api/chat", content=content)
    [call] = read(path)
    return call


CONTEXT = b'{"message":{"content":"ok"},"done":true,"context":[9001,9002]}\n'


@pytest.mark.parametrize("bodies", [False, True])
def test_a_count_that_looks_like_a_card_number_does_not_spoil_the_log(
    tmp_path: Path, *, bodies: bool
) -> None:
    card = 4_111_111_111_111_111
    content = json.dumps({"model": "m", "dimensions": card, "options": {"seed": card}})
    answer = (
        b'{"message":{"content":"x"},"done":true,"prompt_eval_count":%d,"eval_count":7}\n' % card
    )
    path = tmp_path / "calls.jsonl"
    call = post(path, Scripted([answer]), content, bodies=bodies)
    assert str(card) not in path.read_text()
    assert call.start.request.dimensions is None
    assert call.record is not None
    assert (call.record.response.input_tokens, call.record.response.output_tokens) == (None, 7)


def test_a_request_of_very_many_values_is_left_out(tmp_path: Path) -> None:
    content = b'{"model":"m","messages":[' + b"[]," * 400_000 + b"{}]}"
    call = post(tmp_path / "calls.jsonl", Scripted([CONTEXT]), content)
    assert (call.request_body, call.missing) == (None, "too_long")
    request = call.start.request
    assert (request.model, request.size, request.input_count) == ("m", len(content), None)
    # The request may have held what the answer repeats as token ids or log probabilities.
    assert call.body == CONTEXT.replace(b"[9001,9002]", b"[]")


def test_a_request_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    content = json.dumps({"model": "m", "messages": [{"content": "x" * 2000}]})
    call = post(tmp_path / "calls.jsonl", Scripted([CONTEXT]), content, max_body=1000)
    assert (call.request_body, call.missing) == (None, "too_long")
    # The record still says what was asked.
    assert (call.start.request.model, call.start.request.size) == ("m", len(content))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_too_long_after_decoding_is_left_out(encoding: str, tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    body = packer.compress(b'{"message":{"content":"a"}}\n' * 4000) + packer.flush()
    options = {"max_body": 100_000}
    scripted = Scripted([body], content_encoding=encoding, content_type="application/x-ndjson")
    call, got = logged(tmp_path / "calls.jsonl", scripted, **options)
    assert got == [body] and len(body) < 10_000
    assert (call.chunks, call.missing) == (None, "too_long")


@pytest.mark.slow
def test_a_bomb_is_logged_in_bounded_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush()
    scripted = Scripted([body], content_encoding="gzip", content_type="application/x-ndjson")
    tracemalloc.start()
    try:
        call, _ = logged(tmp_path / "calls.jsonl", scripted)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (call.chunks, call.missing) == (None, "too_long")
    assert peak < 48 * 2**20


def test_a_body_of_very_many_values_is_left_out(tmp_path: Path) -> None:
    pieces = [b'{"a":[', *[b"[]," * 20_000] * 100, b"1]}\n"]
    tracemalloc.start()
    try:
        call, _ = logged(tmp_path / "calls.jsonl", Scripted(pieces))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (call.chunks, call.missing) == (None, "too_long")
    assert peak < 48 * 2**20


def test_pieces_count_as_well_as_their_bytes(tmp_path: Path) -> None:
    pieces = [b"x"] * 10_000
    call, got = logged(tmp_path / "calls.jsonl", Scripted(pieces), max_body=100_000)
    assert got == pieces
    assert (call.chunks, call.missing) == (None, "too_long")


@pytest.mark.parametrize(
    ("content", "options"),
    [
        pytest.param(b'{"model":"m","messages":[]}', {"max_bytes": 10}, id="queue full"),
        pytest.param(b'{"model":"m","messages":[]}' + b" " * 500, {"max_body": 400}, id="too long"),
        pytest.param(iter([b'{"model":"m","messages":[]}']), {}, id="not in memory"),
    ],
)
def test_the_context_is_not_kept_if_nobody_has_seen_the_request(
    content: Any, options: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    post(path, Scripted([CONTEXT]), content, **options)
    assert b"9001" not in path.read_bytes()


def test_a_log_without_bodies_holds_no_content_while_it_waits(tmp_path: Path) -> None:
    entries: list[Any] = []
    capture = Capture()
    with (
        ReplayLog(tmp_path / "full.jsonl", bodies=True) as full,
        ReplayLog(tmp_path / "facts.jsonl", max_bytes=1) as facts,
    ):
        put = facts._writer.put

        def noted(entry: Any, size: int = 0) -> None:
            entries.append(entry)
            put(entry, size)

        facts._writer.put = noted  # type: ignore[method-assign]
        settings = Settings(capture_content="span_and_event")
        options = {**capture.options, "observers": [full, facts], "settings": settings}
        client = Client(transport=FakeOllama().transport(), **options)
        client.chat("llama3.2", messages=HELLO)
    begun, end = entries
    for start in (begun.start, end.record.start):
        assert (start.content, start.conversation) == (None, None)
    assert end.record.answer is None
    # Nothing is missing where nothing was to be kept.
    [call] = read(tmp_path / "facts.jsonl")
    assert call.missing is None


@pytest.mark.slow
def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    log = ReplayLog(path, bodies=True)

    def work() -> None:
        client = Client(transport=FakeOllama().transport(), observers=[log])
        for _ in range(20):
            client.chat("llama3.2", messages=HELLO)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    calls = list(read(path))
    assert len({call.id for call in calls}) == 160
    assert all(call.record and call.record.outcome == "completed" for call in calls)


@pytest.mark.slow
def test_a_log_that_is_let_go_writes_what_waits_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    log = ReplayLog(path)
    Client(transport=FakeOllama().transport(), observers=[log]).list()
    thread = log._writer._thread
    assert thread is not None
    del log
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    assert len(list(read(path))) == 1


@pytest.mark.slow
def test_ends_that_the_garbage_collector_brings_are_written_at_the_flush(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    log = ReplayLog(path)
    client = Client(transport=FakeOllama().transport(), observers=[log])
    stream = client.chat("llama3.2", messages=HELLO, stream=True)
    next(stream)
    ring: list[Any] = [stream]
    ring.append(ring)
    del stream, ring
    gc.collect()
    assert log.close()
    [call] = read(path)
    assert call.record is not None
    assert call.record.outcome == "abandoned"


@pytest.mark.slow
def test_what_waits_for_a_hung_disk_takes_no_more_memory_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, may_write = os.write, threading.Event()

    def stuck(descriptor: int, data: Any) -> int:
        if threading.current_thread().name == "ollama_otel log":
            may_write.wait(20)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", stuck)
    log = ReplayLog(tmp_path / "calls.jsonl", bodies=True, max_bytes=4_000_000)
    # Not the fake server, which remembers what it was asked.
    transport = Scripted([b'{"models":[],"done":true,"message":{"role":"assistant"}}'])
    client = Client(transport=transport, observers=[log])
    client.list()
    time.sleep(0.2)
    tracemalloc.start()
    try:
        for _ in range(30):
            client.chat("llama3.2", messages=[{"role": "user", "content": "x" * 1_000_000}])
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        may_write.set()
    log.close()
    assert held < 12_000_000


def test_after_close_calls_go_on_and_are_counted(tmp_path: Path) -> None:
    log = ReplayLog(tmp_path / "calls.jsonl")
    client = Client(transport=FakeOllama().transport(), observers=[log])
    client.list()
    assert log.close()
    assert log.is_closed
    client.list()
    assert log.statistics.dropped_lines == 2


# --- the process ----------------------------------------------------------------------------


@pytest.mark.processes
def test_everything_is_written_at_exit(tmp_path: Path) -> None:
    run_script(
        """
        import sys
        from ollama_otel import Client
        from ollama_otel.replay import ReplayLog
        from ollama_otel.testing import FakeOllama

        client = Client(transport=FakeOllama().transport(), observers=[ReplayLog(sys.argv[1])])
        for _ in range(100):
            client.list()
        """,
        str(tmp_path / "calls.jsonl"),
    )
    assert len(list(read(tmp_path / "calls.jsonl"))) == 100


@pytest.mark.processes
def test_a_call_that_never_ended_is_a_request_without_an_end(tmp_path: Path) -> None:
    run_script(
        """
        import os, sys
        from ollama_otel import Client
        from ollama_otel.replay import ReplayLog
        from ollama_otel.testing import FakeOllama

        log = ReplayLog(sys.argv[1], bodies=True)
        client = Client(transport=FakeOllama().transport(), observers=[log])
        client.chat("llama3.2", messages=[])
        stream = client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}], stream=True)
        next(stream)
        log.flush()
        os._exit(0)
        """,
        str(tmp_path / "calls.jsonl"),
    )
    ended, open_ended = read(tmp_path / "calls.jsonl")
    assert ended.record is not None
    assert open_ended.record is None
    assert open_ended.request_body == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "tools": [],
    }


@pytest.mark.processes
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_log_all_of_their_calls(method: str, tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from ollama_otel import Client
            from ollama_otel.replay import ReplayLog
            from ollama_otel.testing import FakeOllama

            def work(path):
                Client(transport=FakeOllama().transport(), observers=[LOG or ReplayLog(path)]).ps()

            LOG = None
            if __name__ == "__main__":
                method, path = sys.argv[1:]
                if method == "fork":
                    LOG = ReplayLog(path)
                    Client(transport=FakeOllama().transport(), observers=[LOG]).list()
                context = multiprocessing.get_context(method)
                children = [context.Process(target=work, args=(path,)) for _ in range(3)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
            """
        )
    )
    subprocess.run(
        [sys.executable, str(script), method, str(tmp_path / "calls.jsonl")], check=True, timeout=60
    )
    names = [call.start.endpoint.name for call in read(tmp_path / "calls.jsonl") if call.record]
    assert names.count("list_running_models") == 3


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_writes_a_file_of_its_own_and_nothing_twice(tmp_path: Path) -> None:
    run_script(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from ollama_otel import Client
        from ollama_otel.replay import ReplayLog
        from ollama_otel.testing import FakeOllama

        log = ReplayLog(sys.argv[1])
        client = Client(transport=FakeOllama().transport(), observers=[log])
        for _ in range(5):
            client.list()
        for _ in range(2):
            child = os.fork()
            if child == 0:
                for _ in range(3):
                    client.ps()
                log.flush()
                os._exit(0)
            client.list()
            os.waitpid(child, 0)
        """,
        str(tmp_path / "calls.jsonl"),
    )
    calls = list(read(tmp_path / "calls.jsonl"))
    names = [call.start.endpoint.name for call in calls]
    assert names.count("list_models") == 7
    assert names.count("list_running_models") == 6
    assert len({call.id for call in calls}) == 13
    assert len(list(tmp_path.iterdir())) > 1
