"""The command `advise`: what it prints, and its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from ollama_otel._cli import advice_view, main
from ollama_otel.analysis import AdviceKind
from tests.analysis.advice import cases
from tests.analysis.advice.synthetic import Call, call, write

pytestmark = pytest.mark.slow

Print = pytest.CaptureFixture[str]


def printed(log: Path, capsys: Print, *arguments: str) -> str:
    assert main(["advise", str(log), "--no-cache", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_advice_is_printed_with_its_saving_and_its_calls(tmp_path: Path, capsys: Print) -> None:
    log = write(tmp_path / "calls.jsonl", cases.mixed_num_ctx())
    text = printed(log, capsys)
    assert "1. num_ctx differs from call to call: qwen3:8b at 127.0.0.1:11434\n" in text
    assert "Saves about 1.99 s of each: the median of 9 calls goes from 3.00 s to 1.01 s" in (
        " ".join(text.split())
    )
    assert "Change: Send num_ctx 2048 with every call to qwen3:8b" in " ".join(text.split())
    assert "   Calls: c1 c2 c3 c4 c5\n" in text
    assert "   More: docs/advice.md#mixed_num_ctx\n" in text
    assert f"See a call: ollama-otel show {log} ID\n" in text
    assert "configure(residency=True)" in text
    assert "Looked for and not found:" in text
    lines = [line for line in text.splitlines() if str(log) not in line]
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_log_without_faults_says_what_was_looked_for(tmp_path: Path, capsys: Print) -> None:
    text = printed(write(tmp_path / "calls.jsonl", [call(0)]), capsys)
    assert text.startswith("1 call, median 1.00 s: nothing to change was found.\n")
    assert "See a call" not in text
    assert "tool loops" in text.partition("Looked for and not found:")[2]
    assert "the same prompt again and again" in text.partition("Could not be checked")[2]


def test_the_first_ten_are_printed(tmp_path: Path, capsys: Print) -> None:
    calls: list[Call] = [
        (start, record)
        for number in range(12)
        for start, record in [
            call(number * 100 + each, model=f"m{number}", options={"temperature": 1},
                 request={"asks_for_json": True})
            for each in range(5)
        ]
    ]  # fmt: skip
    log = write(tmp_path / "calls.jsonl", calls)
    text = printed(log, capsys)
    assert "10. JSON" in text
    assert "11. JSON" not in text
    assert "2 more: --all prints them.\n" in text
    assert "12. JSON" in printed(log, capsys, "--all")


def test_json_has_everything(tmp_path: Path, capsys: Print) -> None:
    log = write(tmp_path / "calls.jsonl", cases.mixed_num_ctx())
    found = json.loads(printed(log, capsys, "--json"))
    assert found.keys() == {"calls", "median", "advice", "unchecked", "nothing_found"}
    (advice,) = found["advice"]
    assert advice["saves"] == pytest.approx(1.99)
    assert advice["docs"] == "docs/advice.md#mixed_num_ctx"
    assert advice["value"] == "2048"
    assert advice["evidence"] == ["c1", "c2", "c3", "c4", "c5"]


def test_calls_can_be_chosen(tmp_path: Path, capsys: Print) -> None:
    calls = [*cases.mixed_num_ctx(), call(500, model="other")]
    log = write(tmp_path / "calls.jsonl", calls)
    assert printed(log, capsys, "--model", "other").startswith("1 call")


def test_names_of_models_cannot_move_the_cursor(tmp_path: Path, capsys: Print) -> None:
    calls = [
        call(number, model="m\x1b[2J", options={"temperature": 1}, request={"asks_for_json": True})
        for number in range(5)
    ]
    assert "\x1b" not in printed(write(tmp_path / "calls.jsonl", calls), capsys)


def test_without_calls_the_status_is_2(tmp_path: Path, capsys: Print) -> None:
    assert main(["advise", str(tmp_path / "none.jsonl")]) == 2
    assert "found none" in capsys.readouterr().err


def test_every_kind_has_a_title() -> None:
    assert set(advice_view._TITLES) == set(get_args(AdviceKind))
