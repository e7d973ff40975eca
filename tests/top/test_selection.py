"""Which calls are shown, in which order."""

from __future__ import annotations

import pytest

from ollama_otel._top.selection import SORTS, selected
from ollama_otel._top.view import CallRow

from .events import NOW, begins, call, state_of


@pytest.fixture
def calls() -> tuple[CallRow, ...]:
    return (
        state_of(
            *call("fast", -30.0, 1.0, model="b", prompt=0.5, tokens=9, conversation="Talk-1"),
            *call("slow", -40.0, 20.0, model="a", prompt=9.0, tokens=5),
            *call("bad", -10.0, 5.0, model="c", outcome="failed", error_type="timeout"),
            begins("now", -3.0, model="a"),
        )
        .view(NOW)
        .calls
    )


def ids(calls: tuple[CallRow, ...], sort: str = "TIME", words: str = "", **more: bool) -> list[str]:
    descending = more.get("descending", True)
    return [row.id for row in selected(calls, sort=sort, descending=descending, words=words)]


def test_sorting(calls: tuple[CallRow, ...]) -> None:
    assert ids(calls) == ["now", "bad", "fast", "slow"]
    assert ids(calls, descending=False) == ["now", "slow", "fast", "bad"], "running ones stay first"
    assert ids(calls, "TOOK") == ["slow", "bad", "now", "fast"]
    assert ids(calls, "CALL", descending=False)[:1] == ["now"]


@pytest.mark.parametrize("descending", [True, False])
def test_unknown_values_come_last(calls: tuple[CallRow, ...], *, descending: bool) -> None:
    found = ids(calls, "PROMPT", descending=descending)
    assert found[:2] == (["slow", "fast"] if descending else ["fast", "slow"])
    assert set(found[2:]) == {"now", "bad"}


def test_every_column_sorts(calls: tuple[CallRow, ...]) -> None:
    for sort in SORTS:
        assert sorted(ids(calls, sort)) == ["bad", "fast", "now", "slow"]


def test_a_filter_wants_all_its_words(calls: tuple[CallRow, ...]) -> None:
    assert ids(calls, words="TIMEOUT") == ["bad"]
    assert ids(calls, words="talk-1") == ["fast"]
    assert ids(calls, words="chat completed") == ["fast", "slow"]
    assert ids(calls, words="running") == ["now"]
    assert ids(calls, words="chat nothing") == []
