"""One story of a dialect that the library does not know, through the public ways only.

A server on a socket streams server-sent events to an httpx client. The calls become spans, metrics
and a log; the log is read, played, served, sent again, compared, kept as a cassette and shown.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from ollama_otel import Settings, instrument_client
from ollama_otel import _names as names
from ollama_otel._asgi import (
    Event,
    Receive,
    Send,
    read_body,
    run_lifespan,
    send_document,
    send_head,
    send_piece,
)
from ollama_otel._cli import main
from ollama_otel._guard import guard
from ollama_otel._wire.endpoints import added_dialect
from ollama_otel._wire.sse import SSE
from ollama_otel.records import CallRecord, Message, Text, Thinking, ToolCall
from ollama_otel.redaction import emails
from ollama_otel.replay import (
    Player,
    RecordedCall,
    ReplayApp,
    ReplayLog,
    compare,
    plan_rerun,
    read,
    replay,
    rerun,
)
from ollama_otel.testing import Capture
from tests.toy_dialect import ASK, TOY, stream

pytestmark = pytest.mark.sockets

pytest_plugins = ["pytester"]

Print = pytest.CaptureFixture[str]

EVENTS = "text/event-stream"
QUESTION = "Where does Joe live?"
SECRET = "joe@example.com"
HIDDEN = "[redacted: email]"
ANSWER: tuple[Mapping[str, Any], ...] = (
    {"musing": "A person. "},
    {"musing": "Ask him."},
    {"words": "Write to joe@exa"},
    {"words": "mple.com"},
    {"words": ", please."},
    {"device": "look_up", "with": {"name": "Joe"}},
)
OTHER_ANSWER: tuple[Mapping[str, Any], ...] = (
    {"musing": "A person. "},
    {"words": "I cannot say."},
    {"device": "look_up", "with": {"name": "Jim"}},
)
SAID = Message(
    role="assistant",
    parts=(
        Thinking("A person. Ask him."),
        Text(f"Write to {HIDDEN}, please."),
        ToolCall(name="look_up", arguments={"name": "Joe"}),
    ),
)
BUSY, CRASHED, CUT, LEFT = "Be busy", "Crash", "Be cut off", "Talk on"


def asked(words: str = QUESTION, **fields: Any) -> dict[str, Any]:
    said = [{"by": "user", "words": words}]
    return {"who": "toy-1", "said": said, "live": True, "devices": ["look_up"]} | fields


class ToyServer:
    """Answers in the toy's protocol; the words of a question decide how."""

    def __init__(self) -> None:
        self._is_paced = False
        self._read = threading.Semaphore(0)

    def paced(self, it: httpx.Client, body: Any) -> Generator[bytes, None, None]:
        """Ask, and give the pieces of the answer; each event is sent when the last was read."""
        self._is_paced, self._read = True, threading.Semaphore(0)
        try:
            with it.stream("POST", ASK.path, json=body) as response:
                for piece in response.iter_raw():
                    yield piece
                    self._read.release()
        finally:
            self._is_paced = False
            self._read.release()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
            return
        body = json.loads(await read_body(receive) or b"{}")
        words = body["said"][0]["words"] if "said" in body else ""
        if words == BUSY:
            await send_document(send, 503, TOY.error_body("server busy"), "application/json")
            return
        answer = OTHER_ANSWER if body.get("who") == "toy-2" else ANSWER
        events = stream(*answer, end=words != CUT)
        if words == CUT:
            events = events[:3]
        elif words == CRASHED:
            events[3:] = [TOY.error_message("model runner has unexpectedly stopped")]
        await send_head(send, 200, EVENTS)
        for event in events:
            await send_piece(send, event)
            if self._is_paced:
                await asyncio.to_thread(self._read.acquire)
        await send_piece(send, b"", is_last=True)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a port, by uvicorn in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def client(**options: Any) -> httpx.Client:
    # No proxy of the developer's machine between the two, and no certificates to read.
    return httpx.Client(trust_env=False, verify=False, **options)


