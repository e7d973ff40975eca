"""A sample of the logged requests is sent to another model, and compared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ollama_otel.analysis import Advice, advise, open_log
from ollama_otel.analysis._advice.advice import Unchecked
from ollama_otel.analysis._advice.advisor import with_trial
from ollama_otel.analysis._advice.trial import try_model
from ollama_otel.errors import AnalysisError, ReplayError
from ollama_otel.replay import read
from ollama_otel.replay._diff.pairing import REPLAY_OF
from ollama_otel.testing import FakeOllama, Fault
from tests.replay.call_lines import SECOND, answer, ask, lines, write

Tried = Advice | Unchecked | None


def log_of(tmp_path: Path, count: int = 30, **options: Any) -> Path:
    calls = [
        lines(str(number), ask(f"Question {number}", model="large"), at=number, **options)
        for number in range(count)
    ]
    other = [lines("other", ask(model="rare"), at=99, **options)]
    return write(tmp_path / "calls.jsonl", *calls, *other)


def tried(
    log: Path, model: str = "llama3.2", fake: FakeOllama | None = None, **options: Any
) -> Tried:
    transport = (fake or FakeOllama()).transport()
    out = log.with_name("out.jsonl")
    return asyncio.run(
        try_model(log, model, host="http://ollama.test:1", out=out, transport=transport, **options)
    )


@pytest.mark.slow
def test_a_faster_model_is_advised_with_what_was_measured(tmp_path: Path) -> None:
    loading = answer(load_duration=5 * SECOND)
    log = log_of(tmp_path, said=loading, duration=65.0)
    found = tried(log)
    assert isinstance(found, Advice)
    assert (found.kind, found.model, found.value) == ("model_too_large", "large", "llama3.2")
    assert found.calls == 20
    assert found.median == 60.0
    assert found.median_after is not None
    assert found.median_after < 60.0
    assert "those of large 30." in found.seen
    assert f"ollama-otel diff {log} {log.with_name('out.jsonl')}" in found.change


def test_the_sample_is_of_the_whole_log(tmp_path: Path) -> None:
    log = log_of(tmp_path, duration=60.0)
    tried(log, sample=3)
    sent = [call.start.context.tags[REPLAY_OF] for call in read(log.with_name("out.jsonl"))]
    assert sent == ["0", "10", "20"]


def test_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    log, fake = log_of(tmp_path, duration=60.0), FakeOllama()
    first = tried(log, fake=fake, sample=3)
    sent = len(fake.requests)
    assert tried(log, fake=fake, sample=3) == first
    assert len(fake.requests) == sent


def test_a_model_that_is_not_faster_is_no_advice(tmp_path: Path) -> None:
    assert tried(log_of(tmp_path, duration=0.0), sample=2) is None


def test_a_model_that_is_not_there_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    log = log_of(tmp_path, duration=60.0)
    with pytest.raises(ReplayError, match="found 'nobodys'; there is"):
        tried(log, "nobodys", sample=2)


def test_a_model_that_cannot_chat_is_said_and_nothing_is_sent(tmp_path: Path) -> None:
    log, fake = log_of(tmp_path, duration=60.0), FakeOllama()
    with pytest.raises(AnalysisError, match="nomic-embed-text, which only makes embeddings"):
        tried(log, "nomic-embed-text", fake, sample=2)
    assert "/api/chat" not in [request.path for request in fake.requests]


def test_a_model_that_answers_nothing_is_said(tmp_path: Path) -> None:
    busy = FakeOllama()
    busy.fault("/api/chat", Fault(cut_at=0), times=9)
    found = tried(log_of(tmp_path, duration=60.0), "qwen3", busy, sample=2)
    assert isinstance(found, Unchecked)
    assert "2 requests were sent, and all failed" in found.lacks


def test_a_log_without_bodies_cannot_be_tried(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="replay_bodies=True"):
        tried(log_of(tmp_path, bodies=False))
    with pytest.raises(AnalysisError, match="another model than large"):
        tried(write(tmp_path / "own.jsonl", lines("1", ask(model="large"))), "large")


@pytest.mark.sockets
def test_without_a_server_nothing_is_written(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    with pytest.raises(ReplayError, match="found none that responds"):
        asyncio.run(try_model(log, "m2", host="http://127.0.0.1:9", out=log.with_name("out.jsonl")))
    assert not log.with_name("out.jsonl").exists()


@pytest.mark.slow
def test_a_trial_joins_the_other_advice(tmp_path: Path) -> None:
    log = log_of(tmp_path, duration=60.0)
    with open_log(log, cache=False) as calls:
        advisory = advise(calls)
    kind = "model_too_large"
    assert kind in [entry.kind for entry in advisory.unchecked]
    found = tried(log, sample=2)
    joined = with_trial(advisory, found)
    assert found in joined.advice
    assert kind not in [entry.kind for entry in joined.unchecked]
    assert kind in with_trial(advisory, None).nothing_found
    failed = Unchecked(kind="model_too_large", lacks="an answer", turn_on="a look")
    assert with_trial(advisory, failed).unchecked[-1] is failed
