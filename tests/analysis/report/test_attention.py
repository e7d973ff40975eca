"""What needs attention: planted changes are found, chance is not, and words say what was counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ollama_otel.analysis import Report, open_log, report
from ollama_otel.analysis._report.attention import is_comparable, score
from ollama_otel.analysis._report.period import period_of, width_of

from . import story

FIRST = datetime.fromtimestamp(story.START / 1e9, UTC)


def made(path: Path, *, since: datetime | None = None, until: datetime | None = None) -> Report:
    with open_log(path, cache=False) as calls:
        return report(calls, since=since, until=until, is_quick=True)


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story.write(tmp_path_factory.mktemp("log") / "calls.jsonl")


def kinds(found: Report) -> dict[tuple[str, str | None], str]:
    return {(one.measure, one.subject): one.kind for one in found.findings}


@pytest.mark.slow
def test_each_planted_change_is_found(worse: Path) -> None:
    found = kinds(made(worse))
    gemma, llama = "gemma3:27b", "llama3.2:latest"
    planted = {
        ("failed", None),
        ("cold", None),
        ("off_gpu", None),
        ("duration_p50", gemma),
        ("decode_rate_p50", gemma),
        ("first_answer_p95", llama),
    }
    assert planted <= {what for what, kind in found.items() if kind == "worse"}
    assert found["cut", None] == "high"
    assert not any(subject == "qwen3:8b" for _, subject in found)


@pytest.mark.slow
def test_a_change_says_where_it_is_and_what_was_counted(worse: Path) -> None:
    [failed] = [one for one in made(worse).findings if one.measure == "failed"]
    assert failed.before is not None
    assert failed.value > 5 * failed.before
    assert "Most with qwen3:8b" in failed.text
    assert "standard errors" in failed.evidence
    assert failed.section == "errors"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_chance_is_no_finding(tmp_path: Path, seed: int) -> None:
    path = story.write(tmp_path / "calls.jsonl", calls=3000, is_worse=False, seed=seed)
    assert [one.text for one in made(path).findings if one.kind != "high"] == []


@pytest.mark.slow
def test_the_period_before_is_compared_if_the_log_has_it(worse: Path) -> None:
    middle = FIRST + timedelta(days=3.5)
    found = made(worse, since=middle, until=middle + timedelta(days=3))
    assert found.period.compares == "period_before"
    assert found.period.before == middle - timedelta(days=3)
    assert kinds(found)["failed", None] == "worse"
    [calls] = [total for total in found.totals if total.name == "calls"]
    assert calls.before is not None
    assert found.calls.total == calls.value
    late = made(worse, since=middle - timedelta(days=3), until=middle)
    assert late.period.compares == "halves"
    assert all(total.before is None for total in late.totals)


@pytest.mark.slow
def test_what_gets_better_is_told_last(worse: Path) -> None:
    order = ["worse", "high", "better", "changed"]
    found = [one.kind for one in made(worse).findings]
    assert found == sorted(found, key=order.index)


@pytest.mark.slow
def test_few_calls_are_not_compared(tmp_path: Path) -> None:
    found = made(story.write(tmp_path / "calls.jsonl", calls=20))
    assert not found.period.is_comparable
    assert not any(one.kind in {"worse", "better", "changed"} for one in found.findings)


@pytest.mark.slow
def test_more_calls_are_a_change_and_no_fault(tmp_path: Path) -> None:
    path = story.write(tmp_path / "calls.jsonl", calls=3000, is_worse=False, seconds=story.WEEK)
    lines = path.read_bytes().splitlines(keepends=True)
    # The calls of the second half become four: their copies have ids of their own.
    middle = (FIRST + timedelta(days=3.5)).isoformat()[:19].encode()
    late = [line for line in lines if line.split(b'"at":"')[1][:19] > middle]
    with path.open("ab") as file:
        for copy in (b"a", b"b", b"c"):
            file.writelines(line.replace(b'"id":"0', b'"id":"' + copy, 1) for line in late)
    found = made(path).findings
    assert ("calls", "changed") in {(one.measure, one.kind) for one in found}
    assert not any(one.kind == "worse" for one in found)


# --- the test -----------------------------------------------------------------------------


def even(share: float, calls: int = 100, intervals: int = 12) -> Sequence[tuple[float, float]]:
    return [(calls, calls * share)] * intervals


def test_a_score_counts_standard_errors() -> None:
    # Without scatter it is the test of two proportions.
    value = score(even(0.10), even(0.20))
    pooled = 0.15 * 0.85 * (2 / 1200)
    assert value == pytest.approx(0.1 / pooled**0.5)
    assert score(even(0.20), even(0.10)) == pytest.approx(-0.1 / pooled**0.5)


def test_a_burst_does_not_count_as_many_witnesses() -> None:
    # One bad interval of twelve: as many failures, but all at once.
    burst = [(100.0, 0.0)] * 11 + [(100.0, 100.0)]
    assert (score(even(0.0), burst) or 0) < 4
    assert (score(even(0.0), even(1 / 12)) or 0) > 4


def test_too_little_has_no_score() -> None:
    assert score(even(0.1, intervals=5), even(0.2)) is None
    assert score(even(0.1, calls=2, intervals=12), even(0.2)) is None
    assert score(even(0.0), even(0.0)) is None
    assert score([], []) is None
    assert not is_comparable({"shares": []})


# --- periods ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "width"),
    [(0.1, 1), (119, 1), (120, 1), (121, 2), (3600, 30), (86400, 900), (120 * 86400, 86400)],
)
def test_time_is_divided_in_widths_that_people_count_in(seconds: float, width: int) -> None:
    assert width_of(seconds, 120) == width


def test_a_long_log_has_no_more_places_than_a_short_one() -> None:
    assert width_of(3650 * 86400, 120) == 31 * 86400


def test_one_call_has_a_period() -> None:
    period = period_of(FIRST, FIRST, None, None)
    assert period.start < period.now < period.end
    assert period.compares == "halves"