@dataclass
class Story:
    """What was recorded, and what the caller got."""

    url: str
    log: Path
    capture: Capture
    pieces: list[bytes]
    """Of the first call."""

    @property
    def records(self) -> dict[str, CallRecord]:
        """By the question."""
        return {
            record.start.conversation.question: record
            for record in self.capture.records
            if record.start.conversation is not None
        }

    @property
    def calls(self) -> dict[str, RecordedCall]:
        """Those of the log, by the question."""
        return {
            call.conversation.question: call
            for call in read(self.log)
            if call.conversation is not None
        }

    def span(self, words: str) -> Mapping[str, Any]:
        """The attributes of a call's span."""
        number = list(self.records).index(words)
        return dict(self.capture.spans[number].attributes or {})


@contextmanager
def loud() -> Iterator[None]:
    """What `conftest.loud_guard` does for a test, for a fixture of the module."""
    guard.loud = True
    try:
        yield
    finally:
        guard.loud = False


@pytest.fixture(scope="module", autouse=True)
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    capture, server = Capture(), ToyServer()
    log = tmp_path_factory.mktemp("story") / "calls.jsonl"
    settings = Settings(capture_content="span_and_event", redactors=(emails,))
    with added_dialect(TOY, ASK), serving(server) as url:
        with loud(), ReplayLog(log, bodies=True) as replay_log, client(base_url=url) as it:
            options = {**capture.options, "observers": [capture.observer, replay_log]}
            instrument_client(it, **options, settings=settings)
            pieces = list(server.paced(it, asked()))
            for words in (BUSY, CRASHED, CUT):
                it.post(ASK.path, json=asked(words))
            with closing(server.paced(it, asked(LEFT))) as left:
                next(left)
        yield Story(url=url, log=log, capture=capture, pieces=pieces)


# --- spans, metrics, events ---------------------------------------------------------------


@pytest.mark.slow
def test_the_caller_gets_the_bytes_of_the_server(story: Story) -> None:
    assert story.pieces == stream(*ANSWER)


def test_a_call_is_a_span_by_the_conventions(story: Story) -> None:
    assert story.capture.spans[0].name == "chat toy-1"
    attributes = story.span(QUESTION)
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "toy-1",
        "gen_ai.response.model": "toy-1",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.response.finish_reasons": ("tool_call",),
        "ollama.outcome": "completed",
    }.items() <= attributes.items()


def test_content_on_the_span_is_neutral_and_redacted(story: Story) -> None:
    attributes = story.span(QUESTION)
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}
    ]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "A person. Ask him."},
                {"type": "text", "content": f"Write to {HIDDEN}, please."},
                {
                    "type": "tool_call",
                    "id": None,
                    "name": "look_up",
                    "arguments": {"name": "Joe"},
                },
            ],
            "finish_reason": "tool_call",
        }
    ]
    assert json.loads(attributes["gen_ai.tool.definitions"]) == [
        {"type": "function", "name": "look_up"}
    ]
    events = [event.log_record for event in story.capture.events]
    said = [each.attributes or {} for each in events if each.event_name == names.DETAILS_EVENT]
    assert len(said) == 5
    assert HIDDEN in repr(said[0]["gen_ai.output.messages"])
    assert "joe@" not in repr(said)


def test_metrics_count_its_calls_and_tokens(story: Story) -> None:
    total = story.capture.total
    duration = "gen_ai.client.operation.duration"
    assert total(duration, gen_ai_operation_name="chat", gen_ai_request_model="toy-1") == 5
    assert total(duration, error_type="server_busy") == 1
    tokens = {
        point.attributes["gen_ai.token.type"]: (point.value, point.count)
        for point in story.capture.metrics()["gen_ai.client.token.usage"]
    }
    # The first message of each stream has those of the question, the last one the others.
    assert tokens == {"input": (12, 4), "output": (6, 1)}


