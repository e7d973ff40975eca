"""Each verdict: when it is given, with which calls, and when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._log.format import LoggedEnd, LoggedStart
from ollama_otel._top.readings import PsReading
from ollama_otel._top.view import Verdict
from ollama_otel._wire.ps import LoadedModel

from .events import NOW, SERVER, begins, call, state_of

Events = list[LoggedStart | LoggedEnd]


def verdicts(*events: LoggedStart | LoggedEnd) -> list[Verdict]:
    return [*state_of(*events).view(NOW).verdicts]


def calls(
    count: int, prefix: str = "c", *, at: float = -100.0, duration: float = 0.5, **facts: Any
) -> Events:
    """Calls that ended, a second after each other."""
    return [
        event for n in range(count) for event in call(f"{prefix}{n}", at + n, duration, **facts)
    ]


def test_calls_without_a_fault_have_no_verdict() -> None:
    assert verdicts(*calls(20, prompt=0.1, tokens=500, generation=0.3), begins("r", -100.0)) == []


# --- in a row -------------------------------------------------------------------------------


def test_errors_in_a_row() -> None:
    failed = calls(3, outcome="failed", error_type="timeout")
    (verdict,) = verdicts(*calls(5, "ok", at=-200.0), *failed)
    assert (verdict.kind, verdict.model, verdict.server) == ("errors_in_a_row", "m", SERVER)
    assert verdict.sentence == "m: the last 3 calls failed (timeout)"
    assert verdict.calls == ("c0", "c1", "c2")
    assert verdicts(*failed[:4]) == []
    assert verdicts(*failed, *call("ok", -1.0, 0.5)) == [], "the last call was none"
    assert verdicts(*failed, *call("other", -1.0, 0.5, model="other"))[0].calls == (
        "c0",
        "c1",
        "c2",
    )


@pytest.mark.parametrize("outcome", ["cancelled", "abandoned"])
def test_cancels_in_a_row(outcome: str) -> None:
    (verdict,) = verdicts(*calls(4, outcome=outcome))
    assert verdict.kind == "cancels_in_a_row"
    assert verdict.sentence == (
        "m: the last 4 calls were cancelled or abandoned, after 0.5 s (median)"
    )
    assert len(verdict.calls) == 4
    assert verdicts(*calls(4, outcome=outcome), *call("ok", -1.0, 0.5)) == []


def test_what_happened_more_than_five_minutes_ago_is_over() -> None:
    assert verdicts(*calls(4, at=-400.0, outcome="failed", error_type="timeout")) == []


# --- loads and slots ------------------------------------------------------------------------


def test_cold_load_thrash() -> None:
    cold = calls(3, cold_start=True, load=2.0, prompt=0.1, reload_cause="num_ctx")
    (verdict,) = verdicts(*cold)
    assert verdict.kind == "cold_load_thrash"
    assert verdict.sentence == ("m: loaded 3 times in 100 s (num_ctx: 3); calls waited 6.0 s")
    assert verdict.calls == ("c0", "c1", "c2")
    assert verdicts(*cold[:4]) == []


def test_queueing() -> None:
    waited = calls(3, queue=2.0, prompt=0.1, generation=0.1)
    (verdict,) = verdicts(*calls(1, "ok", at=-200.0, prompt=0.1, queue=0.01), *waited)
    assert verdict.kind == "queueing"
    assert verdict.sentence == "m: 3 of 4 calls waited for a slot, about 2.0 s (median)"
    assert verdict.calls == ("c0", "c1", "c2")
    (verdict,) = verdicts(*waited, begins("r1", -2.0), begins("r2", -1.0))
    assert verdict.sentence.endswith("; 1 wait now")
    assert verdicts(*waited[:4]) == []


def test_waiting_for_load() -> None:
    state = state_of(begins("r", -7.0), begins("new", -0.5))
    state.take("ps", PsReading(server=SERVER, at=NOW, models=()), NOW)
    (verdict,) = state.view(NOW).verdicts
    assert (verdict.kind, verdict.calls) == ("waiting_for_load", ("r",))
    assert verdict.sentence == ("m: /api/ps does not list it, 1 call in flight, oldest 7 s")
    state.take("ps", PsReading(server=SERVER, at=NOW, models=(LoadedModel(name="m:latest"),)), NOW)
    assert state.view(NOW).verdicts == ()


# --- prompts --------------------------------------------------------------------------------

FULL = {"size": 4000, "tokens": 1000, "prompt": 1.0, "duration": 4.0}
"""Of an uncached prompt: 1000 tokens a second, four bytes a token."""


def test_waiting_for_prefill_by_estimate() -> None:
    learnt = calls(5, **FULL)
    (verdict,) = verdicts(*learnt, begins("r", -2.0, size=40_000))
    assert (verdict.kind, verdict.calls) == ("waiting_for_prefill", ("r",))
    assert verdict.sentence == "m: 1 call in flight with a long prompt, by estimate 8 s to go"
    assert verdicts(*learnt[:8], begins("r", -2.0, size=40_000)) == [], "too few calls"
    assert verdicts(*learnt, begins("r", -2.0, size=4000)) == [], "its time has passed"


def test_waiting_for_prefill_by_the_calls_that_ended() -> None:
    slow = [event for n in range(3) for event in call(f"c{n}", -90 + 9 * n, 8.0, prompt=6.0)]
    (verdict,) = verdicts(*slow)
    assert verdict.kind == "waiting_for_prefill"
    assert verdict.sentence == "m: 3 of 3 calls spent most of their time on the prompt"
    assert verdicts(*slow, *calls(4, at=-20.0)) == [], "most calls do not"


def conversation(*costs: tuple[int, float]) -> Events:
    """Calls of one conversation: tokens of the prompt, seconds of its processing."""
    return [
        event
        for n, (tokens, prompt) in enumerate(costs)
        for event in call(
            f"t{n}", -50.0 + 5 * n, 4.0, conversation="talk", tokens=tokens, prompt=prompt
        )
    ]


def test_cache_lost() -> None:
    learnt = calls(5, **FULL)
    cheap_then_full = conversation((1000, 1.0), (1100, 0.1), (1200, 1.2))
    (verdict,) = verdicts(*learnt, *cheap_then_full)
    assert (verdict.kind, verdict.calls) == ("cache_lost", ("t2",))
    assert verdict.sentence == (
        "m: the cached prompt of a conversation is gone: 1.2 s to process it again"
    )


@pytest.mark.parametrize(
    "talk",
    [
        conversation((1000, 1.0), (1100, 0.1), (1200, 0.1)),
        conversation((1000, 1.0), (1100, 1.1), (1200, 1.2)),
        conversation((1000, 1.0), (1100, 0.1), (900, 0.9)),
        conversation((1000, 1.0), (1100, 0.1), (4000, 3.0)),
        conversation((1100, 0.1), (1200, 1.2), (1300, 0.1)),
        conversation((1200, 1.2)),
    ],
    ids=["kept", "never had", "shorter prompt", "mostly new", "cheap again", "first call"],
)
def test_the_cache_is_not_lost_if(talk: Events) -> None:
    assert verdicts(*calls(5, **FULL), *talk) == []


def test_the_cache_is_not_judged_without_a_learnt_rate() -> None:
    assert verdicts(*conversation((1000, 1.0), (1100, 0.1), (1200, 1.2))) == []


def test_same_prompt() -> None:
    same = calls(3, digest="x")
    (verdict,) = verdicts(*same, *calls(2, "other", at=-90.0, digest="y"))
    assert (verdict.kind, verdict.calls) == ("same_prompt", ("c0", "c1", "c2"))
    assert verdict.sentence == "m: the same prompt 3 times in 100 s"
    (verdict,) = verdicts(*same, begins("r", -1.0, digest="x"))
    assert verdict.calls == ("c0", "c1", "c2", "r")
    assert verdicts(*same[:4]) == []
    assert verdicts(*calls(9)) == [], "a log without bodies does not say what was asked"


# --- all ------------------------------------------------------------------------------------


def test_the_most_urgent_come_first_whichever_model_they_are_about() -> None:
    found = verdicts(
        *calls(3, "a", model="a", digest="x"),
        *calls(3, "z", model="z", outcome="failed", error_type="timeout"),
    )
    assert [(verdict.kind, verdict.model) for verdict in found] == [
        ("errors_in_a_row", "z"),
        ("same_prompt", "a"),
    ]
