"""Retries, the limiter, the breaker and fallbacks against the real server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable

import ollama
import pytest

from ollama_otel import AsyncClient, Client, ClientDefaults, call_context
from ollama_otel.resilience import (
    Breaker,
    CircuitOpenError,
    DeadlineError,
    Fallback,
    Limiter,
    LimiterState,
    Resilience,
    Retries,
)
from ollama_otel.testing import Capture

from .conftest import StartOllama
from .servers import RealOllama
from .servers.processes import free_ports

MODEL = "tiny-agent"
HELLO = [{"role": "user", "content": "Hello"}]
STORY = [{"role": "user", "content": "Tell me a story."}]
PATIENCE = 60.0


def test_a_call_goes_through_a_restart_of_the_server(
    start_ollama: StartOllama, capture: Capture
) -> None:
    """It begins while nothing listens, and ends when the server is back: one record, one span."""
    (port,) = free_ports(1)
    policy = Resilience(retries=Retries(200, first_wait=0.1, longest_wait=0.3), deadline=PATIENCE)
    client = Client(f"http://127.0.0.1:{port}", resilience=policy, **capture.options)
    answers: list[ollama.ChatResponse] = []
    caller = threading.Thread(target=lambda: answers.append(client.chat(MODEL, HELLO)))
    caller.start()
    with start_ollama(port=port):
        caller.join(PATIENCE)
        assert answers
        assert answers[0].message.content
        client.chat(MODEL, HELLO)
    client.close()
    first, second = capture.records
    assert first.outcome == "completed"
    assert first.resilience.attempts == len(first.resilience.retried) + 1 >= 2
    assert set(first.resilience.retried) <= {"connect", "network", "incomplete"}
    assert sum(first.phases.values()) == pytest.approx(first.duration, abs=0.01)
    assert second.resilience.attempts == 1
    assert [span.name for span in capture.spans] == [f"chat {MODEL}"] * 2


def test_a_crashed_engine_is_tried_again(real_ollama: RealOllama, capture: Capture) -> None:
    """A call that is not streamed gets a 500 if its engine is killed; the next attempt reloads it."""
    policy = Resilience(retries=Retries(5, first_wait=0.1))
    client = Client(real_ollama.url, resilience=policy, **capture.options)
    client.chat(MODEL, HELLO)
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.02):
            if a_call_is_running(capture):
                real_ollama.kill_engine()
                return

    killer = threading.Thread(target=kill)
    killer.start()
    answers = [client.chat(MODEL, STORY) for _ in range(3)]
    done.set()
    killer.join(PATIENCE)
    client.close()
    assert all(answer.done for answer in answers)
    assert {record.outcome for record in capture.records} == {"completed"}


def a_call_is_running(capture: Capture) -> bool:
    return capture.total("ollama.client.request.active") > 0


def test_the_wait_is_ours_and_no_longer_the_servers(
    real_ollama: RealOllama, capture: Capture
) -> None:
    """With as many slots in the limiter as in the server, nothing waits in the server."""
    limiter = Limiter(concurrency=1)
    client = Client(real_ollama.url, resilience=Resilience(limiter=limiter), **capture.options)
    aclient = AsyncClient(
        real_ollama.url, resilience=Resilience(limiter=limiter), **capture.options
    )
    client.chat(MODEL, HELLO)
    capture.clear()

    async def several() -> None:
        await asyncio.gather(*(aclient.chat(MODEL, STORY) for _ in range(4)))
        await aclient.close()

    threads = [threading.Thread(target=client.chat, args=(MODEL, STORY)) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: asyncio.run(several())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    client.close()
    assert len(capture.records) == 8
    waits = sorted(record.resilience.limiter_wait or 0.0 for record in capture.records)
    queued = sorted(record.queue_estimate or 0.0 for record in capture.records)
    served = sum(record.response.total_duration or 0.0 for record in capture.records)
    assert waits[-1] > 0.5 * served, "the last one has waited for all others"
    assert queued[-1] < 0.5 * waits[-1]
    assert limiter.states() == {real_ollama.url: LimiterState(0, 0)}


def test_one_call_does_not_wait_for_a_batch(real_ollama: RealOllama, capture: Capture) -> None:
    limiter = Limiter(concurrency=1)
    client = Client(real_ollama.url, resilience=Resilience(limiter=limiter), **capture.options)
    client.chat(MODEL, HELLO)
    capture.clear()

    def call(user: str) -> None:
        with call_context(user_id=user):
            client.chat(MODEL, HELLO)

    held = limiter._enter(real_ollama.url, None)
    batch = [threading.Thread(target=call, args=("batch",)) for _ in range(20)]
    for thread in batch:
        thread.start()
    until(lambda: limiter.states()[real_ollama.url].waiting == 20)
    ada = threading.Thread(target=call, args=("ada",))
    ada.start()
    until(lambda: limiter.states()[real_ollama.url].waiting == 21)
    held.leave()
    for thread in (*batch, ada):
        thread.join(PATIENCE)
    client.close()
    users = [record.start.context.user_id for record in capture.records]
    assert Counter(users) == {"batch": 20, "ada": 1}
    assert users.index("ada") <= 2


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_that_is_left_frees_its_slot_for_the_next(
    real_ollama: RealOllama, capture: Capture
) -> None:
    policy = Resilience(limiter=Limiter(concurrency=1, max_wait=PATIENCE))
    client = Client(real_ollama.url, resilience=policy, **capture.options)
    stream = client.chat(MODEL, STORY, stream=True)
    next(stream)
    impatient = Client(real_ollama.url, resilience=Resilience(limiter=policy.limiter, deadline=0.3))
    with pytest.raises(DeadlineError):
        impatient.chat(MODEL, HELLO)
    impatient.close()
    stream.close()
    assert client.chat(MODEL, HELLO).done
    client.close()
    assert [record.outcome for record in capture.records] == ["abandoned", "completed"]


def test_a_server_that_is_down_is_left_alone_and_another_serves(
    real_ollama: RealOllama, capture: Capture
) -> None:
    (port,) = free_ports(1)
    down = f"http://127.0.0.1:{port}"
    breaker = Breaker(minimum_calls=2, open_for=1000)
    client = Client(
        down,
        resilience=Resilience(breaker=breaker, fallback=[Fallback(host=real_ollama.url)]),
        **capture.options,
    )
    for _ in range(3):
        assert client.chat(MODEL, HELLO).done
    client.close()
    assert breaker.states() == {down: "open", real_ollama.url: "closed"}
    assert [record.resilience.attempts for record in capture.records] == [2, 2, 1]
    for record, span in zip(capture.records, capture.spans, strict=True):
        assert record.resilience.server_port == real_ollama.port
        assert span.attributes is not None
        assert span.attributes["server.port"] == real_ollama.port
    alone = Client(down, resilience=Resilience(breaker=breaker), **capture.options)
    with pytest.raises(CircuitOpenError):
        alone.chat(MODEL, HELLO)
    alone.close()


def test_a_smaller_model_serves_for_one_that_is_not_there(
    real_ollama: RealOllama, capture: Capture
) -> None:
    policy = Resilience(retries=Retries(3), fallback=[Fallback(model=MODEL)])
    client = Client(real_ollama.url, resilience=policy, **capture.options)
    assert client.chat("llama3.1:70b", HELLO).model == MODEL
    client.close()
    (record,) = capture.records
    assert record.start.request.model == "llama3.1:70b"
    assert record.resilience.retried == ("model_not_found",), "it was asked for once"


def test_defaults_reach_the_server(real_ollama: RealOllama, capture: Capture) -> None:
    defaults = ClientDefaults(
        base_url=real_ollama.url, model=MODEL, options={"num_predict": 3}, deadline=PATIENCE
    )
    client = Client(defaults=defaults, **capture.options)
    answer = client.chat(messages=STORY)
    client.close()
    assert (answer.model, answer.eval_count, answer.done_reason) == (MODEL, 3, "length")