@pytest.mark.parametrize(
    ("words", "end", "message"),
    [
        (BUSY, ("failed", "error_status", "server_busy"), "server busy"),
        (
            CRASHED,
            ("failed", "error_message", "runner_crashed"),
            "model runner has unexpectedly stopped",
        ),
        (
            CUT,
            ("failed", "no_final_message", "incomplete"),
            "the answer ended without its final message",
        ),
        (LEFT, ("abandoned", "closed_early", None), None),
    ],
)
def test_other_ends_are_recorded_for_what_they_are(
    story: Story, words: str, end: tuple[str, ...], message: str | None
) -> None:
    logged = story.calls[words].record
    assert logged is not None
    for record in (story.records[words], logged):
        assert (record.outcome, record.ending, record.error_type) == end
        assert record.error_message == message
    assert story.span(words)["ollama.outcome"] == end[0]
    assert story.span(words).get("error.type") == end[2]


# --- the log ------------------------------------------------------------------------------


def test_the_log_has_every_piece_without_the_secret(story: Story) -> None:
    call = story.calls[QUESTION]
    assert call.chunks is not None
    kept = [chunk.data for chunk in call.chunks]
    changed = [number for number, piece in enumerate(story.pieces) if kept[number] != piece]
    # The two events that the address is split over.
    assert (len(kept), changed) == (len(story.pieces), [3, 4])
    assert call.changes == {"redacted"}
    assert b"joe@" not in story.log.read_bytes()
    assert b"mple.com" not in story.log.read_bytes()


def test_a_call_is_read_as_it_was_recorded(story: Story) -> None:
    call, record = story.calls[QUESTION], story.records[QUESTION]
    assert call.answer() == SAID
    assert call.conversation == record.start.conversation
    assert call.record is not None
    assert call.record.response == record.response
    assert call.start.endpoint == ASK
    assert story.calls[CUT].answer() == Message(
        role="assistant", parts=(Thinking("A person. Ask him."),)
    )


# --- playing ------------------------------------------------------------------------------


def body_of(call: RecordedCall) -> bytes:
    assert call.body is not None
    return call.body


def test_the_player_gives_the_logged_bytes(story: Story) -> None:
    with client(transport=Player(story.log, speed=0)) as it:
        for words in (QUESTION, BUSY, CRASHED, CUT):
            played, call = it.post(story.url + ASK.path, json=asked(words)), story.calls[words]
            assert call.record is not None
            assert (played.status_code, played.content) == (
                call.record.http_status,
                body_of(call),
            )


def test_a_block_plays_to_every_client(story: Story) -> None:
    with replay(story.log, speed=0), client() as it:
        response = it.post(f"http://127.0.0.1:9{ASK.path}", json=asked())
    assert response.content == body_of(story.calls[QUESTION])
    assert response.headers["content-type"].startswith(EVENTS)


