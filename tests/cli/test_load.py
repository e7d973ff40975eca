"""The command `load`: what it sends, prints and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel.replay import read
from ollama_otel.testing import FakeOllama, Fault
from tests.replay.call_lines import ask, lines, write

pytestmark = pytest.mark.sockets

Print = pytest.CaptureFixture[str]
COMMAND = (sys.executable, "-c", "import sys; from ollama_otel._cli import main; sys.exit(main())")
ON_TIME = (0, 1)
"""Exit statuses of a run to its end: a slow machine may be late, and then says so."""


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama()


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    with fake.serve() as url:
        yield url


def load(url: str, *arguments: str) -> list[str]:
    return ["load", "--host", url, *arguments]


def short(url: str, *arguments: str) -> list[str]:
    """Five requests within a quarter of a second."""
    return load(url, "--model", "llama3.2", "--rate", "20", "--duration", "0.25", *arguments)


@pytest.mark.slow
def test_a_run_prints_its_result(url: str, fake: FakeOllama, capsys: Print) -> None:
    assert main(short(url)) in ON_TIME
    told = capsys.readouterr().out
    assert told.startswith(
        f"Sending to {url}.\nModel llama3.2, at most 64 tokens in an answer.\n20/s: 5 requests, "
    )
    assert "5 of 5 requests sent: 5 completed, 0 failed, 0 unfinished." in told
    for name in ("time to first token", "latency", "schedule delay"):
        assert f"\n{name} " in told
    # One to warm up.
    assert len(fake.requests) == 6
    bodies = [received.json() for received in fake.requests]
    assert bodies[1]["messages"][0]["content"] == "1. Tell me a short story."
    assert {body["options"]["num_predict"] for body in bodies} == {64}


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 88])
def test_lines_fit_into_a_narrow_terminal(
    url: str, capsys: Print, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(
        load(url, "--model", "llama3.2", "--rates", "20,40", "--duration", "0.25", "--repeat", "2")
    )
    told = capsys.readouterr().out
    tables = [
        line for line in told.splitlines() if not line.startswith(("Sending", "20/s:", "40/s:"))
    ]
    assert max(map(len, tables)) <= columns
    assert "2 runs at 20/s" in told
    assert "95 % confidence" in told


@pytest.mark.slow
def test_the_result_as_json(url: str, capsys: Print) -> None:
    assert main(short(url, "--json", "--arrivals", "constant")) in ON_TIME
    told = json.loads(capsys.readouterr().out)
    [stage] = told["stages"]
    [run] = stage["runs"]
    assert (stage["rate"], run["stop"], run["stop_detail"]) == (20.0, "finished", None)
    assert run["requests"] == {
        "planned": 5,
        "sent": 5,
        "completed": 5,
        "most_in_flight": run["requests"]["most_in_flight"],
    }
    assert run["intended_rate"] == pytest.approx(25)
    assert run["latency"]["count"] == 5
    assert run["schedule_delay"]["p99"] <= run["latency"]["max"]
    assert run["warm_up"][0]["model"] == "llama3.2"
    assert run["verdict"] == stage["verdict"]
    assert "knee" not in told


@pytest.mark.slow
def test_late_requests_are_told_first(url: str, fake: FakeOllama, capsys: Print) -> None:
    from ollama_otel._load import calls

    real = calls.send

    async def held_up(*arguments: object) -> object:
        time.sleep(0.02)  # noqa: ASYNC251 - that is what holds it up
        return await real(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        # As a machine that is busy with something else.
        patch.setattr("ollama_otel._load.run.send", held_up)
        assert main(short(url)) == 1
    told = capsys.readouterr().out
    assert "20/s: 5 requests" in told and ", generator-bound\n" in told
    first_of_result = told.split("generator-bound\n")[1]
    assert first_of_result.startswith(
        "Generator-bound at 20/s: 99 % of the requests were sent within "
    )
    assert "these are not the results of the server" in " ".join(told.split())


@pytest.mark.slow
def test_the_calls_can_be_logged_with_their_stage(url: str, tmp_path: Path, capsys: Print) -> None:
    log = tmp_path / "load.jsonl"
    assert main(short(url, "--log", str(log))) in ON_TIME
    logged = list(read(log))
    tags = Counter(call.start.context.tags["load_stage"] for call in logged)
    assert tags == {"warm-up": 1, "20/s": 5}
    assert all(call.request_body is None for call in logged)
    assert all(call.record and call.record.response.output_tokens for call in logged)


@pytest.mark.slow
def test_prompts_of_a_file_are_asked_in_turn(url: str, fake: FakeOllama, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("First\n\nSecond {n}\n")
    assert main(short(url, "--prompts", str(file), "--num-predict", "5")) in ON_TIME
    asked = sorted(received.json()["messages"][0]["content"] for received in fake.requests[1:])
    assert asked == ["First", "First", "First", "Second 2", "Second 4"]


@pytest.mark.slow
def test_prompts_that_come_again_are_told(url: str, capsys: Print) -> None:
    again = "The same prompts are repeated, and the server takes their beginning from its cache"
    assert main(short(url, "--prompt", "Hello")) in ON_TIME
    assert again in capsys.readouterr().out
    assert main(short(url, "--prompt", "{n}. Hello")) in ON_TIME
    assert main(short(url)) in ON_TIME
    assert again not in capsys.readouterr().out


def recorded(path: Path, **options: object) -> Path:
    """A session of two calls, and a call beside it."""
    first, second, third = (ask(str(number), model="llama3.2") for number in range(3))
    return write(
        path,
        lines("1", first, at=0.0, duration=0.05, conversation="a", **options),
        lines("2", second, at=0.15, duration=0.05, conversation="a", **options),
        lines("3", third, at=0.2, **options),
        lines("4", {"model": "m"}, path="/api/pull", at=0.3),
    )


@pytest.mark.slow
def test_a_log_is_sent_with_its_sessions(
    url: str, fake: FakeOllama, tmp_path: Path, capsys: Print
) -> None:
    log = recorded(tmp_path / "calls.jsonl")
    assert main(load(url, "--from", str(log), "--speed", "2")) in ON_TIME
    told = capsys.readouterr().out
    assert (
        "Left out 1 call: only inference is sent.\n3 recorded calls, 1 session of several calls.\n"
        in told
    )
    assert "recorded: 3 requests" in told
    assert len(fake.requests) == 4


@pytest.mark.slow
def test_the_times_of_a_log_without_bodies(
    url: str, fake: FakeOllama, tmp_path: Path, capsys: Print
) -> None:
    log = recorded(tmp_path / "facts.jsonl", bodies=False)
    assert main(load(url, "--from", str(log))) == 2
    assert "record with replay_bodies=True, or give prompts" in capsys.readouterr().err
    assert fake.requests == []
    command = load(url, "--from", str(log), "--model", "llama3.2", "--prompt", "Hi {n}")
    assert main(command) in ON_TIME
    asked = {received.json()["messages"][0]["content"] for received in fake.requests}
    assert asked == {"Hi 1", "Hi 2", "Hi 3"}


@pytest.mark.slow
def test_requests_of_a_log_can_be_sent_at_a_rate(
    url: str, fake: FakeOllama, tmp_path: Path
) -> None:
    log = recorded(tmp_path / "calls.jsonl")
    assert main(load(url, "--from", str(log), "--rate", "20", "--duration", "0.25")) in ON_TIME
    asked = Counter(received.json()["messages"][0]["content"] for received in fake.requests[1:])
    assert asked == {"0": 2, "1": 2, "2": 1}


@pytest.mark.slow
def test_failures_are_told_and_stop_the_run(url: str, fake: FakeOllama, capsys: Print) -> None:
    assert main(short(url)) in ON_TIME
    fake.script("/api/chat")
    fake.fault("/api/chat", Fault())  # the warm-up
    fake.fault("/api/chat", Fault(error_at=0), times=100)
    assert main(load(url, "--model", "llama3.2", "--rate", "50", "--duration", "20")) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "Stopped early (errors): 100% of the latest requests failed" in told
    assert "Failures: " in told


@pytest.mark.slow
def test_a_model_that_is_not_there_gives_status_2(
    url: str, fake: FakeOllama, capsys: Print
) -> None:
    assert main(load(url, "--model", "nope")) == 2
    assert "did not complete: model 'nope' not found (model_not_found)" in capsys.readouterr().err
    assert len(fake.requests) == 1


def test_a_server_that_is_not_there_gives_status_2(capsys: Print) -> None:
    assert main(load("127.0.0.1:1", "--model", "m")) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        "ollama-otel: expected an Ollama server at http://127.0.0.1:1, found none"
    )


@pytest.mark.slow
def test_what_was_measured_before_the_server_broke_is_reported(
    url: str, fake: FakeOllama, capsys: Print
) -> None:
    for fault in (*[Fault()] * 6, Fault(error_at=0)):  # a warm-up, a stage, a warm-up
        fake.fault("/api/chat", fault)
    command = load(url, "--model", "llama3.2", "--rates", "20,40", "--duration", "0.25")
    assert main(command) == 2
    told = capsys.readouterr()
    assert "5 of 5 requests sent: 5 completed" in told.out
    assert told.err.startswith(f"ollama-otel: the warm-up at {url} did not complete: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected what to send: --model NAME, or --from LOG"),
        (["--prompt", "x"], "expected what to send: --model NAME, or --from LOG"),
        (
            ["--model", "m", "--rate", "5000"],
            "are 150000 requests, and --max-requests allows 10000",
        ),
        (
            ["--model", "m", "--rate", "5000", "--max-requests", "1000000"],
            "at most 1000 requests/s",
        ),
        (["--model", "m", "--rates", "1,5000"], "are 150000 requests, and --max-requests allows"),
        (["--model", "m", "--rates", "1,2", "--find-knee"], "either --rates or --find-knee"),
        (["--model", "m", "--ttft-target", "1"], "targets are for --find-knee"),
        (["--model", "m", "--max-error-rate", "3"], "expected max_error_rate to be from 0 to 1"),
        (
            ["--model", "m", "--prompts", "/dev/null"],
            "expected prompts, one on each line, found none",
        ),
    ],
)
def test_what_cannot_be_used_gives_status_2(
    arguments: list[str], told: str, url: str, fake: FakeOllama, capsys: Print
) -> None:
    assert main(load(url, *arguments)) == 2
    assert told in capsys.readouterr().err
    assert fake.requests == []


def test_the_log_that_is_read_is_bounded(
    url: str, fake: FakeOllama, tmp_path: Path, capsys: Print
) -> None:
    log = recorded(tmp_path / "calls.jsonl")
    assert main(load(url, "--from", str(log), "--max-requests", "2")) == 2
    assert (
        "the log has more than 2 calls, and --max-requests allows no more"
        in capsys.readouterr().err
    )
    assert fake.requests == []


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_run_tells_what_there_is(url: str, fake: FakeOllama) -> None:
    command = load(url, "--model", "llama3.2", "--rate", "50", "--duration", "100")
    process = subprocess.Popen(
        [*COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    while len(fake.requests) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (130, "")
    assert "Stopped early (interrupted)." in told
    assert "of 5000 requests sent: " in told


@pytest.mark.slow
def test_the_knee_is_searched(url: str, capsys: Print) -> None:
    # A fake server breaks no rate; it is the target that none can keep.
    command = load(
        url, "--model", "llama3.2", "--find-knee", "--ttft-target", "1e-9", "--rate", "8"
    )
    main([*command, "--duration", "0.25"])
    told = capsys.readouterr().out
    assert "The server held none of the tried rates" in told or "not sent on time" in told
