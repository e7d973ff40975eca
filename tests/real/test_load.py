"""The load generator against a real Ollama: its results are those of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_otel import Client, call_context
from ollama_otel._cli import main
from ollama_otel.load import (
    LoadError,
    at_rate,
    prompt_requests,
    recorded_requests,
    run_load,
)
from ollama_otel.replay import ReplayLog, read

from .servers import RealOllama

Print = pytest.CaptureFixture[str]
MODEL = "tiny-agent"


def chats(count: int, most_tokens: int = 16) -> Any:
    return prompt_requests(["{n}. Tell me a story"], count, model=MODEL, most_tokens=most_tokens)


def test_what_the_server_reports_lies_within_what_is_measured(real_ollama: RealOllama) -> None:
    result = run_load(at_rate(chats(20), 5.0, 4.0), host=real_ollama.url)
    assert (result.stop, len(result.completed)) == ("finished", 20)
    assert len(result.warm_up) == 1
    for each in result.requests:
        response = each.record.response
        assert response.output_tokens is not None and 0 < response.output_tokens <= 16
        assert response.total_duration is not None
        assert response.total_duration <= each.record.duration <= each.latency
        assert each.time_to_first_token is not None and each.time_to_first_answer is not None
        assert each.time_to_first_token <= each.time_to_first_answer <= each.latency
        assert not each.record.cold_start
    assert result.output_token_rate is not None
    assert {"load", "queue_estimate", "prompt_eval", "eval", "client"} <= result.phases.keys()


def test_requests_beyond_the_one_slot_wait_in_the_server(real_ollama: RealOllama) -> None:
    plan = at_rate(chats(8, 64), 1000.0, 0.008)
    result = run_load(plan, host=real_ollama.url)
    assert len(result.completed) == 8
    assert result.most_in_flight >= 2
    waits = [each.record.queue_estimate for each in result.completed]
    assert max(wait for wait in waits if wait is not None) > 0


def test_a_server_that_does_not_keep_up_stops_the_run(real_ollama: RealOllama) -> None:
    # Several times what one slot can do, and no more than a busy machine can send.
    result = run_load(at_rate(chats(3600, 400), 60.0, 60.0), host=real_ollama.url)
    assert result.stop == "saturated"
    assert result.stop_detail is not None and "both kept rising" in result.stop_detail
    assert len(result.requests) < 3600
    assert result.unfinished > 0
    # What was cancelled does not hold the next ones up.
    after = run_load(at_rate(chats(3), 1.0, 3.0), host=real_ollama.url)
    assert (after.stop, len(after.completed)) == ("finished", 3)


def test_a_recorded_session_is_sent_with_its_dependencies(
    real_ollama: RealOllama, tmp_path: Path
) -> None:
    log = tmp_path / "calls.jsonl"
    with (
        ReplayLog(log, bodies=True) as observer,
        Client(real_ollama.url, observers=[observer]) as client,
    ):
        with call_context(conversation_id="c-1"):
            for text in ("Hello", "And then?"):
                client.chat(MODEL, [{"role": "user", "content": text}], options={"num_predict": 8})
        client.embed("tiny-embed", ["one", "two"])
        client.list()
    recording = recorded_requests(read(log))
    assert (len(recording.plan), recording.sessions) == (3, 1)
    assert recording.left_out == {"not_inference": 1}
    result = run_load(recording.plan, host=real_ollama.url)
    assert len(result.completed) == 3
    first, second, third = sorted(result.requests, key=lambda each: each.position)
    assert second.intended_at >= first.ended_at
    assert second.record.start.context.conversation_id == "c-1"
    assert third.record.start.endpoint.name == "embed"
    assert third.time_to_first_token is None
    assert {record.start.request.model for record in result.warm_up} == {MODEL, "tiny-embed"}


def test_a_model_that_it_does_not_have(real_ollama: RealOllama) -> None:
    plan = at_rate(prompt_requests(["Hi"], 1, model="nope"), 1.0, 1.0)
    with pytest.raises(LoadError, match="model 'nope' not found"):
        run_load(plan, host=real_ollama.url)


def test_the_command_measures_and_logs(
    real_ollama: RealOllama, tmp_path: Path, capsys: Print
) -> None:
    log = tmp_path / "load.jsonl"
    command = ["load", "--host", real_ollama.url, "--model", MODEL, "--rates", "5,10"]
    # 1: a busy machine may send too late, and says so.
    assert main([*command, "--duration", "2", "--num-predict", "8", "--log", str(log)]) in {0, 1}
    told = capsys.readouterr().out
    assert "tokens/s" in told
    stages = [call.start.context.tags["load_stage"] for call in read(log)]
    assert (stages.count("5/s"), stages.count("10/s"), stages.count("warm-up")) == (10, 20, 2)
