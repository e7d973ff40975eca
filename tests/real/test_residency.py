"""What a real Ollama holds: loads, unloads and reloads are seen, and the causes named are the right ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from ollama_otel import Client, Settings, instrument_client
from ollama_otel import _names as names
from ollama_otel._telemetry.residency import residency_of
from ollama_otel.residency import Residency
from ollama_otel.testing import Capture
from tests.residency.test_reach import by_socket

from .conftest import StartOllama
from .servers import RealOllama

INTERVAL = 0.3
SETTINGS = Settings(residency=True, residency_interval=INTERVAL)
STORY = [{"role": "user", "content": "Tell me a story."}]


class Watched:
    """A client whose calls are joined with what the server holds."""

    def __init__(self, server: RealOllama, capture: Capture) -> None:
        self.server = server
        self.capture = capture
        self.client = Client(server.url, settings=SETTINGS, **capture.options)

    def chat(self, model: str = "tiny-agent", **options: Any) -> dict[str, Any]:
        """The attributes of the span of one call."""
        keep_alive = options.pop("keep_alive", None)
        self.client.chat(model, STORY, options=options, keep_alive=keep_alive)
        return dict(self.capture.spans[-1].attributes or {})

    def embed(self) -> dict[str, Any]:
        self.client.embed("tiny-embed", "some words")
        return dict(self.capture.spans[-1].attributes or {})

    def value(self, metric: str, **labels: Any) -> float | None:
        for point in self.capture.metrics().get(metric, ()):
            found = {name.replace(".", "_"): value for name, value in point.attributes.items()}
            if labels.items() <= found.items():
                return point.value
        return None

    def events(self, name: str) -> list[dict[str, Any]]:
        return [
            dict(each.log_record.attributes or {})
            for each in self.capture.events
            if each.log_record.event_name == name
        ]

    def until(self, is_so: Callable[[], bool], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, (self.capture.metrics(), self.capture.events)
            time.sleep(0.05)


@pytest.fixture
def watch(capture: Capture) -> Iterator[Callable[[RealOllama], Watched]]:
    watched: list[Watched] = []

    def start(server: RealOllama) -> Watched:
        watched.append(Watched(server, capture))
        return watched[-1]

    yield start
    for each in watched:
        each.client.close()
    residency_of(SETTINGS).close()


def test_a_load_a_request_to_unload_and_what_the_gauges_say(
    cold_ollama: RealOllama, watch: Callable[[RealOllama], Watched]
) -> None:
    it = watch(cold_ollama)
    it.client.ps()
    it.until(lambda: it.value("ollama.server.model.loaded") == 0)
    it.chat(num_ctx=512)
    model = {"ollama_model_name": "tiny-agent:latest"}
    it.until(lambda: it.value("ollama.model.context.length", **model) == 512)
    assert it.value("ollama.server.up") == 1
    assert it.value("ollama.server.busy") == 0
    assert it.value("ollama.server.info", ollama_server_version=cold_ollama.version) == 1
    assert it.value("ollama.server.model.loaded") == 1
    assert it.value("ollama.server.model.installed") == 3
    assert it.value("ollama.model.gpu.share", **model) == 0
    memory = it.value("ollama.model.memory.usage", **model, ollama_memory_type="cpu")
    assert memory is not None
    assert memory > 0
    assert it.value("ollama.model.memory.usage", **model, ollama_memory_type="gpu") == 0
    remaining = it.value("ollama.model.expiry.remaining", **model)
    assert remaining is not None
    assert 200 < remaining <= 300
    attributes = it.chat(num_ctx=512)
    assert attributes[names.MODEL_CONTEXT_LENGTH] == 512
    assert attributes[names.MODEL_GPU_SHARE] == 0.0
    assert attributes[names.MODEL_SIZE] == memory
    assert attributes[names.MODEL_GPU_SIZE] == 0
    assert names.RELOAD_CAUSE not in attributes

    it.client.generate("tiny-agent", keep_alive=0)
    it.until(
        lambda: it.value("ollama.model.unloads", **model, ollama_unload_reason="requested") == 1
    )
    assert it.value("ollama.model.loads", **model) == 1
    assert it.value("ollama.model.reloads") is None
    attributes = it.chat(num_ctx=512)
    assert attributes[names.RELOAD_CAUSE] == "requested"
    assert it.value("ollama.model.loads", **model) == 2
    assert it.value("ollama.model.reloads", ollama_reload_cause="requested", **model) == 1


def test_a_model_that_nobody_asks_expires(
    cold_ollama: RealOllama, watch: Callable[[RealOllama], Watched]
) -> None:
    it = watch(cold_ollama)
    it.chat(keep_alive="1s")
    it.until(lambda: it.value("ollama.model.unloads", ollama_unload_reason="expired") == 1)
    attributes = it.chat(keep_alive="1s")
    assert attributes[names.RELOAD_CAUSE] == "expired"


def test_two_models_that_fight_for_one_place_evict_each_other(
    start_ollama: StartOllama, watch: Callable[[RealOllama], Watched]
) -> None:
    with start_ollama(OLLAMA_MAX_LOADED_MODELS="1") as server:
        it = watch(server)
        causes = []
        for _ in range(4):
            causes += [
                (attributes.get(names.RELOAD_CAUSE), attributes.get(names.EVICTED_BY))
                for attributes in (it.chat(), it.embed())
            ]
        assert causes[:2] == [(None, None), (None, None)]
        # On a busy machine a poll may come too late to show one of the evictions.
        assert causes[2:].count(("unknown", None)) <= 1
        for first, model, other in (
            (2, "tiny-agent", "tiny-embed"),
            (3, "tiny-embed", "tiny-agent"),
        ):
            labels = {"ollama_model_name": f"{model}:latest"}
            evicted = causes[first::2].count(("evicted", f"{other}:latest"))
            assert evicted + causes[first::2].count(("unknown", None)) == 3
            assert it.value("ollama.model.loads", **labels) == 4
            reloads = it.value("ollama.model.reloads", ollama_reload_cause="evicted", **labels)
            assert reloads == evicted
            evictions = it.value(
                "ollama.model.evictions", ollama_model_evicted_by=f"{other}:latest", **labels
            )
            assert evictions in {evicted, evicted + 1}
        assert len(it.events(names.RELOAD_THRASH_EVENT)) == 1


def test_a_context_that_changes_between_calls_is_named_each_time(
    cold_ollama: RealOllama, watch: Callable[[RealOllama], Watched]
) -> None:
    it = watch(cold_ollama)
    found = []
    for _ in range(4):
        for context in (512, 1024):
            attributes = it.chat(num_ctx=context)
            found.append(
                tuple(
                    attributes.get(name)
                    for name in (names.RELOAD_CAUSE, names.RELOAD_BEFORE, names.RELOAD_AFTER)
                )
            )
            assert attributes.get(names.MODEL_CONTEXT_LENGTH, context) == context
    assert found[0] == (None, None, None)
    assert found[1:] == [("num_ctx", "512", "1024"), ("num_ctx", "1024", "512")] * 3 + [
        ("num_ctx", "512", "1024")
    ]
    time.sleep(3 * INTERVAL)
    assert it.value("ollama.model.loads") == 8
    assert it.value("ollama.model.reloads", ollama_reload_cause="num_ctx") == 7
    assert it.value("ollama.model.unloads", ollama_unload_reason="reloaded") == 7
    assert len(it.events(names.MODEL_RELOAD_EVENT)) == 7
    (thrash,) = it.events(names.RELOAD_THRASH_EVENT)
    assert thrash[names.RELOAD_CAUSE] == "num_ctx"


def test_a_server_that_goes_and_comes_back(
    start_ollama: StartOllama, watch: Callable[[RealOllama], Watched]
) -> None:
    with start_ollama() as server:
        it = watch(server)
        it.chat()
        it.until(lambda: it.value("ollama.server.model.loaded") == 1)
    it.until(lambda: it.value("ollama.server.up") == 0)
    assert it.value("ollama.server.model.loaded") is None
    assert it.value("ollama.model.unloads", ollama_unload_reason="server_down") == 1
    with start_ollama(port=server.port):
        it.until(lambda: it.value("ollama.server.up") == 1)
        assert it.chat()[names.RELOAD_CAUSE] == "server_down"
    assert len(it.events(names.SERVER_DOWN_EVENT)) >= 1
    assert len(it.events(names.SERVER_UP_EVENT)) == 2


def test_a_server_behind_a_unix_socket_is_up_while_calls_are_answered(
    start_ollama: StartOllama, capture: Capture, tmp_path: Path
) -> None:
    with start_ollama() as server, by_socket(server.url, tmp_path) as http:
        it = Watched(server, capture)
        # Ollama answers no request for a host that it does not know.
        http.headers["host"] = "localhost"
        client = instrument_client(http, settings=SETTINGS, **capture.options)
        for _ in range(3):
            body = {"model": "tiny-agent", "messages": STORY, "stream": False}
            assert client.post("/api/chat", json=body, timeout=60).json()["done"]
            assert it.value("ollama.server.up") == 1
        assert it.value("ollama.server.model.loaded") is None
        assert it.value("ollama.server.busy") is None
        it.until(lambda: it.value("ollama.server.up") is None)
        http.close()
    assert it.events(names.SERVER_DOWN_EVENT) == []
    residency_of(SETTINGS).close()


def test_an_engine_that_died_is_the_cause_of_the_next_load(
    start_ollama: StartOllama, watch: Callable[[RealOllama], Watched]
) -> None:
    # A long list takes more than a second; a story is told before the engine is dead.
    words = {"type": "array", "items": {"enum": ["sun", "moon", "tide"]}, "minItems": 300}
    options = {"num_ctx": 2048, "temperature": 1.0, "seed": 1}
    with start_ollama() as server:
        it = watch(server)
        # Now and then the server just ends the stream, and nobody says that the engine died.
        for _ in range(5):
            stream = it.client.chat("tiny-agent", STORY, stream=True, format=words, options=options)
            with contextlib.suppress(ollama.ResponseError):
                for number, _ in enumerate(stream):
                    if number == 0:
                        server.kill_engine()
            if it.capture.records[-1].error_type == "runner_crashed":
                break
        assert it.chat(num_ctx=2048)[names.RELOAD_CAUSE] == "runner_crashed"


def test_what_another_client_does_is_seen_by_asking(cold_ollama: RealOllama) -> None:
    plain = Client(cold_ollama.url)
    happened: list[Any] = []
    with Residency(interval=0.1) as residency:
        residency.listen(lambda address, port, event: happened.append(event))
        residency.watch(cold_ollama.url)
        time.sleep(0.3)
        for context in (512, 1024):
            plain.chat("tiny-agent", STORY, options={"num_ctx": context})
            time.sleep(0.3)
        state = residency.state(cold_ollama.url)
        assert state is not None
        assert state.models is not None
        assert [(model.name, model.context_length) for model in state.models] == [
            ("tiny-agent:latest", 1024)
        ]
    plain.close()
    reloads = [each for each in happened if type(each).__name__ == "ModelReload"]
    assert [(each.cause, each.before, each.after) for each in reloads] == [("num_ctx", 512, 1024)]
