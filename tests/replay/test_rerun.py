"""Recorded requests are sent to a server again, and its answers logged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from ollama_otel._log.call import RecordedCall
from ollama_otel.errors import ReplayError, SettingsError
from ollama_otel.replay import compare, plan_rerun, read, rerun
from ollama_otel.replay._diff.pairing import REPLAY_OF
from ollama_otel.replay._one_file_log import one_file_log
from ollama_otel.replay._rerun import RerunProgress
from ollama_otel.testing import FakeOllama, Fault, Reply

from .call_lines import SECOND, ask, call, lines, write

HOST = "http://ollama.test:1"


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def question(number: int, **options: Any) -> RecordedCall:
    return call(str(number), ask(f"Question {number}", model="llama3.2"), at=number, **options)


def questions(count: int) -> list[RecordedCall]:
    return [question(number) for number in range(count)]


def send(
    calls: list[RecordedCall], out: Path, fake: FakeOllama | None = None, **options: Any
) -> RerunProgress:
    """Make the calls again, in process, as fast as they go."""
    if fake is not None:
        options = {"host": HOST, "transport": fake.transport(), **options}
    options = {"concurrency": 2, **options} if "speed" not in options else options
    return asyncio.run(rerun(plan_rerun(calls, out=out), **options))


def repeated(out: Path) -> list[str]:
    """The ids of the calls that were made again, sorted."""
    return sorted(call.start.context.tags[REPLAY_OF] for call in read(out))


# --- the plan -------------------------------------------------------------------------------------


def test_only_inference_is_sent(out: Path) -> None:
    others = ("/api/show", "/api/pull", "/api/create", "/api/copy", "/api/push")
    calls = [
        *(call(path, {"model": "m"}, path=path) for path in others),
        call("generate", {"model": "m", "prompt": "a"}, path="/api/generate", at=1),
        call("embed", {"model": "m", "input": "a"}, path="/api/embed", at=2),
        call("chat", at=3),
    ]
    plan = plan_rerun(calls, out=out)
    assert [each.id for each in plan.calls] == ["generate", "embed", "chat"]
    assert plan.left_out == {"not_inference": 5}


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("no_body", {"bodies": False}),
        ("no_body", {"changes": ["binary"]}),
        ("images", {"changes": ["images"]}),
        ("redacted", {"changes": ["redacted"]}),
        ("redirected", {"http_status": 307}),
    ],
)
def test_what_is_left_out_is_counted_by_its_reason(
    reason: str, options: dict[str, Any], out: Path
) -> None:
    plan = plan_rerun([call("1", **options), call("2")], out=out)
    assert [each.id for each in plan.calls] == ["2"]
    assert plan.left_out == {reason: 1}


def test_redacted_requests_are_sent_on_demand(out: Path) -> None:
    plan = plan_rerun([call(changes=["redacted"])], out=out, redacted=True)
    assert (len(plan.calls), plan.left_out) == (1, {})


def test_calls_are_planned_in_the_order_in_which_they_began(out: Path) -> None:
    plan = plan_rerun(reversed(questions(3)), out=out)
    assert [each.id for each in plan.calls] == ["0", "1", "2"]
    assert plan.offsets == [0.0, 1.0, 2.0]
    assert plan.duration == 2.0
    assert plan_rerun([], out=out).duration == 0.0


def test_a_limit_counts_calls_of_the_log(out: Path) -> None:
    calls = [call("x", bodies=False, at=-1), *questions(3)]
    assert [each.id for each in plan_rerun(calls, out=out, limit=2).calls] == ["0", "1"]
    write(out, lines("a", tags={REPLAY_OF: "0"}))
    plan = plan_rerun(calls, out=out, limit=2)
    assert ([each.id for each in plan.calls], plan.answered) == (["1"], 1)


def test_a_call_that_never_ended_is_sent(out: Path) -> None:
    assert len(plan_rerun([call(ends=False)], out=out).calls) == 1


def test_the_log_itself_takes_no_answers(tmp_path: Path) -> None:
    log = write(tmp_path / "a.jsonl", lines())
    with pytest.raises(ReplayError, match="a file other than the log itself"):
        plan_rerun(read(log), out=log)


# --- what is sent ---------------------------------------------------------------------------------


def test_each_request_is_sent_as_it_was_logged(fake: FakeOllama, out: Path) -> None:
    calls = [question(1), call("2", {"model": "nomic-embed-text", "input": "a"}, path="/api/embed")]
    assert send(calls, out, fake) == RerunProgress(total=2, ended=2)
    asked = {received.path: received.json() for received in fake.requests[1:]}
    assert asked["/api/chat"] == calls[0].request_body
    assert asked["/api/embed"] == {"model": "nomic-embed-text", "input": "a"}


def test_answers_are_logged_whole_and_say_which_call_they_repeat(
    fake: FakeOllama, out: Path
) -> None:
    send([question(7, conversation="c")], out, fake)
    (answered,) = read(out)
    assert answered.start.context.tags == {REPLAY_OF: "7"}
    assert answered.start.context.conversation_id == "c"
    assert answered.request_body == question(7).request_body
    assert answered.record is not None
    assert answered.record.outcome == "completed"
    said = answered.answer()
    assert said is not None
    assert said.text == fake_reply()


def fake_reply() -> str:
    with httpx.Client(transport=FakeOllama().transport(), base_url=HOST) as client:
        asked = ask("Question 7", model="llama3.2")
        text: str = client.post("/api/chat", json=asked).json()["message"]["content"]
        return text


@pytest.mark.parametrize("media", [False, True])
def test_images_are_sent_and_logged_by_hash_unless_media_are_wanted(
    fake: FakeOllama, out: Path, media: bool
) -> None:
    fake.script("/api/chat", Reply.json({"message": {"content": "A dot."}, "done": True}))
    message = {"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="]}
    send([call("1", ask(messages=[message]))], out, fake, media=media)
    assert fake.requests[-1].json()["messages"] == [message]
    (answered,) = read(out)
    mark = {
        "ollama_otel": "omitted",
        "sha256": "4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6",
        "size": 8,
        "type": "image/png",
    }
    logged = message if media else {**message, "images": [mark]}
    assert answered.request_body["messages"] == [logged]
    again = plan_rerun([answered], out=out.with_name("third.jsonl"))
    assert again.left_out == ({} if media else {"images": 1})


def test_the_model_can_be_another(fake: FakeOllama, out: Path) -> None:
    send(questions(2), out, fake, model="qwen3")
    assert {received.json()["model"] for received in fake.requests[1:]} == {"qwen3"}


def test_a_path_before_the_api_is_that_of_the_new_host(fake: FakeOllama, out: Path) -> None:
    fake.script("/new/api/chat", Reply.json({"message": {"content": "Hi."}, "done": True}))
    send([question(1, path="/old/api/chat")], out, fake, host=f"{HOST}/new")
    assert [received.path for received in fake.requests] == ["/new/api/version", "/new/api/chat"]


def test_half_a_surrogate_pair_is_sent_on(fake: FakeOllama, out: Path) -> None:
    fake.script("/api/chat", Reply.json({"message": {"content": "?"}, "done": True}))
    send([call("1", json.loads(r'{"model": "m", "messages": [{"content": "\ud800"}]}'))], out, fake)
    assert b"\\ud800" in fake.requests[-1].body


def test_what_is_logged_goes_through_redactors(fake: FakeOllama, out: Path) -> None:
    send(
        [question(1)], out, fake, redactors=[lambda text: text.replace("Question", "[redacted: q]")]
    )
    assert "Question" in fake.requests[-1].body.decode()
    assert "Question" not in out.read_text()


def test_a_re_run_can_be_compared_with_what_it_repeats(fake: FakeOllama, out: Path) -> None:
    calls = questions(3)
    send(calls, out, fake)
    comparison = compare(calls, read(out))
    assert [(pair.before.id, pair.changed) for pair in comparison.pairs] == [
        (str(number), {"text", "tokens"}) for number in range(3)
    ]
    assert comparison.only_after == ()


def test_a_log_named_in_the_environment_gets_nothing(
    fake: FakeOllama, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_OTEL_REPLAY_LOG", str(tmp_path / "other.jsonl"))
    send(questions(1), out, fake)
    assert not (tmp_path / "other.jsonl").exists()


# --- how fast -------------------------------------------------------------------------------------


class Slow(httpx.AsyncBaseTransport):
    """Takes a moment for each call, and notes how many there are at a time."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.under_way = self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/version":
            self.starts.append(time.perf_counter())
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0.1)
            self.under_way -= 1
        return httpx.Response(200, json={"message": {"content": "Hi."}, "done": True})


