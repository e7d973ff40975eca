"""Each rule finds its case, and not what nearly is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_otel.analysis import Advice, AdviceKind, Advisory, advise, open_log
from ollama_otel.analysis._advice.table import RULES
from ollama_otel.records import SpanIds
from tests.examples import examples
from tests.log import any_call

from . import cases
from .synthetic import Call, call, write

Advised = Callable[[list[Call]], Advisory]


@pytest.fixture
def advised(tmp_path: Path) -> Advised:
    def run(calls: list[Call]) -> Advisory:
        log = write(tmp_path / "calls.jsonl", calls)
        with open_log(log, cache=False) as opened:
            return advise(opened, log=log)

    return run


def of_kind(advisory: Advisory, kind: str) -> Advice:
    (found,) = [advice for advice in advisory.advice if advice.kind == kind]
    return found


def kinds(advisory: Advisory) -> set[str]:
    return {advice.kind for advice in advisory.advice}


def test_every_rule_has_cases() -> None:
    kinds = {rule.kind for rule in RULES}
    assert kinds == cases.SHOWN.keys() == cases.NEARLY.keys()
    assert kinds < set(get_args(AdviceKind))


def test_advice_for_a_model_does_not_contradict_itself(advised: Advised) -> None:
    both = [*cases.mixed_num_ctx(), *cases.other_num_ctx(first=100_000.0)]
    found = kinds(advised(both))
    assert "mixed_num_ctx" in found
    assert "other_num_ctx" not in found


@pytest.mark.parametrize("kind", cases.SHOWN)
def test_a_rule_finds_its_case_and_no_other_does(advised: Advised, kind: str) -> None:
    advisory = advised(cases.SHOWN[kind]())
    assert kinds(advisory) == {kind}
    found = of_kind(advisory, kind)
    assert found.model == "qwen3:8b"
    assert found.server == "127.0.0.1:11434"
    assert found.evidence
    assert len(set(found.evidence)) == len(found.evidence) <= found.calls
    assert found.docs == f"docs/advice.md#{kind}"


@pytest.mark.parametrize(
    ("kind", "calls"), [(kind, calls) for kind, near in cases.NEARLY.items() for calls in near]
)
def test_what_is_nearly_a_case_is_none(
    advised: Advised, kind: str, calls: Callable[[], list[Call]]
) -> None:
    assert kind not in kinds(advised(calls()))


def test_nothing_is_found_in_a_log_without_faults(advised: Advised) -> None:
    calls = [
        call(
            number * 10,
            conversation=f"c{number // 5}",
            options={"num_ctx": 4096, "temperature": 0},
            residency={"gpu_share": 1.0, "context_length": 4096},
            request={"asks_for_json": number % 2 == 0},
        )
        for number in range(60)
    ]
    advisory = advised(calls)
    assert advisory.advice == ()
    assert {entry.kind for entry in advisory.unchecked} == {
        *("prompt_cut", "same_prompt", "model_too_large"),
    }
    assert len(advisory.nothing_found) == len(RULES) - 1
    assert advisory.median == 1.0


# --- what it would buy --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "calls", "value", "median", "after", "count"),
    [
        # Each of the 9 waits 2 s for a load; a warm one takes 0.01 s.
        ("mixed_num_ctx", cases.mixed_num_ctx, "2048", 3.0, 1.01, 9),
        ("other_num_ctx", cases.other_num_ctx, "8192", 3.0, 1.01, 6),
        ("keep_alive_short", cases.keep_alive, "10m", 3.0, 1.01, 5),
        ("prompt_cut", cases.cut, "4096", None, None, 2),
        ("context_too_large", cases.large_context, "2048", None, None, 20),
        # 100 tokens at 100 tokens/s in place of 10.
        ("model_on_cpu", cases.on_cpu, None, 11.0, 2.0, 4),
        # 1070, 1140 and 1210 tokens are read, of which 50 are new; 1 ms each.
        ("cache_taken", cases.conversations, None, 2.14, 1.05, 6),
        # 5000 tokens at 100 tokens/s in place of 200.
        ("answer_runaway", cases.answers, "200", 51.0, 3.0, 3),
        ("answer_cut", cases.cut_answers, "128", None, None, 5),
        ("json_temperature", cases.json_calls, "0", None, None, 5),
        ("cancels_in_row", cases.cancels, None, None, None, 4),
        ("tool_loop", cases.tools, None, None, None, 6),
        ("retry_storm", cases.retries, None, 5.0, 1.0, 4),
        ("retry_storm", cases.own_retries, None, None, None, 8),
    ],
)
def test_the_saving_is_computed_from_the_log(
    advised: Advised,
    kind: str,
    calls: Callable[[], list[Call]],
    value: str | None,
    median: float | None,
    after: float | None,
    count: int,
) -> None:
    found = of_kind(advised(calls()), kind)
    assert found.calls == count
    assert found.value == value
    assert found.median == pytest.approx(median)
    assert found.median_after == pytest.approx(after)
    if median is None or after is None:
        assert found.saves is None
        assert found.computed is None
    else:
        assert found.saves == pytest.approx(median - after)
        assert found.saved_in_all == pytest.approx(count * (median - after))
        assert found.computed


def test_without_a_warm_call_the_saving_is_unknown(advised: Advised) -> None:
    found = of_kind(advised(cases.mixed_num_ctx()[:-1]), "mixed_num_ctx")
    assert found.saves is None
    assert found.calls == 9


def test_without_a_call_on_the_gpu_the_saving_is_unknown(advised: Advised) -> None:
    found = of_kind(advised(cases.on_cpu(0.046, full=False)), "model_on_cpu")
    assert found.saves is None
    assert "ran on the CPU" in found.seen


def test_the_larger_context_is_advised_if_a_prompt_may_be_cut_in_the_smaller(
    advised: Advised,
) -> None:
    calls = [*cases.mixed_num_ctx(), call(300, response={"input_tokens": 1100})]
    assert of_kind(advised(calls), "mixed_num_ctx").value == "8192"


def test_a_context_that_no_call_had_is_advised_if_prompts_need_it(advised: Advised) -> None:
    """The same as the rule about cut prompts says."""
    cut = [
        (replace(start, started_at=start.started_at + 300 * 10**9), replace(
            record, truncation=replace(record.truncation, prompt_tokens=9000)))
        for start, record in cases.cut()
    ]  # fmt: skip
    advisory = advised([*cases.mixed_num_ctx(), *cut])
    values = {of_kind(advisory, kind).value for kind in ("mixed_num_ctx", "prompt_cut")}
    assert values == {"11776"}


def test_a_keep_alive_of_zero_is_seen(advised: Advised) -> None:
    found = of_kind(advised(cases.keep_alive(5.0, sent="0")), "keep_alive_short")
    assert "keep_alive (0 s)" in found.seen
    assert found.value == "1m"


def test_a_recorded_cause_counts_whatever_the_pause(advised: Advised) -> None:
    """The server may have another default."""
    found = of_kind(advised(cases.keep_alive(100.0, cause="expired")), "keep_alive_short")
    assert found.value == "5m"
    assert "300 s" not in found.seen
    found = of_kind(advised(cases.keep_alive(200.0, sent="2m")), "keep_alive_short")
    assert "keep_alive (120 s)" in found.seen


@pytest.mark.parametrize("sent", ["", "\\", '"', "*", "|", "5m|", "$", "soon"])
def test_a_keep_alive_that_is_none_is_unknown(advised: Advised, sent: str) -> None:
    others = [call(-9, model="m", request={"keep_alive": text}) for text in ("5m", "0")]
    found = of_kind(advised([*others, *cases.keep_alive(sent=sent)]), "keep_alive_short")
    assert "keep_alive (300 s, Ollama's default)" in found.seen


def test_suspected_cuts_are_advised_without_a_value(advised: Advised) -> None:
    found = of_kind(advised(cases.cut("suspected", 3)), "prompt_cut")
    assert found.value is None
    assert "3 of them are suspected only" in found.seen


def test_json_that_is_cut_counts_however_rare(advised: Advised) -> None:
    found = of_kind(advised(cases.cut_answers(whole=40, asks_for_json=True)), "answer_cut")
    assert "5 of them are JSON" in found.seen


def test_loops_without_a_conversation_are_found_by_their_trace(advised: Advised) -> None:
    def traced(calls: list[Call]) -> list[Call]:
        return [
            (replace(start, span=SpanIds(trace=7, span=number + 1, is_sampled=True)), record)
            for number, (start, record) in enumerate(calls)
        ]

    found = of_kind(advised(traced(cases.tools(6, conversation=None))), "tool_loop")
    assert "called search up to 6 times in a row" in found.seen


def test_calls_that_are_left_after_the_first_word_get_other_advice(advised: Advised) -> None:
    calls = [
        (start, replace(record, time_to_first_answer=0.1)) for start, record in cases.cancels()
    ]
    assert "num_predict" in of_kind(advised(calls), "cancels_in_row").change


def test_latest_is_the_same_model(advised: Advised) -> None:
    calls = [
        (
            replace(start, request=replace(start.request, model=f"m{':latest' * (number % 2)}")),
            record,
        )
        for number, (start, record) in enumerate(cases.mixed_num_ctx())
    ]
    assert of_kind(advised(calls), "mixed_num_ctx").model == "m"


def test_what_saves_most_in_all_comes_first(advised: Advised) -> None:
    """40 calls that save 2 s each come before 3 that save 48 s, and unknown savings last."""
    many = [
        call(10_000 + number * PAUSE, model="m", load=cases.COLD, duration=100.0)
        for number in range(100)
    ]
    warm = call(0, model="m", load=cases.WARM)
    advisory = advised([warm, *cases.answers(), *cases.json_calls(5), *many])
    assert [advice.kind for advice in advisory.advice] == [
        "keep_alive_short",
        "answer_runaway",
        "json_temperature",
    ]


PAUSE = 500.0


def test_servers_are_told_apart(advised: Advised) -> None:
    """One num_ctx at each server is no fault."""
    calls = [
        call(
            number * 10,
            server=f"host{number % 2}",
            options={"num_ctx": 2048 * 4 ** (number % 2)},
            load=cases.COLD,
            duration=3.0,
        )
        for number in range(20)
    ]
    assert "mixed_num_ctx" not in kinds(advised(calls))


def test_rules_without_their_facts_say_what_to_turn_on(advised: Advised) -> None:
    unchecked = {entry.kind: entry for entry in advised([call(0)]).unchecked}
    assert unchecked.keys() == {
        "other_num_ctx",
        "prompt_cut",
        "context_too_large",
        "model_on_cpu",
        "cache_taken",
        "cache_broken",
        "same_prompt",
        "model_too_large",
    }
    assert "residency=True" in unchecked["model_on_cpu"].turn_on
    assert "truncation='confirm'" in unchecked["prompt_cut"].turn_on
    assert "call_context" in unchecked["cache_taken"].turn_on
    assert "replay_bodies=True" in unchecked["same_prompt"].turn_on


# --- any calls ----------------------------------------------------------------------------


@settings(
    max_examples=examples(25),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(records=st.lists(any_call.records, min_size=1, max_size=12), repeats=st.integers(1, 8))
def test_no_calls_break_a_rule(advised: Advised, records: list[Any], repeats: int) -> None:
    """Whatever is unknown, zero or huge."""
    advisory = advised([(record.start, record) for record in records] * repeats)
    for found in advisory.advice:
        assert found.calls > 0
        assert found.seen
        assert found.saves is None or found.saves >= 0
        assert (found.saves is None) == (found.computed is None)
    every = [*kinds(advisory), *(entry.kind for entry in advisory.unchecked)]
    assert len(set(every)) + len(advisory.nothing_found) == len(RULES) + 2
