"""Auth that needs several requests: one call of the caller is one counted call."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from ollama_otel import instrument_client
from ollama_otel._exchange import open_calls
from ollama_otel.replay import Player, ReplayLog
from ollama_otel.replay import read as read_log
from ollama_otel.replay._recording import recording_everywhere
from ollama_otel.testing import Capture
from ollama_otel.transport import shells_for

from .colours import COLOURS, Colour, closed, done, read
from .scripts import run_script

URL = "http://127.0.0.1:11434/api/chat"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
ANSWER = {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": True}
CHALLENGE = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
DURATION = "gen_ai.client.operation.duration"


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class Guarded(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A server behind auth; it answers in memory or as a stream."""

    def __init__(self, *, in_memory: bool, accepts: bool = True) -> None:
        self.in_memory = in_memory
        self.accepts = accepts
        self.seen: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.url.path)
        if request.url.path == "/token":
            return httpx.Response(200, json={"token": "t"})
        is_in = self.accepts and "authorization" in request.headers
        data = json.dumps(ANSWER if is_in else {"error": "who are you?"}).encode()
        return httpx.Response(
            200 if is_in else 401,
            headers={"www-authenticate": CHALLENGE, "content-type": "application/json"},
            **({"content": data} if self.in_memory else {"stream": Body(data)}),  # type: ignore[arg-type]
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


class Retry(httpx.Auth):
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "t"
            yield request


class RetryByBody(Retry):
    requires_request_body = True
    requires_response_body = True


class FetchToken(httpx.Auth):
    """Fetches a token between the rounds, by another request of the same flow."""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code == 401:
            token = yield httpx.Request("GET", "http://127.0.0.1:11434/token")
            request.headers["Authorization"] = token.json()["token"]
            yield request


class Broken(httpx.Auth):
    def __init__(self, *, reads: bool) -> None:
        self.requires_response_body = reads

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        yield request
        raise KeyError("token")


AUTHS: Any = (lambda: httpx.DigestAuth("u", "p"), Retry, RetryByBody, FetchToken)


def client_of(colour: Colour, way: str, inner: Any, capture: Capture, auth: Any) -> Any:
    if way == "transport":
        return colour.httpx(transport=colour.transport(inner, **capture.options), auth=auth)
    return instrument_client(colour.httpx(transport=inner, auth=auth), **capture.options)


@pytest.mark.parametrize("way", ["transport", "instrument_client"])
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("auth", AUTHS)
def test_rounds_of_auth_are_one_call_and_its_hops(
    colour: Colour, way: str, in_memory: bool, auth: Any, capture: Capture
) -> None:
    server = Guarded(in_memory=in_memory)

    async def scenario() -> None:
        client = client_of(colour, way, server, capture, auth())
        response = await done(client.post(URL, json=CHAT))
        assert response.json() == ANSWER
        assert [hop.status_code for hop in response.history if hop.url.path != "/token"] == [401]
        assert all("ollama_otel" not in key for key in response.request.extensions)
        await closed(client)

    colour.run(scenario)
    assert [record.ending for record in capture.records] == ["auth_round", "final_message"]
    assert [record.is_hop for record in capture.records] == [True, False]
    assert [record.http_status for record in capture.records] == [401, 200]
    assert [record.outcome for record in capture.records] == ["completed", "completed"]
    assert capture.total(DURATION) == 1
    assert capture.total("ollama.client.request.active") == 0


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("auth", [*AUTHS, None, lambda: ("u", "p")])
def test_a_last_round_that_is_refused_is_a_failed_call(
    colour: Colour, in_memory: bool, auth: Any, capture: Capture
) -> None:
    server = Guarded(in_memory=in_memory, accepts=False)

    async def scenario() -> None:
        given = auth and auth()
        client = client_of(colour, "transport", server, capture, given)
        response = await done(client.post(URL, json=CHAT))
        assert response.status_code == 401
        # At the caller's next line it is recorded.
        assert capture.records[-1].error_type == "unauthorized"
        await closed(client)

    colour.run(scenario)
    assert [record.ending for record in capture.records if not record.is_hop] == ["error_status"]
    assert capture.total(DURATION, error_type="unauthorized") == 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_streamed_refusal_is_read_by_the_caller(
    colour: Colour, in_memory: bool, capture: Capture
) -> None:
    server = Guarded(in_memory=in_memory, accepts=False)

    async def scenario() -> None:
        client = client_of(colour, "transport", server, capture, Retry())
        request = client.build_request("POST", URL, json=CHAT)
        response = await done(client.send(request, stream=True))
        assert json.loads(await read(response, is_async=colour.is_async)) == {
            "error": "who are you?"
        }
        await closed(client)

    colour.run(scenario)
    assert [record.ending for record in capture.records] == ["auth_round", "error_status"]


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_an_auth_that_raises_leaves_a_failed_call(
    colour: Colour, in_memory: bool, reads: bool, capture: Capture
) -> None:
    server = Guarded(in_memory=in_memory)

    async def scenario() -> None:
        client = client_of(colour, "transport", server, capture, Broken(reads=reads))
        with pytest.raises(KeyError, match="token"):
            await done(client.post(URL, json=CHAT))
        await closed(client)
        # At the latest the next call of the process ends it.
        client = client_of(colour, "transport", Guarded(in_memory=True), capture, None)
        await done(client.get("http://127.0.0.1:11434/api/version", headers={"authorization": "t"}))
        assert [record.start.endpoint.name for record in capture.records] == ["chat", "get_version"]
        await closed(client)

    colour.run(scenario)
    assert capture.records[0].outcome == "failed"
    assert capture.records[0].error_type == "unauthorized"


def test_an_auth_that_raised_is_ended_by_the_collector_as_well(
    colour: Colour, capture: Capture
) -> None:
    async def scenario() -> None:
        client = client_of(
            colour, "transport", Guarded(in_memory=True), capture, Broken(reads=True)
        )
        with pytest.raises(KeyError, match="token"):
            await done(client.post(URL, json=CHAT))
        await closed(client)

    colour.run(scenario)
    gc.collect()
    assert capture.total(DURATION, error_type="unauthorized") == 1


def test_a_shutdown_ends_a_round_that_is_held(colour: Colour, capture: Capture) -> None:
    async def scenario() -> None:
        client = client_of(
            colour, "transport", Guarded(in_memory=True), capture, Broken(reads=True)
        )
        try:
            await done(client.post(URL, json=CHAT))
        except KeyError:
            # The exception keeps the auth's flow alive.
            assert capture.records == []
            assert open_calls.end_all()
            [record] = capture.records
            assert (record.outcome, record.error_type) == ("failed", "unauthorized")
        await closed(client)

    colour.run(scenario)
    assert len(capture.records) == 1


@pytest.mark.processes
def test_an_auth_whose_exception_is_kept_is_ended_at_exit() -> None:
    said = run_script(
        """
        import httpx
        import ollama_otel
        from ollama_otel import CallFollower

        class Printed(CallFollower):
            def begin(self, start):
                return self

            def end(self, record):
                print(record.outcome, record.error_type)

        class Broken(httpx.Auth):
            def auth_flow(self, request):
                yield request
                raise KeyError("token")

        inner = httpx.MockTransport(lambda _: httpx.Response(401, json={"error": "no"}))
        transport = ollama_otel.Transport(inner, observers=[Printed()])
        try:
            httpx.Client(transport=transport, auth=Broken()).get("http://h:11434/api/tags")
        except KeyError as error:
            kept = error
        print("exit")
        """
    )
    assert said == "exit\nfailed unauthorized\n"


def test_calls_at_once_keep_their_own_rounds(capture: Capture) -> None:
    client = client_of(Colour("sync"), "transport", Guarded(in_memory=True), capture, Retry())

    class Nested(Retry):
        def auth_flow(self, request: Any) -> Generator[httpx.Request, httpx.Response, None]:
            response = yield request
            assert response.status_code == 401
            client.post(URL, json=CHAT | {"model": "inner"})
            request.headers["Authorization"] = "t"
            yield request

    outer = client_of(Colour("sync"), "transport", Guarded(in_memory=True), capture, Nested())
    assert outer.post(URL, json=CHAT | {"model": "outer"}).json() == ANSWER
    assert [(each.start.request.model, each.ending) for each in capture.records] == [
        ("inner", "auth_round"),
        ("inner", "final_message"),
        ("outer", "auth_round"),
        ("outer", "final_message"),
    ]


@pytest.mark.sockets
def test_a_log_of_everything_knows_the_rounds_below_a_client_with_telemetry(
    capture: Capture, tmp_path: Path
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            is_in = "authorization" in self.headers
            body = json.dumps(ANSWER if is_in else {"error": "no"}).encode()
            self.send_response(200 if is_in else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    log = ReplayLog(tmp_path / "calls.jsonl", bodies=True)
    with HTTPServer(("127.0.0.1", 0), Handler) as server, recording_everywhere(log), log:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        client = instrument_client(httpx.Client(auth=Retry(), trust_env=False), **capture.options)
        with client:
            url = f"http://127.0.0.1:{server.server_port}/api/chat"
            assert client.post(url, json=CHAT).json() == ANSWER
        server.shutdown()
        thread.join()
    endings = ["auth_round", "final_message"]
    assert [record.ending for record in capture.records] == endings
    logged = [call.record and call.record.ending for call in read_log(log.path)]
    assert logged == endings
    # Only the last round is played.
    with httpx.Client(transport=Player(log.path, speed=0)) as client:
        assert client.post(URL, json=CHAT).json() == ANSWER


def test_rounds_of_another_library_are_known_as_well(capture: Capture) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        is_in = "authorization" in request.headers
        body = ANSWER if is_in else {"error": "no"}
        headers = {"www-authenticate": CHALLENGE}
        return httpx2.Response(200 if is_in else 401, json=body, headers=headers)

    shell = shells_for(httpx2).transport
    with httpx2.Client(
        transport=shell(httpx2.MockTransport(answer), **capture.options),
        auth=httpx2.DigestAuth("u", "p"),
    ) as client:
        assert client.post(URL, json=CHAT).json() == ANSWER
    assert [record.ending for record in capture.records] == ["auth_round", "final_message"]


def test_what_we_rest_on_is_where_we_look_for_it() -> None:
    for client in (httpx.Client, httpx.AsyncClient):
        code = client._send_handling_auth.__code__
        assert {"auth", "auth_flow"} <= set(code.co_varnames)