@pytest.mark.slow
@pytest.mark.sockets
def test_no_more_are_sent_at_a_time_than_asked_for(out: Path) -> None:
    slow = Slow()
    send(questions(7), out, host=HOST, transport=slow, concurrency=3)
    assert (slow.most, len(slow.starts)) == (3, 7)


@pytest.mark.slow
@pytest.mark.sockets
def test_calls_begin_at_the_recorded_distances_divided_by_the_speed(out: Path) -> None:
    slow, calls = Slow(), [question(number) for number in (0, 2, 5)]
    send(calls, out, host=HOST, transport=slow, speed=10.0)
    first, *others = slow.starts
    for start, due in zip(others, (0.2, 0.5), strict=True):
        assert due - 0.02 <= start - first < due + 1.0


@pytest.mark.slow
@pytest.mark.sockets
def test_calls_overlap_as_they_did(out: Path) -> None:
    slow, calls = Slow(), [question(0), question(0), question(0)]
    send(calls, out, host=HOST, transport=slow, speed=1.0)
    assert slow.most == 3


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"speed": 0.0}, {"speed": float("inf")}, {"host": "h:port"}]
)
def test_values_that_cannot_be_used_are_errors(
    options: dict[str, Any], fake: FakeOllama, out: Path
) -> None:
    with pytest.raises(SettingsError):
        send(questions(1), out, fake, **options)
    assert fake.requests == []


