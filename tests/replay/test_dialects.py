"""Calls of another dialect are matched, played, served, sent again and compared like native ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_otel import instrument_client
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.endpoints import added_dialect
from ollama_otel._wire.sse import SSE
from ollama_otel.errors import ReplayMissError
from ollama_otel.replay import (
    Chaos,
    Player,
    ReplayApp,
    ReplayLog,
    compare,
    plan_rerun,
    read,
    replay,
    rerun,
)
from ollama_otel.replay._tested import playing, recording
from tests.toy_dialect import ASK, TOY, stream

from .recorded import call

URL = "http://toy.test:1/toy/ask"
EVENTS = "text/event-stream"


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    with added_dialect(TOY, ASK):
        yield


def asked(words: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"who": "toy-1", "said": [{"by": "user", "words": words}], "live": True} | fields


def kept(words: str = "Hi.", body: Any = None, **options: Any) -> RecordedCall:
    pieces = [(0.1 * n, event) for n, event in enumerate(stream({"words": words}), 1)]
    return call(body or asked(), pieces, path=ASK.path, content_type=EVENTS, **options)


def answering(*bits: Any) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path != ASK.path:
            return httpx.Response(200)
        events = stream(*bits)
        return httpx.Response(200, headers={"content-type": EVENTS}, content=b"".join(events))

    return httpx.MockTransport(handle)


def test_what_was_recorded_is_what_the_player_gives(tmp_path: Path) -> None:
    log = ReplayLog(tmp_path, bodies=True)
    with httpx.Client(transport=answering({"words": "Hi."})) as client, log:
        instrument_client(
            client, instrumentation=Instrumentation(observers=(log,), keeps_request=True)
        )
        recorded = client.post(URL, json=asked())
    with httpx.Client(transport=Player(log.path, speed=0)) as client:
        played = client.post(URL, json=asked())
        assert (played.content, dict(played.headers)) == (
            recorded.content,
            {"content-type": EVENTS},
        )
        with pytest.raises(ReplayMissError, match=r"of model 'toy-2' .*\n  who: logged 'toy-1'"):
            client.post(URL, json=asked(who="toy-2"))


def test_what_makes_no_difference_is_the_dialects_to_say() -> None:
    plain = call(asked(live=False), [(0.1, b'{"whole":{}}')], path=ASK.path)
    with httpx.Client(transport=Player([plain], speed=0)) as client:
        body = asked()
        del body["live"]
        assert client.post(URL, json=body).content == b'{"whole":{}}'


def test_every_client_is_answered_in_a_block() -> None:
    with replay([kept()], speed=0):
        assert httpx.post(URL, json=asked()).content == b"".join(stream({"words": "Hi."}))


def served(app: ReplayApp, body: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.post(URL, json=body)

    return asyncio.run(scenario())


def test_the_server_refuses_and_fails_in_the_dialects_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    missed = served(ReplayApp([kept()], speed=0), asked("Bye"))
    assert missed.status_code == 501
    assert missed.json()["trouble"].endswith("the server has logged the reason")
    assert "said[0].words: logged 'Hello', asked 'Bye'" in caplog.text
    refused = served(ReplayApp([kept()], chaos=Chaos(fail={503: 1.0})), asked())
    assert (refused.status_code, refused.json()) == (503, {"trouble": "service unavailable"})


def test_a_stream_ends_with_an_error_in_its_own_framing() -> None:
    response = served(ReplayApp([kept()], speed=0, chaos=Chaos(error=1.0, seed=1)), asked())
    *events, last = SSE.payloads(response.content)
    assert json.loads(last) == {"trouble": "internal server error"}
    sent = SSE.payloads(b"".join(stream({"words": "Hi."})))
    assert events == sent[: len(events)]
    assert 0 < len(events) < len(sent)


def test_it_is_sent_again_to_another_model(tmp_path: Path) -> None:
    seen: list[Any] = []
    inner = answering({"words": "Hi."})

    async def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        return inner.handler(request)  # type: ignore[return-value]

    plan = plan_rerun([kept()], out=tmp_path / "out.jsonl")
    transport = httpx.MockTransport(handle)
    progress = asyncio.run(
        rerun(plan, host="http://toy.test:1", model="toy-2", concurrency=1, transport=transport)
    )
    assert (progress.ended, progress.failed) == (1, 0)
    assert json.loads(seen[-1]) == asked(who="toy-2")
    (pair,) = compare([kept()], read(tmp_path / "out.jsonl")).pairs
    assert (pair.changed, pair.is_by_facts_only) == (frozenset(), False)


def test_calls_to_two_models_are_compared() -> None:
    other = kept("Hello.", asked(who="toy-2"))
    (pair,) = compare([kept()], [other]).pairs
    assert pair.changed == {"text"}


@pytest.mark.slow
def test_a_test_has_a_readable_cassette_of_it(tmp_path: Path) -> None:
    cassette = tmp_path / "test.json"
    server = answering({"words": "Grüße"})
    before = httpx.HTTPTransport.handle_request
    httpx.HTTPTransport.handle_request = lambda _, request: server.handle_request(request)  # type: ignore[method-assign, assignment]
    try:
        with recording(cassette, redactors=(), is_wanted=lambda: True):
            recorded = httpx.post(URL, json=asked()).content
    finally:
        httpx.HTTPTransport.handle_request = before  # type: ignore[method-assign]
    assert '{"sse": [{"who":"toy-1","heard":3}, {"bit":' in cassette.read_text(encoding="utf-8")
    with playing(cassette, speed=0, ignore=(), redactors=()):
        assert httpx.post(URL, json=asked()).content == recorded