@pytest.mark.slow
def test_a_server_plays_over_a_socket(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    with serving(ReplayApp(story.log, speed=0)) as url, client() as it:
        assert it.post(url + ASK.path, json=asked()).content == body_of(story.calls[QUESTION])
        missed = it.post(url + ASK.path, json=asked("Who?"))
        assert missed.status_code == 501
        assert missed.json()["trouble"].endswith("the server has logged the reason")
        assert f"said[0].words: logged {QUESTION!r}, asked 'Who?'" in caplog.text
        with pytest.raises(httpx.RemoteProtocolError):
            it.post(url + ASK.path, json=asked(LEFT))


@pytest.mark.processes
def test_a_test_records_a_readable_cassette_and_plays_it(
    story: Story, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    test = pytester.makepyfile(
        test_app=f"""
        import httpx, pytest

        @pytest.mark.ollama_replay
        def test_it():
            with httpx.Client(trust_env=False, verify=False) as client:
                body = client.post({story.url + ASK.path!r}, json={asked()!r}).text
            print(body)
            assert "please" in body
        """
    )
    run = ("-p", "ollama_otel.pytest_plugin", "-p", "no:cacheprovider", "-s")
    assert pytester.runpytest_inprocess(*run).ret == 0
    (cassette,) = pytester.path.rglob("cassettes/**/*.json")
    text = cassette.read_text(encoding="utf-8")
    assert '{"bit":{"choice":0,"words":", please."}}' in text
    assert '"[END]"' in text
    assert "joe@" not in text
    test.write_text(test.read_text().replace(story.url, "http://127.0.0.1:9"))
    played = pytester.runpytest_inprocess(*run)
    assert played.ret == 0
    played.stdout.fnmatch_lines([f'*"words":"Write to {HIDDEN.replace("[", "[[]")}"*'])


# --- sent again, and compared -------------------------------------------------------------


@pytest.fixture(scope="module")
def again(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the same questions to another model."""
    out = tmp_path_factory.mktemp("again") / "again.jsonl"
    plan = plan_rerun(read(story.log), out=out)
    with loud():
        progress = asyncio.run(rerun(plan, host=story.url, model="toy-2", concurrency=1))
    assert (progress.ended, progress.total) == (5, 5)
    return out


@pytest.mark.slow
def test_it_is_sent_again_and_compared(story: Story, again: Path) -> None:
    pairs = {pair.before.id: pair for pair in compare(read(story.log), read(again)).pairs}
    assert len(pairs) == 5
    pair = pairs[story.calls[QUESTION].id]
    assert pair.after.start.request.model == "toy-2"
    assert pair.changed == {"text", "thinking", "tools", "tokens"}
    assert [str(each) for each in pair.tools] == ['$[0].arguments.name: "Joe" -> "Jim"']
    assert (pair.measures["output_tokens"].before, pair.measures["output_tokens"].after) == (6, 3)
    assert pairs[story.calls[BUSY].id].changed == frozenset()


# --- shown --------------------------------------------------------------------------------


def printed(capsys: Print, *arguments: object, status: int = 0) -> str:
    assert main([*map(str, arguments), "--no-color"]) == status
    return capsys.readouterr().out


def test_show_lists_the_calls(story: Story, capsys: Print) -> None:
    lines = printed(capsys, "show", story.log).splitlines()
    (line,) = [line for line in lines if QUESTION in line]
    assert "toy_ask toy-1" in line
    assert "completed" in line
    assert "3/6" in line
    assert "server_busy" in "".join(line for line in lines if BUSY in line)


def test_show_prints_what_was_said(story: Story, capsys: Print) -> None:
    text = printed(capsys, "show", story.log, story.calls[QUESTION].id)
    for part in (
        QUESTION,
        "look_up()",
        "A person. Ask him.",
        f"Write to {HIDDEN}, please.",
        'calls look_up(name="Joe")',
        "3 tokens in, 6 out",
        "Redacted: parts of the text were replaced",
        "curl",
    ):
        assert part in text
    assert "runner_crashed: model runner has unexpectedly stopped" in printed(
        capsys, "show", story.log, story.calls[CRASHED].id
    )


def test_show_prints_it_as_json(story: Story, capsys: Print) -> None:
    call = story.calls[QUESTION]
    assert main(["show", str(story.log), call.id, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {
        "question": QUESTION,
        "answer": f"Write to {HIDDEN}, please.",
        "thinking": "A person. Ask him.",
        "tool_calls": [{"name": "look_up", "arguments": {"name": "Joe"}, "id": None}],
        "input_tokens": 3,
        "output_tokens": 6,
        "finish_reason": "tool_call",
        "dialect": "toy",
        "body": asked(),
    }.items() <= shown.items()


def test_tail_prints_its_events(story: Story, capsys: Print) -> None:
    lines = printed(capsys, "tail", story.log, "--once").splitlines()
    assert len(lines) == 10
    assert all("toy_ask toy-1" in line for line in lines)
    assert [line for line in lines if "completed" in line and "3 in" in line and "6 out" in line]


def test_diff_prints_what_changed(story: Story, again: Path, capsys: Print) -> None:
    text = printed(capsys, "diff", story.log, again, status=1)
    for part in (
        "toy_ask toy-1 -> toy-2",
        "[-Write to [redacted: email], please.-]{+I cannot say.+}",
        "[- Ask him.-]",
        '$[0].arguments.name: "Joe" -> "Jim"',
        "output tokens 6 -> 3",
    ):
        assert part in " ".join(text.split())


@pytest.mark.slow
def test_show_prints_the_bytes_of_the_answer(story: Story, capfdbinary: Any) -> None:
    call = story.calls[QUESTION]
    assert main(["show", str(story.log), call.id, "--body"]) == 0
    out: bytes = capfdbinary.readouterr().out
    assert out == body_of(call)
    assert SSE.payloads(out)[-1] == b"[END]"
