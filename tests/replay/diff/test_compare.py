"""What changed from one log to another, call by call and in all."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._log.call import RecordedCall
from ollama_otel.errors import SettingsError
from ollama_otel.records import ModelResidency
from ollama_otel.replay import compare
from ollama_otel.replay._diff.pairing import REPLAY_OF
from ollama_otel.replay._diff.values import BeforeAfter, ComparedPair, Note
from tests.replay.call_lines import SECOND, answer, ask, call, tool


def pair_of(before: RecordedCall, after: RecordedCall, *ignore: str) -> ComparedPair:
    (pair,) = compare([before], [after], ignore=ignore).pairs
    return pair


def answers(
    before: Any, after: Any, *ignore: str, asked: Any = None, **options: Any
) -> ComparedPair:
    return pair_of(call("1", asked, before, **options), call("2", asked, after, **options), *ignore)


def told(differences: Any) -> list[str]:
    return [str(difference) for difference in differences]


def test_equal_calls_are_identical_whatever_time_they_took() -> None:
    pair = pair_of(call("1", duration=2.0), call("2", duration=9.0))
    assert pair.changed == frozenset()
    assert pair.notes == ()
    assert pair.text is not None
    assert pair.text.is_identical


def test_a_changed_outcome_is_told() -> None:
    pair = pair_of(
        call("1"),
        call(
            "2", said={"error": "no"}, outcome="failed", error_type="server_error", http_status=500
        ),
    )
    assert told(pair.outcome) == [
        '$.outcome: "completed" -> "failed"',
        '$.error_type: null -> "server_error"',
        "$.status: 200 -> 500",
    ]
    assert pair.changed == {"outcome"}
    assert pair.text is None


def test_a_call_that_never_ended_is_told() -> None:
    pair = pair_of(call("1"), call("2", ends=False))
    assert told(pair.outcome)[0] == '$.outcome: "completed" -> "not ended"'
    assert pair.notes == (Note("after", "not_ended"),)
    assert pair.measures["duration"] == (2.0, None)


@pytest.mark.parametrize("outcome", ["abandoned", "cancelled"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_call_that_its_caller_left_is_compared_as_far_as_it_went(outcome: str, side: Any) -> None:
    def pair(begun: str) -> ComparedPair:
        left = call("1", said=[answer(begun, thinking="The", done=False)], outcome=outcome)
        whole = call("2", said=[answer("It is blue, mostly.", thinking="The sky.")])
        return pair_of(left, whole) if side == "before" else pair_of(whole, left)

    same, other = pair("It is bl"), pair("It was")
    assert same.notes == (Note(side, "left_early"),)
    assert same.outcome == ()
    assert same.changed - {"tokens"} == frozenset()
    assert other.changed - {"tokens"} == {"text"}


def test_a_call_left_in_both_logs_is_compared_as_it_is() -> None:
    pair = pair_of(call("1", outcome="abandoned"), call("2", outcome="cancelled"))
    assert told(pair.outcome) == ['$.outcome: "abandoned" -> "cancelled"']


def test_a_changed_text_is_told() -> None:
    pair = answers(answer("It is blue."), answer("It is red."))
    assert pair.changed == {"text"}
    assert pair.text is not None
    assert 0 < pair.text.similarity < 1


def test_a_stream_is_put_together() -> None:
    parts = [answer("It ", done=False), answer("is blue.")]
    streamed = call("2", ask(stream=True), parts, tags={REPLAY_OF: "1"})
    pair = pair_of(call("1", said=answer("It is blue.")), streamed)
    assert pair.changed == frozenset()
    assert pair.text is not None


def test_thinking_is_an_aspect_of_its_own() -> None:
    pair = answers(answer("Blue.", thinking="Sky."), answer("Blue.", thinking="Sea."))
    assert pair.changed == {"thinking"}
    assert answers(answer("Blue."), answer("Blue.", thinking="Sea.")).changed == {"thinking"}


def test_without_thinking_there_is_none_to_compare() -> None:
    assert answers(answer(), answer()).thinking is None


# --- structured answers ---------------------------------------------------------------------------


AS_JSON = ask(format="json")


def test_a_structured_answer_is_compared_field_by_field() -> None:
    pair = answers(
        answer('{"items": [{"price": 3}]}'), answer('{"items":[{"price":4}]}'), asked=AS_JSON
    )
    assert pair.structure is not None
    assert told(pair.structure.fields) == ["$.items[0].price: 3 -> 4"]
    assert pair.changed == {"structure", "text"}


def test_other_blanks_are_another_text_but_no_other_structure() -> None:
    pair = answers(answer('{"a": 1}'), answer('{"a":1}'), asked=AS_JSON)
    assert pair.changed == {"text"}


def test_ignored_fields_of_a_structured_answer_make_no_difference() -> None:
    before, after = answer('{"at": {"hour": 1}, "ate": 1}'), answer('{"at": {"hour": 2}, "ate": 2}')
    pair = answers(before, after, "$.at", asked=AS_JSON)
    assert pair.structure is not None
    assert told(pair.structure.fields) == ["$.ate: 1 -> 2"]


@pytest.mark.parametrize("broken", ['{"a": ', "NaN", "", "[" * 5000])
def test_an_answer_that_is_no_json_is_told(broken: str) -> None:
    pair = answers(answer('{"a": 1}'), answer(broken), asked=AS_JSON)
    assert pair.structure is not None
    assert (pair.structure.before_is_json, pair.structure.after_is_json) == (True, False)
    assert "structure" in pair.changed


def test_two_answers_that_are_no_json_differ_in_their_text_only() -> None:
    assert answers(answer("{a"), answer("{b"), asked=AS_JSON).changed == {"text"}


def test_without_a_format_there_is_no_structure() -> None:
    assert answers(answer("{}"), answer("[]")).structure is None


def test_absurdly_deep_answers_can_be_compared() -> None:
    before, after = ("[" * 600 + text + "]" * 600 for text in ("1", "2"))
    assert answers(answer(before), answer(after), asked=AS_JSON).changed == {"text"}


# --- tool calls -----------------------------------------------------------------------------------


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return answer("", tool_calls=list(calls))


def test_a_changed_argument_of_a_tool_is_told() -> None:
    pair = answers(
        calling(tool("weather", city="Rome", days=1)), calling(tool("weather", city="Oslo", days=1))
    )
    assert told(pair.tools) == ['$[0].arguments.city: "Rome" -> "Oslo"']
    assert pair.changed == {"tools"}


def test_another_tool_and_one_more_are_told() -> None:
    pair = answers(calling(tool("a")), calling(tool("b"), tool("a")))
    assert told(pair.tools) == [
        '$[0].name: "a" -> "b"',
        '$[1]: {"name": "a", "arguments": {}} was added',
    ]


def test_the_same_tool_calls_in_another_order_are_told_as_that() -> None:
    pair = answers(calling(tool("a"), tool("b", x=1)), calling(tool("b", x=1), tool("a")))
    assert told(pair.tools) == ['$: ["a", "b"] -> ["b", "a"] (order)']


def test_ids_of_tool_calls_make_no_difference() -> None:
    one, other = ({"id": name, **tool("a")} for name in ("call_1", "call_2"))
    assert answers(calling(one), calling(other)).changed == set()


def test_without_bodies_tools_are_compared_by_their_names() -> None:
    pair = answers(calling(tool("a", x=1)), calling(tool("b", x=2)), bodies=False)
    assert told(pair.tools) == ['$[0].name: "a" -> "b"']


# --- what is not there ----------------------------------------------------------------------------


def test_calls_without_bodies_are_compared_by_facts_only() -> None:
    comparison = compare(
        [call("1", bodies=False)], [call("2", said=answer("Other.", eval_count=31))]
    )
    (pair,) = comparison.pairs
    assert (pair.text, pair.is_by_facts_only) == (None, True)
    assert pair.notes == (Note("before", "no_body"),)
    assert pair.changed == {"tokens"}
    assert comparison.counts["by_facts_only"] == 1


def test_what_is_equal_by_its_facts_is_not_called_identical() -> None:
    counts = compare([call("1", bodies=False)], [call("1")]).counts
    assert (counts["pairs"], counts["identical"]) == (1, 0)


def test_redacted_bodies_are_told() -> None:
    assert pair_of(call("1", changes=["redacted"]), call("2")).notes == (
        Note("before", "redacted"),
    )


def test_embeddings_are_compared_by_facts_only() -> None:
    asked = {"model": "m", "input": "a"}
    pair = answers({"embeddings": [[1]]}, {"embeddings": [[2]]}, asked=asked, path="/api/embed")
    assert (pair.is_by_facts_only, pair.changed) == (True, frozenset())


# --- residency ------------------------------------------------------------------------------------


def test_what_the_server_held_is_compared_and_changes_no_aspect() -> None:
    pair = pair_of(
        call("1", residency=ModelResidency(gpu_share=1.0, context_length=4096)),
        call(
            "2",
            residency=ModelResidency(gpu_share=0.5, context_length=4096, reload_cause="num_ctx"),
        ),
    )
    assert told(pair.residency) == [
        "$.gpu_share: 1.0 -> 0.5",
        '$.reload_cause: null -> "num_ctx"',
    ]
    assert pair.changed == frozenset()


def test_every_fact_of_residency_is_compared() -> None:
    old, new = (
        ModelResidency(
            gpu_share=share,
            model_size=length,
            model_gpu_size=length,
            context_length=length,
            reload_cause=text,
            reload_before=text,
            reload_after=text,
            evicted_by=text,
        )
        for share, length, text in ((0.5, 1, "a"), (0.75, 2, "b"))
    )
    pair = pair_of(call("1", residency=old), call("2", residency=new))
    assert [each.path for each in pair.residency] == [
        f"$.{name}" for name in ModelResidency.__struct_fields__
    ]


@pytest.mark.parametrize("options", [{}, {"ends": False}])
def test_residency_that_one_log_does_not_have_is_not_compared(options: dict[str, Any]) -> None:
    known = call("1", residency=ModelResidency(gpu_share=1.0))
    assert pair_of(known, call("2", **options)).residency == ()
    assert pair_of(call("2", **options), known).residency == ()


# --- measures -------------------------------------------------------------------------------------


def test_each_measure_is_told_before_and_after() -> None:
    pair = pair_of(
        call("1", duration=2.0, time_to_first_chunk=0.5),
        call("2", said=answer(eval_count=60, prompt_eval_count=None), duration=3.0),
    )
    assert pair.measures == {
        "duration": (2.0, 3.0),
        "time_to_first_chunk": (0.5, None),
        "decode_rate": (30.0, 60.0),
        "input_tokens": (10, None),
        "output_tokens": (30, 60),
    }
    assert pair.changed == {"tokens"}


def test_a_measure_is_known_if_both_calls_have_it() -> None:
    assert BeforeAfter(0.0, 1.0).is_known
    assert not BeforeAfter(None, 1.0).is_known
    assert not BeforeAfter(1.0, None).is_known


def many(durations: list[float], **options: Any) -> list[RecordedCall]:
    return [
        call(f"{number}", ask(str(number)), at=number, duration=duration, **options)
        for number, duration in enumerate(durations)
    ]


def test_a_measure_is_summed_up_over_all_pairs() -> None:
    before, after = many([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), many([2.0, 4.0, 6.0, 8.0, 10.0, 18.0])
    duration = compare(before, after).summary()["duration"]
    assert (duration.count, duration.median_before, duration.median_after) == (6, 3.5, 7.0)
    assert (duration.p95_before, duration.p95_after) == (5.75, 16.0)
    assert duration.median_change == 1.0
    assert duration.p_value == 2 / 64
    assert duration.is_significant


def test_a_change_of_few_pairs_is_not_significant() -> None:
    assert not compare(many([1.0] * 5), many([2.0] * 5)).summary()["duration"].is_significant


def test_only_pairs_that_completed_are_summed_up() -> None:
    failed = {"outcome": "failed", "error_type": "server_error", "http_status": 500}
    comparison = compare([*many([1.0, 1.0])], [*many([1.0]), *many([9.0, 9.0], **failed)[1:]])
    assert comparison.summary()["duration"].count == 1


def test_what_no_pair_has_is_not_summed_up() -> None:
    first = compare([call("1")], [call("2")]).summary()["time_to_first_chunk"]
    assert (first.count, first.median_before, first.p_value) == (0, None, None)
    assert not first.is_significant


def test_changes_from_zero_have_no_percentage() -> None:
    tokens = compare([call("1", said=answer(prompt_eval_count=0))], [call("2")]).summary()[
        "input_tokens"
    ]
    assert (tokens.count, tokens.median_after, tokens.median_change) == (1, 10, None)


def test_every_pair_is_counted() -> None:
    before = [call("1", ask("a")), call("2", ask("b")), call("3", ask("c")), call("4", ask("d"))]
    after = [
        call("w", ask("a")),
        call("x", ask("b"), answer("Other.", eval_duration=SECOND)),
        call(
            "y",
            ask("c"),
            {"error": "?"},
            outcome="failed",
            error_type="server_error",
            http_status=500,
        ),
        call("z", ask("e")),
        call("zz", ask("f")),
    ]
    assert compare(before, after).counts == {
        "pairs": 3,
        "identical": 1,
        "outcome_changed": 1,
        "text_changed": 1,
        "thinking_changed": 0,
        "structure_changed": 0,
        "tools_changed": 0,
        "tokens_changed": 0,
        "by_facts_only": 1,
        "only_before": 1,
        "only_after": 2,
    }


def test_one_text_is_no_list_of_fields_to_ignore() -> None:
    with pytest.raises(SettingsError, match="not one text"):
        compare([call("1")], [call("2")], ignore="options.seed")


def test_what_changed_is_found_out_once() -> None:
    pair = answers(answer("It is blue."), answer("It is red."))
    assert pair.changed is pair.changed
