"""Equal requests are found by their bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_otel.analysis import Advice, Advisory, advise, open_log
from ollama_otel.analysis._advice.advice import Unchecked
from tests.replay.call_lines import ask, lines, write

pytestmark = pytest.mark.slow

Log = list[list[dict[str, Any]]]


def advised(tmp_path: Path, log: Log) -> Advisory:
    path = write(tmp_path / "calls.jsonl", *log)
    with open_log(path, cache=False) as calls:
        return advise(calls, log=path)


def same_prompt(advisory: Advisory) -> Advice | None:
    found = [advice for advice in advisory.advice if advice.kind == "same_prompt"]
    return found[0] if found else None


def equal(count: int, text: str = "Why?", **options: Any) -> Log:
    return [
        lines(f"{text} {number}", ask(text), at=number, duration=1.0 + number, **options)
        for number in range(count)
    ]


def test_equal_requests_are_found(tmp_path: Path) -> None:
    found = same_prompt(advised(tmp_path, equal(6)))
    assert found is not None
    assert found.calls == 5
    assert found.median == 4.0
    assert found.median_after == 0.0
    assert found.saved_in_all == 20.0
    assert found.evidence == ("Why? 0", "Why? 1", "Why? 2", "Why? 3", "Why? 4")
    assert "one request 6 times" in found.seen


def test_several_requests_are_one_advice(tmp_path: Path) -> None:
    found = same_prompt(advised(tmp_path, equal(6) + equal(7, "What?")))
    assert found is not None
    assert found.calls == 11
    assert "2 requests again and again, one of them 7 times" in found.seen


def test_a_stream_is_the_same_request(tmp_path: Path) -> None:
    log = [
        lines(str(number), ask("Why?", stream=number % 2 == 0), at=number) for number in range(6)
    ]
    assert same_prompt(advised(tmp_path, log)) is not None


def test_requests_that_differ_in_the_text_only_are_not_equal(tmp_path: Path) -> None:
    """Of the same size, and with the same number of tokens."""
    log = [lines(str(number), ask(f"Is {number} prime?"), at=number) for number in range(9)]
    advisory = advised(tmp_path, log)
    assert same_prompt(advisory) is None
    assert "same_prompt" in advisory.nothing_found


def test_four_are_too_few(tmp_path: Path) -> None:
    assert same_prompt(advised(tmp_path, equal(4))) is None


def test_redacted_requests_are_left_out(tmp_path: Path) -> None:
    assert same_prompt(advised(tmp_path, equal(6, changes=["redacted"]))) is None


def test_without_bodies_nothing_is_guessed(tmp_path: Path) -> None:
    advisory = advised(tmp_path, equal(6, bodies=False))
    assert same_prompt(advisory) is None
    assert "same_prompt" in [entry.kind for entry in advisory.unchecked]


def test_without_the_log_the_rule_is_not_applied(tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", *equal(6))
    with open_log(path, cache=False) as calls:
        unchecked = advise(calls).unchecked
    assert (
        Unchecked(
            kind="same_prompt",
            lacks="the requests themselves",
            turn_on="configure(replay_log=..., replay_bodies=True)",
        )
        in unchecked
    )
