"""The command `capacity`: what it prints, and what it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel.analysis._capacity.server import ServerSetup
from ollama_otel.analysis._capacity.simulation import simulate
from tests.analysis.capacity.simulated_log import poisson, write_log
from tests.analysis.capacity.test_learning import SPEED

Print = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ends = simulate(poisson(2.5, 300), ServerSetup(models={"m": SPEED}, num_parallel=2)).ends
    return write_log(tmp_path_factory.mktemp("log") / "calls.jsonl", ends)


def shown(capsys: Print) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_it_says_how_many_users_a_server_takes(log: Path, capsys: Print) -> None:
    assert main(["capacity", str(log), "--ttft", "300ms", "--think-time", "5s"]) == 0
    told = shown(capsys)
    assert told.startswith("127.0.0.1:11434: 300 calls in ")
    assert "With NUM_PARALLEL 2 it serves " in told
    assert "at p95 first token under 0.3 s, who think 5 s between calls; " in told
    assert "NUM_PARALLEL 4 gives " in told or "NUM_PARALLEL 8 gives " in told
    assert "The knee is at " in told
    for title in ("Forecast: 1 times", "Load and time", "Learned from the log", "simulated again"):
        assert title in told
    assert "1.9 GB" in told


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 88])
def test_a_narrow_terminal_is_enough(
    log: Path, capsys: Print, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["capacity", str(log), "--load", "1.5", "--think-time", "1s"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= columns
    assert "speed-up of 2, 4 at once" in told


@pytest.mark.slow
def test_the_answer_as_json_has_no_calls(log: Path, capsys: Print) -> None:
    assert (
        main(
            [
                "capacity",
                str(log),
                "--json",
                "--think-time",
                "1s",
                "--load",
                "2",
                "--num-parallel",
                "4",
            ]
        )
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert (answer["workload"]["calls"], answer["workload"]["num_parallel"]) == (300, 2)
    assert not {"demands", "_evidence", "durations"} & answer["workload"].keys()
    assert answer["scenario"]["num_parallel"] == 4
    p95 = answer["forecast"]["time_to_first_token"]["p95"]
    assert p95["low"] <= p95["value"] <= p95["high"]
    assert [each["scenario"]["num_parallel"] for each in answer["users"]] == [4, 1, 2, 8]
    assert answer["workload"]["models"]["m"]["speed"]["size"] == 1_900_000_000


@pytest.mark.slow
def test_what_is_different_is_forecast(log: Path, capsys: Print) -> None:
    arguments = ["capacity", str(log), "--json", "--users", "3", "--mix", "m:latest=1"]
    arguments += ["--think-time", "0.5s"]
    arguments += ["--decode-speed", "2", "--prefill-speed", "3", "--load-speed", "2"]
    arguments += ["--max-loaded", "1", "--max-queue", "5", "--keep-alive", "1m", "--memory", "24GB"]
    arguments += ["--recorded-num-parallel", "3", "--recorded-max-loaded", "2", "--seed", "7"]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    scenario = answer["scenario"]
    assert scenario["users"] == 3
    assert scenario["memory"] == 24_000_000_000
    assert scenario["keep_alive"] == 60.0
    assert scenario["mix"] == {"m": 1.0}
    assert (answer["workload"]["num_parallel"], answer["workload"]["max_loaded"]) == (3, 2)
    assert "waits" not in " ".join(answer["sentences"])


@pytest.mark.slow
def test_an_overload_is_said(log: Path, capsys: Print) -> None:
    assert main(["capacity", str(log), "--load", "20", "--think-time", "1s"]) == 0
    assert "calls come faster than the server completes them" in shown(capsys)


@pytest.mark.slow
def test_calls_to_several_servers_need_a_name(log: Path, tmp_path: Path, capsys: Print) -> None:
    ends = simulate(poisson(2.5, 20), ServerSetup(models={"m": SPEED})).ends
    write_log(tmp_path / "a.jsonl", ends)
    lines = (tmp_path / "a.jsonl").read_text()
    write_log(tmp_path / "b.jsonl", ends, port=11500)
    other = (tmp_path / "b.jsonl").read_text().replace("run-", "other-")
    both = tmp_path / "both.jsonl"
    both.write_text(lines + other)
    assert main(["capacity", str(both)]) == 2
    assert "expected calls to one server, found 2" in capsys.readouterr().err
    assert main(["capacity", str(both), "--server", "127.0.0.1:11500", "--think-time", "1s"]) == 0


@pytest.mark.slow
def test_a_mix_of_unknown_models_is_an_error(log: Path, capsys: Print) -> None:
    assert main(["capacity", str(log), "--mix", "nope=1"]) == 2
    assert "mix: expected models with recorded calls (m), found 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("--ttft", "soon", "expected a time such as 2s or 500ms, found 'soon'"),
        ("--memory", "much", "expected a size such as 24GB, found 'much'"),
        ("--mix", "m", "expected MODEL=SHARE such as llama3.2=0.8, found 'm'"),
        ("--load", "0", "expected a number above 0, found '0'"),
        ("--num-parallel", "0", "expected a whole number of at least 1, found '0'"),
    ],
)
def test_wrong_values_are_said(
    log: Path, capsys: Print, argument: str, value: str, error: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["capacity", str(log), argument, value])
    assert caught.value.code == 2
    assert error in " ".join(capsys.readouterr().err.split())
