"""Calls that lost something are found, reported once, and told from those that lost nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from ollama_otel import Client, Settings, instrument_client
from ollama_otel import _names as names
from ollama_otel._enrich.truncation import Counting, TruncationEnricher
from ollama_otel._telemetry import truncation as telemetry
from ollama_otel._telemetry.instrumentation import build_instrumentation
from ollama_otel._tokens.directory import Directory, Question
from ollama_otel._tokens.worker import Worker
from ollama_otel.records import CallRecord, CallStart, ModelResidency, Truncation
from ollama_otel.resilience import Fallback, Resilience, make_resilient
from ollama_otel.testing import Capture
from tests.tokens.tables import show

URL = "http://ollama.example:11434"
CONTEXT = 64
CUT = 64 - (64 - 5) // 2
"""The file of the model sets `num_keep` to 5."""


class Server:
    """Answers with the numbers that are set, and to questions."""

    def __init__(self) -> None:
        self.read = 5
        self.written = 1
        self.shown: Any = show()
        self.loaded: int | None = None
        self.seen: int | None = None
        self.failing = False
        self.questions: list[str] = []
        self.before: Callable[[], object] = lambda: None

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.before()
        url = request.url.copy_with(raw_path=b"")
        if self.failing and str(url).rstrip("/") == URL and b'"m"' in request.content:
            return httpx.Response(404, json={"error": "model 'm' not found"})
        answer = {
            "model": "m",
            "message": {"role": "assistant", "content": "Yes"},
            "response": "Yes",
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": self.read,
            "eval_count": self.written,
        }
        return httpx.Response(200, json=answer)

    def ask(self, url: str, question: Question) -> Any:
        assert url == URL
        self.questions.append(question.path)
        match question.path:
            case "/api/show":
                return self.shown
            case "/api/ps":
                return {"models": [{"name": "m:latest", "context_length": self.loaded}]}
        return {"models": [{"name": "m:latest", "digest": "a" * 64}]}


class _Seeing:
    """Says of each record what residency saw of the model."""

    def __init__(self, server: Server, inner: TruncationEnricher) -> None:
        self.server, self.inner = server, inner

    def begin(self, start: CallStart) -> Callable[[CallRecord], Truncation | None] | None:
        enrichment = self.inner.begin(start)
        if enrichment is None:
            return None
        seen = ModelResidency(context_length=self.server.seen)
        return lambda record: enrichment(replace(record, residency=seen))


class Scene:
    """A client whose calls are looked at, and what it reports."""

    def __init__(self, server: Server, capture: Capture, mode: str = "confirm") -> None:
        self.server, self.capture = server, capture
        self.worker = Worker()
        self.directory = Directory()
        # As a rule the count is there before the response.
        server.before = self.settle
        self.client = Client(
            URL, transport=httpx.MockTransport(server.handle), **self._options(mode)
        )

    def _options(self, mode: str) -> dict[str, Any]:
        counting = None
        if mode != "screen":
            counting = Counting(
                directory=self.directory,
                worker=self.worker,
                ask=self.server.ask,
                is_before=mode == "check",
            )
        patch = pytest.MonkeyPatch()
        made = lambda settings, metrics, logger: _Seeing(  # noqa: E731
            self.server, TruncationEnricher(telemetry._Reports(metrics, logger), counting)
        )
        patch.setattr(telemetry, "truncation_enricher", made)
        settings: Any = Settings(truncation=mode)  # type: ignore[arg-type]
        instrumentation = build_instrumentation(settings=settings, **self.capture.options)
        patch.undo()
        return {"instrumentation": instrumentation}

    def chat(self, *texts: str, read: int, written: int = 1, **options: Any) -> Truncation:
        self.server.read, self.server.written = read, written
        messages = [{"role": "user", "content": text} for text in texts]
        self.client.chat("m", messages, options=options or None)
        self.settle()
        return self.capture.records[-1].truncation

    def raw(self, text: str, *, read: int, written: int = 1, **options: Any) -> Truncation:
        self.server.read, self.server.written = read, written
        self.client.generate("m", text, raw=True, options=options or None)
        self.settle()
        return self.capture.records[-1].truncation

    def settle(self) -> None:
        assert self.worker.drain(20)

    def events(self) -> list[dict[str, Any]]:
        return [
            dict(event.log_record.attributes or {})
            for event in self.capture.events
            if event.log_record.event_name == names.TRUNCATION_EVENT
        ]

    def counts(self) -> dict[str, float]:
        points = self.capture.metrics().get("ollama.client.truncations", ())
        return {str(point.attributes[names.TRUNCATION_KIND]): point.value for point in points}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def scene(server: Server, capture: Capture) -> Scene:
    found = Scene(server, capture)
    # The vocabulary is read once; later counts are there when the call ends.
    found.raw("hello", read=1)
    return found


LONG = " ".join(["hello"] * 100)
WHOLE = 199


def confirmed(**changes: Any) -> Truncation:
    fields = {
        "kind": "prompt_cut",
        "certainty": "confirmed",
        "context_length": CONTEXT,
        "prompt_tokens": WHOLE,
        "lost_tokens": WHOLE - CUT,
    }
    return Truncation(**{**fields, **changes})


def test_a_cut_prompt_is_on_the_span_and_reported_once(scene: Scene) -> None:
    found = scene.raw(LONG, read=CUT)
    assert found == confirmed()
    attributes = dict(scene.capture.spans[-1].attributes or {})
    assert {name: value for name, value in attributes.items() if "truncation" in name} == {
        "ollama.truncation.kind": "prompt_cut",
        "ollama.truncation.certainty": "confirmed",
        "ollama.truncation.context_length": CONTEXT,
        "ollama.truncation.prompt_tokens": WHOLE,
        "ollama.truncation.lost_tokens": WHOLE - CUT,
    }
    assert len(scene.events()) == 1
    assert scene.counts() == {"prompt_cut": 1}


def test_a_count_that_comes_late_is_an_event_of_the_span(scene: Scene) -> None:
    gate = threading.Event()
    scene.server.before = lambda: None
    scene.worker.put(lambda: assert_(gate.wait(20)))
    scene.server.read = CUT
    scene.client.generate("m", LONG, raw=True, options={"num_ctx": CONTEXT, "num_keep": 5})
    assert scene.capture.records[-1].truncation == Truncation(
        kind="prompt_cut", certainty="suspected", context_length=CONTEXT
    )
    assert scene.events() == []
    gate.set()
    scene.settle()
    [event] = [
        each.log_record
        for each in scene.capture.events
        if each.log_record.event_name == names.TRUNCATION_EVENT
    ]
    span = scene.capture.spans[-1].get_span_context()
    assert span is not None
    assert (event.trace_id, event.span_id) == (span.trace_id, span.span_id)
    assert dict(event.attributes or {}) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "m",
        "server.address": "ollama.example",
        "server.port": 11434,
        "ollama.truncation.kind": "prompt_cut",
        "ollama.truncation.certainty": "confirmed",
        "ollama.truncation.context_length": CONTEXT,
        "ollama.truncation.prompt_tokens": WHOLE,
        "ollama.truncation.lost_tokens": WHOLE - CUT,
    }


def test_a_whole_prompt_is_no_finding(scene: Scene) -> None:
    text = " ".join(["hello"] * 18)
    assert scene.raw(text, read=35) == Truncation()
    assert (scene.events(), scene.counts()) == ([], {})


def test_a_whole_prompt_with_the_length_of_a_cut_one_is_no_finding(scene: Scene) -> None:
    text = " ".join(["hello"] * 17) + " wor"
    assert scene.raw(text, read=CUT).certainty is None
    assert scene.events() == []


def test_dropped_messages_are_found(scene: Scene) -> None:
    texts = [" ".join(["hello"] * 8)] * 9
    found = scene.chat(*texts, read=3 * 15 + 12)
    assert (found.kind, found.certainty) == ("history_dropped", "confirmed")
    assert found.dropped_messages == 6


@pytest.mark.parametrize(
    ("num_ctx", "read", "written", "shift"),
    [(256, 200, 56, 0), (256, 200, 57, 1), (200, 200, 56, 0), (200, 200, 60, 4), (None, 9, 9, 0)],
)
def test_a_context_shift_needs_no_count(
    server: Server, capture: Capture, num_ctx: int | None, read: int, written: int, shift: int
) -> None:
    scene = Scene(server, capture, "screen")
    options = {} if num_ctx is None else {"num_ctx": num_ctx}
    found = scene.chat("hello", read=read, written=written, **options)
    assert found.kind == ("context_shift" if shift else None)
    assert (found.lost_tokens or 0) == shift
    assert len(scene.events()) == bool(shift)


def test_a_shift_of_a_short_prompt_is_found_by_the_context_of_the_model_file(scene: Scene) -> None:
    scene.server.shown = show()
    for _ in range(40):
        assert scene.raw("hello", read=1, written=255) == Truncation()
    found = scene.raw("hello", read=1, written=256)
    assert (found.kind, found.context_length, found.lost_tokens) == ("context_shift", CONTEXT, 1)


def test_the_screen_only_suspects(server: Server, capture: Capture) -> None:
    scene = Scene(server, capture, "screen")
    found = scene.raw(LONG, read=258, num_ctx=512)
    assert found == Truncation(kind="prompt_cut", certainty="suspected", context_length=512)
    assert scene.raw("short", read=258, num_ctx=512) == Truncation()
    assert scene.raw(LONG, read=257, num_ctx=512) == Truncation()
    assert scene.raw(LONG, read=258) == Truncation()
    assert (scene.events(), scene.counts(), server.questions) == ([], {}, [])


def test_without_a_context_the_server_is_asked_for_it(server: Server, capture: Capture) -> None:
    server.shown = {**show(), "parameters": ""}
    server.loaded = 512
    scene = Scene(server, capture)
    scene.raw("hello", read=1)
    long = " ".join(["hello"] * 400)
    scene.raw(long, read=258)
    [event] = scene.events()
    assert event[names.TRUNCATION_LOST_TOKENS] == 799 - 258
    assert event[names.TRUNCATION_CONTEXT_LENGTH] == 512
    assert server.questions.count("/api/ps") == 1


@pytest.mark.parametrize("mode", ["screen", "confirm", "check"])
@pytest.mark.parametrize("fallback", [Fallback(model="n"), Fallback(host="http://other.example")])
def test_of_a_call_that_a_fallback_served_nothing_is_said(
    server: Server, capture: Capture, mode: str, fallback: Fallback
) -> None:
    scene = Scene(server, capture, mode)
    scene.raw("hello", read=1)
    known = scene.directory.known(URL, "m")
    make_resilient(scene.client, Resilience(fallback=[fallback]))
    server.failing = True
    assert scene.raw(LONG, read=CUT, written=9999) == Truncation()
    assert scene.raw("hello world", read=7, num_ctx=2048) == Truncation()
    assert capture.records[-1].resilience.attempts == 2
    assert (scene.events(), scene.counts()) == ([], {})
    assert known is None or not known.is_doubted


def test_a_context_that_a_call_asked_for_is_not_that_of_others(
    server: Server, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    server.shown = {**show(), "parameters": ""}
    scene = Scene(server, capture, "check")
    server.seen = 64
    scene.raw("hello", read=1, num_ctx=64)
    scene.raw("hello", read=1, num_ctx=64)
    server.seen = 4096
    assert scene.raw(LONG, read=WHOLE) == Truncation()
    assert [each.getMessage() for each in caplog.records if "truncation" in each.name] == []
    server.seen = 64
    scene.raw("hello", read=1)
    scene.raw(LONG, read=WHOLE)
    assert any("does not fit into its context of 64" in line for line in caplog.messages)


@pytest.mark.parametrize("mode", ["screen", "confirm"])
def test_a_server_that_gives_more_context_than_requested_shifts_nothing(
    server: Server, capture: Capture, mode: str
) -> None:
    scene = Scene(server, capture, mode)
    for _ in range(3):
        found = scene.raw(" ".join(["hello"] * 256), read=511, written=90, num_ctx=256)
        assert found.kind is None
    assert (scene.events(), scene.counts()) == ([], {})


def test_a_context_that_was_seen_is_worth_more_than_a_model_file_that_was_read_before(
    scene: Scene,
) -> None:
    scene.server.seen = 4096
    assert scene.raw("hello", read=1, written=400) == Truncation()
    assert scene.events() == []


def test_of_images_nothing_is_said(scene: Scene) -> None:
    scene.server.read = CUT
    messages = [{"role": "user", "content": LONG, "images": [b"image"]}]
    scene.client.chat("m", messages)
    scene.settle()
    assert scene.events() == []


def test_truncate_false_is_not_looked_at(scene: Scene) -> None:
    before = len(scene.server.questions)
    scene.server.read = CUT
    body = {"model": "m", "prompt": LONG, "raw": True, "truncate": False, "stream": False}
    scene.client._client.post("/api/generate", json=body)
    scene.settle()
    assert scene.capture.records[-1].truncation == Truncation()
    assert len(scene.server.questions) == before


def test_short_prompts_are_counted_to_learn_and_then_left_alone(scene: Scene) -> None:
    for _ in range(20):
        scene.raw("hello", read=1, num_ctx=2048)
    put, counted = scene.worker.put, list[int]()

    def note(job: Callable[[], None], size: int = 0) -> bool:
        counted.append(size)
        return put(job, size)

    scene.worker.put = note  # type: ignore[method-assign]
    for _ in range(16):
        scene.raw("hello", read=1, num_ctx=2048)
    # Of one: the count, and what is learnt from it.
    assert sum(size > 0 for size in counted) == 2


def test_one_warning_says_what_to_do(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        scene.raw(LONG, read=CUT)
    [line] = [each.getMessage() for each in caplog.records if "truncation" in each.name]
    assert "164 of 199 tokens" in line
    assert "num_ctx to 512 or more" in line
    assert "truncate=false" in line
    assert "hello" not in line
    assert scene.counts() == {"prompt_cut": 3}


def test_a_prompt_that_will_not_fit_is_warned_of_before_it_is_sent(
    server: Server, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(server, capture, "check")
    scene.raw("hello", read=1)
    said = list[str]()
    server.before = lambda: said.extend(caplog.messages)
    scene.raw(LONG, read=CUT)
    [line] = said
    assert "has 199 tokens and does not fit into its context of 64" in line


@pytest.mark.parametrize("mode", ["off", "screen", "confirm", "check"])
def test_what_is_sent_and_returned_is_the_same(server: Server, capture: Capture, mode: str) -> None:
    bodies = list[bytes]()

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return server.handle(request)

    settings = Settings(truncation=mode, vocabulary_cache=None)  # type: ignore[arg-type]
    client = httpx.Client(base_url=URL, transport=httpx.MockTransport(handle))
    body = json.dumps({"model": "m", "prompt": LONG, "stream": False}).encode()
    plain = client.post("/api/generate", content=body)
    instrument_client(client, settings=settings, **capture.options)
    recorded = client.post("/api/generate", content=body)
    assert telemetry.worker().drain(20)
    assert bodies == [body, body]
    assert recorded.content == plain.content


def assert_(holds: bool) -> None:
    assert holds
