"""What a client gets from the server is what was recorded, with faults only where they are injected."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
def test_a_request_may_be_repeated_unless_it_is_to_be_once() -> None:
    with serving(call(pieces=PIECES)) as it:
        assert [raw(it.url)[0] for _ in range(3)] == [200, 200, 200]
    with serving(call(pieces=PIECES), repeat=False) as it:
        assert [raw(it.url)[0] for _ in range(2)] == [200, 501]


@pytest.mark.slow
@pytest.mark.sockets
def test_a_miss_is_answered_with_501_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with serving(call(pieces=PIECES)) as it, caplog.at_level(logging.WARNING, "ollama_otel"):
        status, body = raw(it.url, chat("Hallo"))
        assert it.outcomes(1) == ["missed"]
    assert status == 501
    # What the log holds is not for everyone who can ask.
    assert json.loads(body) == {
        "error": "POST /api/chat of model 'm' has no answer in the log; the server has logged the "
        "reason"
    }
    (told,) = [r.getMessage() for r in caplog.records if r.name == "ollama_otel"]
    assert "messages[0].content: logged 'Hello', asked 'Hallo'" in told


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
def test_a_client_that_goes_away_ends_the_playing() -> None:
    with serving(call(pieces=[(0.01, LINE), (60.0, FINAL)]), speed=1.0) as it:
        with (
            httpx.Client() as client,
            client.stream("POST", f"{it.url}/api/chat", json=chat()) as r,
        ):
            next(r.iter_raw())
        assert it.outcomes(1) == ["left"]


@pytest.mark.slow
@pytest.mark.sockets
def test_a_client_that_does_not_wait_for_the_head_ends_the_playing() -> None:
    with serving(call(pieces=[(60.0, FINAL)]), speed=1.0) as it:
        with pytest.raises(httpx.ReadTimeout):
            raw(it.url, timeout=0.2)
        assert it.outcomes(1) == ["left"]


# --- who may ask, and how much ----------------------------------------------------------------

HOST_REFUSED = {
    "error": "this host or origin is not allowed: use localhost or an IP address, or allow the "
    "name (--allow-host NAME, or ReplayApp(allowed_hosts=...))"
}
REBOUND = {"host": "evil.example"}


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    "headers", [REBOUND, {"host": "evil.example:11500"}, {"origin": "http://evil.example"}]
)
def test_web_pages_of_others_are_refused_and_learn_nothing(headers: dict[str, str]) -> None:
    with serving(call(pieces=PIECES)) as it:
        status, body = raw(it.url, headers=headers)
        assert (status, json.loads(body)) == (403, HOST_REFUSED)
        for path in ("/", "/api/tags", "/evil"):
            assert httpx.get(it.url + path, headers=headers).json() == HOST_REFUSED
        assert it.outcomes(4) == ["rejected"] * 4
        assert [each.call for each in it.served] == [None] * 4
        assert raw(it.url)[0] == 200


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    "headers", [{"host": "localhost:1"}, {"host": "replay"}, {"origin": "http://localhost:3000"}]
)
def test_names_and_pages_of_this_machine_are_answered(headers: dict[str, str]) -> None:
    with serving(call(pieces=PIECES)) as it:
        assert raw(it.url, headers=headers)[0] == 200


# --- web pages that may read a response (CORS) ------------------------------------------------

ALLOWED_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,"
    "X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,"
    "X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,"
    "X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
READERS = [
    *("http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "http://0.0.0.0:8080"),
    *("app://x", "file://", "tauri://localhost", "vscode-webview://1a2b", "vscode-file://x"),
]
FOREIGN = [
    *("http://evil.example", "https://evil.example", "http://localhost.evil.example", "null"),
    *("http://localhost:3000.evil.example", "http://localhost@evil.example", "http://203.0.113.9"),
    *("http://printer.local", "http://0.0.0.0.evil.example", "http://evil.example/?app://x"),
]
UNREAD = ["http://app.localhost", "http://[::1]:1", "chrome-extension://x", "moz-extension://x"]
"""Answered as before, but not readable by default with Ollama."""


def preflight(url: str, origin: str, path: str = "/api/chat") -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    return httpx.options(url + path, headers=headers, verify=False)


def cors(response: httpx.Response) -> list[tuple[str, str]]:
    """The headers of a response that a browser reads for CORS."""
    names = ("access-control-", "vary")
    return sorted(each for each in response.headers.multi_items() if each[0].startswith(names))


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("origin", READERS)
def test_pages_that_ollama_allows_may_ask_and_read(origin: str) -> None:
    with serving(call(pieces=PIECES), chaos=Chaos(fail={503: 1.0})) as it:
        response = preflight(it.url, origin)
        assert (response.status_code, response.content) == (204, b"")
        assert "content-length" not in response.headers
        # As server 0.33.0 answers.
        assert cors(response) == [
            ("access-control-allow-headers", ALLOWED_HEADERS),
            ("access-control-allow-methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
            ("access-control-allow-origin", origin),
            ("access-control-max-age", "43200"),
            ("vary", "Access-Control-Request-Headers"),
            ("vary", "Access-Control-Request-Method"),
            ("vary", "Origin"),
        ]
        assert cors(preflight(it.url, origin, "/unheard/of")) == cors(response)
        assert it.outcomes(2) == ["made up"] * 2


@pytest.mark.slow
@pytest.mark.sockets
def test_every_response_may_be_read_by_them() -> None:
    readable = [("access-control-allow-origin", "http://localhost:3000"), ("vary", "Origin")]
    headers = {"origin": "http://localhost:3000"}
    with serving(call(pieces=PIECES)) as it, httpx.Client(verify=False, headers=headers) as client:
        responses = [
            client.post(f"{it.url}/api/chat", json=chat()),
            client.post(f"{it.url}/api/chat", json=chat("not in the log")),
            client.post(f"{it.url}/api/chat", json=asked(1_048_576)),
            client.get(it.url),
        ]
    assert [each.status_code for each in responses] == [200, 501, 413, 200]
    assert [cors(each) for each in responses] == [readable] * 4


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("allowed", [[], ["replay.example.com"]])
def test_pages_of_others_may_neither_ask_nor_read(origin: str, allowed: list[str]) -> None:
    with serving(call(pieces=PIECES), allowed_hosts=allowed) as it:
        responses = [
            preflight(it.url, origin),
            httpx.post(f"{it.url}/api/chat", json=chat(), headers={"origin": origin}),
            httpx.get(f"{it.url}/api/tags", headers={"origin": origin}),
        ]
        assert [each.status_code for each in responses] == [403] * 3
        assert [cors(each) for each in responses] == [[]] * 3
        assert it.outcomes(3) == ["rejected"] * 3


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("origin", [*FOREIGN, *UNREAD])
def test_to_answer_any_host_lets_no_other_page_read(origin: str) -> None:
    with serving(call(pieces=PIECES), allowed_hosts=["*"]) as it:
        assert cors(preflight(it.url, origin)) == []
        response = httpx.post(f"{it.url}/api/chat", json=chat(), headers={"origin": origin})
        assert (response.status_code, cors(response)) == (200, [])


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("origin", ["http://localhost:1", None])
def test_who_is_of_the_same_origin_or_no_page_needs_no_headers(origin: str | None) -> None:
    with serving(call(pieces=PIECES)) as it:
        headers = {"host": "localhost:1"} | ({"origin": origin} if origin else {})
        assert cors(httpx.post(f"{it.url}/api/chat", json=chat(), headers=headers)) == []
        assert httpx.options(f"{it.url}/api/chat", headers=headers).status_code == 501


@pytest.mark.slow
@pytest.mark.sockets
def test_a_page_under_a_foreign_name_may_not_read_whatever_its_origin() -> None:
    headers = {"host": "evil.example", "origin": "http://localhost:3000"}
    with serving(call(pieces=PIECES)) as it:
        assert httpx.options(f"{it.url}/api/chat", headers=headers).status_code == 403
        assert httpx.get(f"{it.url}/api/tags", headers=headers).json() == HOST_REFUSED


# --- who may ask, and how much ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
def test_a_name_can_be_allowed() -> None:
    with serving(call(pieces=PIECES), allowed_hosts=["replay.example.com"]) as it:
        assert raw(it.url, headers={"host": "replay.example.com:80"})[0] == 200
        assert raw(it.url, headers=REBOUND)[0] == 403
    with serving(call(pieces=PIECES), allowed_hosts=["*"]) as it:
        assert raw(it.url, headers=REBOUND)[0] == 200


def asked(size: int) -> dict[str, Any]:
    return chat("x" * size)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_request_may_be_four_times_as_long_as_the_longest_one_or_a_mebibyte() -> None:
    small, large = asked(1), asked(1_000_000)
    with serving(call(small, PIECES)) as it:
        assert raw(it.url, asked(1_000_000))[0] == 501
        status, body = raw(it.url, asked(1_048_576))
        assert status == 413
        assert json.loads(body) == {
            "error": "the request is longer than 1048576 bytes, and not in the log"
        }
        assert it.outcomes(2) == ["missed", "rejected"]
    with serving(call(small, PIECES), call(large, PIECES, at=1.0)) as it:
        assert raw(it.url, large)[0] == 200
        assert raw(it.url, asked(3_900_000))[0] == 501
        assert raw(it.url, asked(4_100_000))[0] == 413


def test_an_endless_body_is_refused_while_it_comes() -> None:
    app = ReplayApp([call()])
    piece = {"type": "http.request", "body": b"x" * 400_000, "more_body": True}
    sent = drive(app, piece, piece, piece)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.slow
@pytest.mark.sockets
def test_an_upload_of_any_size_is_answered_and_not_kept() -> None:
    path = "/api/blobs/sha256:" + "0" * 64
    kept = call(None, [], method="POST", path=path, http_status=201)
    with serving(kept) as it:
        sent = httpx.post(it.url + path, content=iter([b"x" * 1_000_000] * 5))
        assert sent.status_code == 201
    assert drive(ReplayApp([kept]), {"type": "http.disconnect"}, path=path) == []


@pytest.mark.slow
def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_otel.replay._server._READ_SECONDS", 0.05)
    sent = drive(ReplayApp([call()]), {"type": "http.request", "body": b"x", "more_body": True})
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"]) == {"error": "the request took more than 0.05 seconds"}


@pytest.mark.slow
@pytest.mark.sockets
def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_otel.replay._server._SEND_SECONDS", 0.3)
    large = call(pieces=[(0.01, b"x" * 50_000_000)])
    with serving(large) as it, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = it.url.rpartition("/")[2].split(":")
        client.connect((address[0], int(address[1])))
        body = json.dumps(chat()).encode()
        head = f"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert it.outcomes(1) == ["left"]
        # Not even by what was still to be sent.
        size = 0
        with suppress(ConnectionError):
            while piece := client.recv(1_000_000):
                size += len(piece)
        assert size < 40_000_000


@pytest.mark.slow
@pytest.mark.sockets
def test_redaction_of_a_long_request_keeps_nobody_waiting() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(text: str) -> str:
        if "wait" in text:
            begun.set()
            go_on.wait(30)
        return text

    with serving(call(pieces=PIECES), redactors=[slow]) as it:
        waiting = threading.Thread(target=lambda: raw(it.url, chat("wait " * 5_000), timeout=60))
        waiting.start()
        assert begun.wait(30)
        assert raw(it.url)[0] == 200
        go_on.set()
        waiting.join()


# --- on the side ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
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


LOADED = {"model": "m:latest", "done": True, "done_reason": "load"}
UNLOADED = {**LOADED, "done_reason": "unload"}
SPOKEN = {"message": {"role": "assistant", "content": ""}}


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/api/generate", {"model": "m"}, {**LOADED, "response": ""}),
        ("/api/generate", {"model": "m:latest", "prompt": ""}, {**LOADED, "response": ""}),
        ("/api/generate", {"model": "m", "keep_alive": 0}, {**UNLOADED, "response": ""}),
        ("/api/chat", {"model": "m", "messages": [], "stream": True}, {**LOADED, **SPOKEN}),
        ("/api/chat", {"model": "m", "keep_alive": "0s"}, {**UNLOADED, **SPOKEN}),
        ("/api/embed", {"model": "m"}, {"model": "m:latest", "embeddings": []}),
        ("/api/embeddings", {"model": "m", "prompt": ""}, {"embedding": []}),
    ],
)
def test_to_load_a_logged_model_is_made_up(
    path: str, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    with serving(call()) as it:
        response = httpx.post(it.url + path, json=body, verify=False)
        made_up = response.json()
        made_up.pop("created_at", None)
        assert (response.status_code, made_up) == (200, answer)
        # Of no other model: it may not exist.
        assert httpx.post(it.url + path, json={**body, "model": "other"}).status_code == 501
        assert it.outcomes(2) == ["made up", "missed"]


@pytest.mark.slow
@pytest.mark.sockets
def test_the_description_of_a_logged_model_says_that_it_is_made_up() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    calls = [
        call(),
        call(chat("again", tools=[tool], think=True), at=1.0),
        call(chat("refused", images=["aGk="]), at=2.0, http_status=400, outcome="failed"),
        call({"model": "e", "input": "x"}, path="/api/embed", at=3.0),
    ]
    with serving(*calls) as it, ollama.Client(it.url) as client:
        shown = client.show("m")
        assert shown.capabilities == ["completion", "thinking", "tools"]
        assert shown.details is not None
        assert shown.details.family == "not-in-the-log"
        assert shown.details.parameter_size == "not-in-the-log"
        assert client.show("e:latest").capabilities == ["embedding"]
        with pytest.raises(ollama.ResponseError, match="has no answer in the log"):
            client.show("other")
        assert it.outcomes(3) == ["made up", "made up", "missed"]


@pytest.mark.slow
@pytest.mark.sockets
def test_what_the_log_has_of_a_load_or_a_description_comes_from_the_log() -> None:
    load = call({"model": "m"}, [(0.1, b'{"from":"log"}')], path="/api/generate")
    shown = call({"model": "m"}, [(0.1, b'{"from":"log"}')], path="/api/show", at=1.0)
    with serving(load, shown) as it:
        for path in ("/api/generate", "/api/show"):
            found = httpx.post(it.url + path, json={"model": "m"}, verify=False)
            assert found.json() == {"from": "log"}
        assert it.outcomes(2) == ["played"] * 2


def test_the_models_are_those_that_answered() -> None:
    refused = call(chat(model="nope"), http_status=404, outcome="failed")
    calls = [call(), call(chat(model="m:latest"), at=1.0), call(chat(model="u/x:1b"), at=2.0)]
    assert ReplayApp([*calls, refused]).models == ("m:latest", "u/x:1b")


@pytest.mark.slow
@pytest.mark.sockets
def test_what_the_log_has_of_them_comes_from_the_log() -> None:
    version = call(None, [(0.1, b'{"version":"0.33.0"}')], method="GET", path="/api/version")
    with serving(version) as it:
        assert httpx.get(f"{it.url}/api/version").json() == {"version": "0.33.0"}


# --- chaos ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
def test_a_share_of_streams_is_cut_off() -> None:
    with serving(call(pieces=PIECES), chaos=Chaos(cut=1.0)) as it:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            raw(it.url)
        assert it.outcomes(1) == ["broken off"]


@pytest.mark.slow
@pytest.mark.sockets
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


@pytest.mark.slow
@pytest.mark.sockets
def test_what_is_no_stream_is_neither_cut_nor_ended() -> None:
    whole = call(chat(stream=False), [(0.1, FINAL)], content_type="application/json")
    with serving(whole, chaos=Chaos(cut=0.5, error=0.5)) as it:
        assert [raw(it.url, chat(stream=False)) for _ in range(5)] == [(200, FINAL)] * 5


@pytest.mark.slow
@pytest.mark.sockets
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


def drive(
    app: Any, *messages: dict[str, Any], kind: str = "http", path: str = "/api/chat"
) -> list[Any]:
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

    asyncio.run(app({"type": kind, "method": "POST", "path": path}, receive, send))
    return sent