def test_trio_runs_it_too(fake: FakeOllama, out: Path) -> None:
    async def run() -> RerunProgress:
        plan = plan_rerun(questions(3), out=out)
        return await rerun(plan, host=HOST, concurrency=2, transport=fake.transport())

    assert trio.run(run).ended == 3


# --- other models -------------------------------------------------------------------------------


def with_embeddings() -> list[RecordedCall]:
    vectors = call("v", {"model": "embedder", "input": "x"}, path="/api/embed", at=5)
    return [*questions(2), vectors]


def models_sent(out: Path) -> dict[str, set[str | None]]:
    sent: dict[str, set[str | None]] = {}
    for each in read(out):
        sent.setdefault(each.path, set()).add(each.start.request.model)
    return sent


def test_a_new_model_that_is_not_there_is_an_error_with_near_names(
    fake: FakeOllama, out: Path
) -> None:
    with pytest.raises(ReplayError, match=r"found 'qwen4'; did you mean qwen3\?"):
        send(questions(2), out, fake, model="qwen4")
    with pytest.raises(ReplayError, match="found 'xyz'; there is"):
        send(questions(2), out, fake, model={"llama3.2:latest": "xyz"})
    assert not out.exists()
    # A model that no call would use is not looked for.
    assert send(questions(2), out, fake, model={"other": "xyz"}).ended == 2


def test_embeddings_do_not_go_to_a_chat_model(fake: FakeOllama, out: Path) -> None:
    progress = send(with_embeddings(), out, fake, model="qwen3")
    assert progress == RerunProgress(total=2, ended=2, unsuited=1)
    assert models_sent(out) == {"/api/chat": {"qwen3"}}


def test_completions_do_not_go_to_an_embedding_model(fake: FakeOllama, out: Path) -> None:
    progress = send(with_embeddings(), out, fake, model="nomic-embed-text")
    assert progress == RerunProgress(total=1, ended=1, unsuited=2)
    assert models_sent(out) == {"/api/embed": {"nomic-embed-text"}}


def test_single_models_are_replaced(fake: FakeOllama, out: Path) -> None:
    new = {"LLAMA3.2:latest": "qwen3", "embedder": "nomic-embed-text"}
    assert send(with_embeddings(), out, fake, model=new).failed == 0
    assert models_sent(out) == {"/api/chat": {"qwen3"}, "/api/embed": {"nomic-embed-text"}}


@pytest.mark.parametrize("said", [Reply.error(404, "page not found"), Reply.json({"x": 1})])
def test_a_server_that_does_not_describe_models_gets_all_calls(
    fake: FakeOllama, out: Path, said: Reply
) -> None:
    fake.script("/api/show", said)
    assert send(with_embeddings(), out, fake, model="qwen3").ended == 3


# --- what goes wrong ------------------------------------------------------------------------------


