"""What a client gets from the server is what was recorded, with faults only where they are injected."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import ollama
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.native import NATIVE
from ollama_otel.errors import SettingsError
from ollama_otel.replay import Chaos, ReplayApp, Served
from ollama_otel.replay._chaos import FaultSequence

from .recorded import call, chat

LINE = b'{"model":"m","message":{"role":"assistant","content":"x"},"done":false}\n'
FINAL = b'{"model":"m","message":{"role":"assistant","content":""},"done":true}\n'
PIECES = [(0.01, LINE), (0.02, LINE), (0.03, FINAL)]
HELLO = chat()["messages"]
BUSY = "server busy, please try again.  maximum pending requests exceeded"
CRASHED = "an error was encountered while running the model: unexpected EOF"


class Serving:
    """A running application, and what it told of its requests."""

    def __init__(self) -> None:
        self.url = ""
        self.served: list[Served] = []

    def outcomes(self, count: int) -> list[str]:
        """What became of so many requests; it is told a moment after the client has its answer."""
        deadline = time.monotonic() + 10
        while len(self.served) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return [each.outcome for each in self.served]


@contextmanager
def serving(*calls: RecordedCall, **options: Any) -> Iterator[Serving]:
    """Serve these calls on a port, by uvicorn in a thread."""
    it = Serving()
    app = ReplayApp(calls, report=it.served.append, **{"speed": 0, **options})
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    it.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield it
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def raw(url: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
    """Status and body; a fresh connection for each."""
    # Reading certificates, which nothing here needs, would take longer than all the rest.
    response = httpx.post(f"{url}/api/chat", json=body or chat(), verify=False, **options)
    return response.status_code, response.content


# --- playing --------------------------------------------------------------------------------


def test_a_stream_comes_byte_for_byte_in_its_pieces_and_its_times() -> None:
    pieces = [(0.1, b"\x00\xff"), (0.2, LINE[:7]), (0.4, LINE[7:]), (0.5, FINAL)]
    kept = call(pieces=pieces)
    with serving(kept, speed=1.0) as it, httpx.Client() as client:
        began = time.perf_counter()
        seen = []
        with client.stream("POST", f"{it.url}/api/chat", json=chat()) as response:
            head = time.perf_counter() - began
            for piece in response.iter_raw():
                seen.append((time.perf_counter() - began, piece))  # noqa: PERF401
        assert [piece for _, piece in seen] == [piece for _, piece in pieces]
        assert response.headers["content-type"] == "application/x-ndjson"
        for (arrived, _), (offset, _) in zip(seen, pieces, strict=True):
            assert offset - 0.01 < arrived < offset + 1.0
        assert head > 0.09
        assert it.outcomes(1) == ["played"]
        (served,) = it.served
        assert (served.call, served.status, served.asked.model) == (kept, 200, "m")


def test_the_official_client_gets_the_same_answers_and_errors() -> None:
    error = b'{"error":"model \'nope\' not found"}'
    missing = call(
        chat(model="nope", stream=False),
        [(0.1, error)],
        outcome="failed",
        error_type="model_not_found",
        error_message="model 'nope' not found",
        http_status=404,
        content_type="application/json; charset=utf-8",
        at=1.0,
    )
    whole = call(chat(stream=False), [(0.1, FINAL)], at=2.0, content_type="application/json")
    with serving(call(pieces=PIECES), missing, whole) as it, ollama.Client(it.url) as client:
        parts = client.chat("m", HELLO, stream=True)
        assert [part.message.content for part in parts] == ["x", "x", ""]
        assert client.chat("m", HELLO).done
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as raised:
            client.chat("nope", HELLO)
        assert raised.value.status_code == 404


def test_a_request_may_be_repeated_unless_it_is_to_be_once() -> None:
    with serving(call(pieces=PIECES)) as it:
        assert [raw(it.url)[0] for _ in range(3)] == [200, 200, 200]
    with serving(call(pieces=PIECES), repeat=False) as it:
        assert [raw(it.url)[0] for _ in range(2)] == [200, 501]


def test_a_miss_is_answered_with_501_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with serving(call(pieces=PIECES)) as it, caplog.at_level(logging.WARNING, "ollama_otel"):
        status, body = raw(it.url, chat("Hallo"))
        assert it.outcomes(1) == ["missed"]
    assert status == 501
    told = json.loads(body)["error"]
    assert "messages[0].content: logged 'Hello', asked 'Hallo'" in told
    assert [record.getMessage() for record in caplog.records if record.name == "ollama_otel"] == [
        told
    ]


def test_many_clients_are_served_at_once() -> None:
    pieces = [(0.1 * number, LINE) for number in range(1, 6)]
    with serving(call(pieces=pieces), speed=1.0) as it:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(raw(it.url)[0])) for _ in range(20)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # One after the other would take ten seconds.
        assert time.perf_counter() - began < 5.0
    assert statuses == [200] * 20


@pytest.mark.parametrize("kind", ["connect", "timeout", "network"])
def test_a_call_that_had_no_answer_gets_none(kind: Any) -> None:
    kept = call(
        pieces=None, outcome="failed", error_type=kind, error_message="it broke", http_status=None
    )
    with serving(kept) as it:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            raw(it.url)
        assert it.outcomes(1) == ["broken off"]
        assert it.served[0].status is None


@pytest.mark.parametrize(
    "ending",
    [
        {"outcome": "failed", "error_type": "network", "error_message": "reset"},
        {"outcome": "abandoned"},
    ],
)
def test_a_stream_that_broke_off_breaks_off_after_its_last_piece(
    ending: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(call(pieces=PIECES[:2], **ending)) as it, httpx.Client() as client:
        seen = []
        with (
            pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
            client.stream("POST", f"{it.url}/api/chat", json=chat()) as response,
        ):
            for piece in response.iter_raw():
                seen.append(piece)  # noqa: PERF402 - what came before the error counts
        assert b"".join(seen) == LINE + LINE
        assert it.outcomes(1) == ["broken off"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_client_that_goes_away_ends_the_playing() -> None:
    with serving(call(pieces=[(0.01, LINE), (60.0, FINAL)]), speed=1.0) as it:
        with (
            httpx.Client() as client,
            client.stream("POST", f"{it.url}/api/chat", json=chat()) as r,
        ):
            next(r.iter_raw())
        assert it.outcomes(1) == ["left"]


def test_a_client_that_does_not_wait_for_the_head_ends_the_playing() -> None:
    with serving(call(pieces=[(60.0, FINAL)]), speed=1.0) as it:
        with pytest.raises(httpx.ReadTimeout):
            raw(it.url, timeout=0.2)
        assert it.outcomes(1) == ["left"]


# --- on the side ----------------------------------------------------------------------------


def test_what_clients_ask_on_the_side_is_answered_without_a_log() -> None:
    refused = call(chat(model="nope"), http_status=404, outcome="failed")
    with serving(call(), call(chat(model="u/x:1b"), at=1.0), refused) as it:
        health = httpx.get(it.url)
        assert (health.status_code, health.text) == (200, "Ollama is running")
        assert health.headers["content-type"] == "text/plain; charset=utf-8"
        assert httpx.head(it.url).status_code == 200
        assert httpx.get(f"{it.url}/api/version").json() == {"version": "0.0.0-replay"}
        assert httpx.head(f"{it.url}/api/version").content == b""
        with ollama.Client(it.url) as client:
            models = client.list().models
        assert [model.model for model in models] == ["m:latest", "u/x:1b"]
        assert httpx.get(f"{it.url}/api/ps").status_code == 501
        assert it.outcomes(6) == [*["made up"] * 5, "missed"]


def test_the_models_are_those_that_answered() -> None:
    refused = call(chat(model="nope"), http_status=404, outcome="failed")
    calls = [call(), call(chat(model="m:latest"), at=1.0), call(chat(model="u/x:1b"), at=2.0)]
    assert ReplayApp([*calls, refused]).models == ("m:latest", "u/x:1b")


def test_what_the_log_has_of_them_comes_from_the_log() -> None:
    version = call(None, [(0.1, b'{"version":"0.33.0"}')], method="GET", path="/api/version")
    with serving(version) as it:
        assert httpx.get(f"{it.url}/api/version").json() == {"version": "0.33.0"}


# --- chaos ----------------------------------------------------------------------------------


def test_a_share_of_requests_is_refused_in_ollama_s_words() -> None:
    chaos = Chaos(fail={503: 0.3, 500: 0.2}, seed=1)
    with serving(call(pieces=PIECES), chaos=chaos) as it:
        answers = [raw(it.url) for _ in range(60)]
        refused = it.outcomes(60).count("refused")
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 500, 503}
    assert 15 <= refused <= 45
    texts = {status: json.loads(body)["error"] for status, body in answers if status != 200}
    assert texts == {503: BUSY, 500: CRASHED}


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "model 'm' not found"), (429, "too many requests"), (599, "status 599")],
)
def test_every_http_error_has_its_words(status: int, text: str) -> None:
    fault = FaultSequence(Chaos(fail={status: 1.0})).next()
    assert (fault.status, fault.refusal(NATIVE, "m")) == (status, text)


def test_a_share_of_streams_is_cut_off() -> None:
    with serving(call(pieces=PIECES), chaos=Chaos(cut=1.0)) as it:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            raw(it.url)
        assert it.outcomes(1) == ["broken off"]


def test_a_share_of_streams_ends_with_an_error_line() -> None:
    with serving(call(pieces=PIECES), chaos=Chaos(error=1.0, seed=3)) as it:
        status, body = raw(it.url)
        *lines, last = body.splitlines(keepends=True)
        assert status == 200
        assert 1 <= len(lines) <= 2
        assert set(lines) == {LINE}
        assert json.loads(last) == {"error": CRASHED}
        with (
            ollama.Client(it.url) as client,
            pytest.raises(ollama.ResponseError, match="unexpected EOF"),
        ):
            list(client.chat("m", HELLO, stream=True))


def test_what_is_no_stream_is_neither_cut_nor_ended() -> None:
    whole = call(chat(stream=False), [(0.1, FINAL)], content_type="application/json")
    with serving(whole, chaos=Chaos(cut=0.5, error=0.5)) as it:
        assert [raw(it.url, chat(stream=False)) for _ in range(5)] == [(200, FINAL)] * 5


def test_slowness_comes_on_top_of_the_recorded_times() -> None:
    with serving(call(pieces=PIECES), chaos=Chaos(slow=0.1), speed=1.0) as it:
        began = time.perf_counter()
        assert raw(it.url) == (200, LINE + LINE + FINAL)
        assert 0.32 < time.perf_counter() - began < 3.0


def test_a_seed_decides_all_faults() -> None:
    def drawn(seed: int | None) -> list[Any]:
        faults = FaultSequence(Chaos(fail={500: 0.3}, cut=0.3, error=0.3, seed=seed))
        return [faults.next() for _ in range(50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(None) != drawn(None)


@given(st.integers(1, 500), st.integers())
def test_a_stream_that_ends_early_always_keeps_a_piece_and_never_all_of_several(
    count: int, seed: int
) -> None:
    kept = FaultSequence(Chaos(cut=1.0, seed=seed)).next().kept_of(count)
    assert kept is not None
    assert 1 <= kept <= max(1, count - 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"slow": -1.0},
        {"cut": 1.5},
        {"error": float("nan")},
        {"fail": {500: -0.1}},
        {"fail": {500: 0.6, 503: 0.6}},
        {"fail": {200: 0.5}},
        {"cut": 0.6, "error": 0.6},
    ],
)
def test_faults_out_of_range_are_refused(settings: Any) -> None:
    with pytest.raises(SettingsError):
        Chaos(**settings)


# --- other servers --------------------------------------------------------------------------


def test_a_server_that_cannot_break_off_answers_502() -> None:
    kept = call(
        pieces=None, outcome="failed", error_type="connect", error_message="x", http_status=None
    )
    sent = drive(ReplayApp([kept], speed=0))
    assert sent[0]["status"] == 502
    assert json.loads(sent[1]["body"]) == {"error": "the logged call has no response"}


def test_a_server_that_cannot_break_off_gets_no_end() -> None:
    sent = drive(ReplayApp([call(pieces=PIECES[:1], outcome="abandoned")], speed=0))
    assert [message.get("more_body") for message in sent] == [None, True]


def test_a_client_that_goes_before_it_has_asked_is_left_alone() -> None:
    assert drive(ReplayApp([call()]), {"type": "http.disconnect"}) == []


def test_the_lifespan_is_completed_and_sockets_of_other_kinds_are_not_served() -> None:
    app = ReplayApp([call()])
    sent = drive(app, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, kind="lifespan")
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert drive(app, kind="websocket") == []


def test_only_a_disconnect_ends_the_playing() -> None:
    body = {"type": "http.request", "body": json.dumps(chat()).encode()}
    late = {"type": "http.request", "body": b""}
    sent = drive(ReplayApp([call(pieces=PIECES)], speed=0), body, late)
    assert b"".join(message.get("body", b"") for message in sent) == LINE + LINE + FINAL


def drive(app: Any, *messages: dict[str, Any], kind: str = "http") -> list[Any]:
    """Run an application with these messages, or with one request, and give what it sends."""
    body = json.dumps(chat()).encode()
    queue = list(
        messages
        or (
            {"type": "http.request", "body": body[:9], "more_body": True},
            {"type": "http.request", "body": body[9:]},
        )
    )
    sent: list[Any] = []

    async def receive() -> Any:
        if not queue:
            await asyncio.sleep(3600)
        return queue.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": kind, "method": "POST", "path": "/api/chat"}, receive, send))
    return sent