def test_failed_calls_are_logged_and_stop_nothing(fake: FakeOllama, out: Path) -> None:
    fake.fault("/api/chat", Fault(cut_at=5))
    seen: list[RerunProgress] = []
    progress = send(questions(3), out, fake, concurrency=1, on_progress=seen.append)
    assert progress == RerunProgress(total=3, ended=3, failed=1, failures={"incomplete": 1})
    assert [each.ended for each in seen] == [0, 1, 2, 3]
    assert len(repeated(out)) == 3


def test_the_start_is_told_once_before_the_first_call_and_after_all_checks(
    fake: FakeOllama, out: Path
) -> None:
    sent: list[int] = []

    def start(progress: RerunProgress) -> None:
        assert progress.total == 3
        if progress.ended:
            return
        sent.append(sum(request.path == "/api/chat" for request in fake.requests))

    send(questions(3), out, fake, concurrency=1, on_progress=start)
    assert sent == [0]
    with pytest.raises(ReplayError):
        send(questions(3), out.with_name("b.jsonl"), fake, model="absent", on_progress=start)
    assert sent == [0]


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_one_error_and_no_log(out: Path) -> None:
    fake = FakeOllama()
    fake.fault("/api/version", Fault(refuse=True))
    with pytest.raises(ReplayError, match=f"expected an Ollama server at {HOST}, found none"):
        send(questions(500), out, fake)
    assert len(fake.requests) == 1
    assert not out.exists()


def test_a_log_that_cannot_be_written_is_an_error(fake: FakeOllama, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="expected a file that can be written"):
        send(questions(1), tmp_path / "no" / "such" / "folder.jsonl", fake)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_disk_that_takes_no_answers_is_an_error() -> None:
    with (
        pytest.raises(ReplayError, match="cannot write every call to /dev/full"),
        one_file_log(Path("/dev/full"), timeout=0.1) as log,
    ):
        log.begin(question(1).start)


# --- going on -------------------------------------------------------------------------------------


def test_what_was_answered_is_not_sent_again(fake: FakeOllama, out: Path) -> None:
    send(questions(2), out, fake)
    plan = plan_rerun(questions(5), out=out)
    assert plan.answered == 2
    assert send(questions(5), out, fake).ended == 3
    assert repeated(out) == ["0", "1", "2", "3", "4"]
    assert send(questions(5), out, fake) == RerunProgress(total=0)


def test_what_reached_no_server_is_sent_again(fake: FakeOllama, out: Path) -> None:
    fake.fault("/api/chat", Fault(refuse=True), times=2)
    assert send(questions(3), out, fake) == RerunProgress(
        total=3, ended=3, failed=2, unreachable=2, failures={"connect": 2}
    )
    assert send(questions(3), out, fake) == RerunProgress(total=2, ended=2)
    assert len(compare(questions(3), read(out)).pairs) == 3


def test_what_failed_for_another_reason_is_not(fake: FakeOllama, out: Path) -> None:
    fake.script("/api/chat", Reply.error(500, "no"))
    assert send(questions(1), out, fake).failed == 1
    assert plan_rerun(questions(1), out=out).calls == ()


@pytest.mark.slow
@pytest.mark.sockets
def test_calls_under_way_at_a_cancellation_are_not_done(out: Path) -> None:
    fake = FakeOllama()
    fake.fault("/api/chat", Fault(stall_at=20), times=9)

    async def interrupted() -> None:
        plan = plan_rerun(questions(3), out=out)
        running = asyncio.create_task(rerun(plan, host=url, concurrency=3))
        while len(fake.requests) < 4:  # noqa: ASYNC110 - filled by threads
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with fake.serve() as url:
        asyncio.run(interrupted())
    outcomes = [each.record and each.record.outcome for each in read(out)]
    assert outcomes == ["cancelled"] * 3
    assert len(plan_rerun(questions(3), out=out).calls) == 3


# --- over a socket --------------------------------------------------------------------------------


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    with fake.serve() as url:
        yield url


@pytest.mark.slow
@pytest.mark.sockets
def test_it_works_over_a_socket_and_with_streams(url: str, out: Path) -> None:
    asked = [ask(f"{number}", model="llama3.2", stream=True) for number in range(20)]
    calls = [call(str(number), body) for number, body in enumerate(asked)]
    assert send(calls, out, host=url, concurrency=5).ended == 20
    answers = list(read(out))
    assert all(each.record and each.record.outcome == "completed" for each in answers)
    assert all(each.chunks and len(each.chunks) > 1 for each in answers)
    assert max(each.start.started_at for each in answers) > SECOND
