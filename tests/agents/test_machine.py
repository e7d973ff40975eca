"""The run without I/O: what comes after what, and that it always ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._agent.chat import Answer, tool_message, user_message
from ollama_otel._agent.machine import Ask, Call, End, Limits, Machine, Step
from ollama_otel._agent.values import ToolCallResult
from ollama_otel.records import ToolCall

TOOLS = ("weather", "multiply")
WEATHER = ToolCall(name="weather", arguments={"city": "Rome"}, id="call_0")
WITH_TOOLS = Ask(with_tools=True, with_format=False)
WITHOUT = Ask(with_tools=False, with_format=False)
FORMATTING = Ask(with_tools=False, with_format=True)
ANSWERED = End(ending="answered", is_answer=True)
ASKS = Answer(tool_calls=(WEATHER,))
TEXT = Answer(text="It rains.")


def machine(**limits: Any) -> Machine:
    return Machine(Limits(**{"tools": TOOLS, **limits}), [user_message("Go")])


def result(outcome: Any = "succeeded", call: ToolCall = WEATHER) -> ToolCallResult:
    return ToolCallResult(call=call, outcome=outcome, text="rain")


def played(run: Machine, *happened: Any) -> list[Step]:
    """Give answers and results, and return the steps."""
    after = (run.heard(each) if isinstance(each, Answer) else run.called(each) for each in happened)
    return [run.begin(), *after]


def roles(run: Machine) -> list[str]:
    return [message.role for message in run.history]


def test_an_answer_ends_the_run() -> None:
    run = machine()
    assert played(run, TEXT) == [WITH_TOOLS, ANSWERED]
    assert roles(run) == ["user", "assistant"]


def test_tool_calls_are_made_and_the_model_is_asked_again() -> None:
    run = machine()
    assert played(run, ASKS, [result()], TEXT) == [
        WITH_TOOLS,
        Call(calls=(WEATHER,), allowed=100),
        WITH_TOOLS,
        ANSWERED,
    ]
    assert roles(run) == ["user", "assistant", "tool", "assistant"]
    assert run.rounds[0].results == (result(),)


def test_results_are_matched_by_id_and_name_in_the_order_of_the_calls() -> None:
    run = machine()
    calls = [ToolCall(name="weather", arguments={}, id=f"call_{n}") for n in range(3)]
    played(run, Answer(tool_calls=tuple(calls)), [result(call=call) for call in calls])
    asked, *told = run.history[1:]
    assert asked.tool_calls is not None
    assert [call.id for call in asked.tool_calls] == ["call_0", "call_1", "call_2"]  # type: ignore[attr-defined]
    assert told == [tool_message(call, "rain") for call in calls]
    assert told[1].model_dump(exclude_none=True) == {
        "role": "tool",
        "content": "rain",
        "tool_name": "weather",
        "tool_call_id": "call_1",
    }


def test_the_limit_of_rounds_raises() -> None:
    run = machine(max_rounds=2)
    steps = played(run, ASKS, [result()], ASKS)
    assert steps[-1] == End(ending="max_rounds")
    # What was not answered is not in the history, so that it can be continued.
    assert roles(run) == ["user", "assistant", "tool"]
    assert len(run.rounds) == 2


def test_the_limit_of_rounds_asks_for_a_last_answer_without_tools() -> None:
    run = machine(max_rounds=2, at_limit="answer")
    assert played(run, ASKS, [result()], TEXT)[2:] == [
        WITHOUT,
        End(ending="max_rounds", is_answer=True),
    ]


@pytest.mark.parametrize(
    "answer", [ASKS, Answer(text='<tool_call>{"name": "weather", "arguments": {}}</tool_call>')]
)
def test_a_last_answer_that_asks_for_tools_is_none(answer: Answer) -> None:
    run = machine(max_rounds=2, at_limit="answer", on_leaked_call="recover")
    assert played(run, ASKS, [result()], answer)[-1] == End(ending="max_rounds")


def test_the_limit_of_tool_calls() -> None:
    calls = (WEATHER,) * 3
    over = [result(), result(), result("over_limit")]
    run = machine(max_tool_calls=2)
    steps = played(run, Answer(tool_calls=calls), over)
    assert steps[1:] == [Call(calls=calls, allowed=2), End(ending="max_tool_calls")]
    run = machine(max_tool_calls=2, at_limit="answer")
    steps = played(run, Answer(tool_calls=calls), over, TEXT)
    assert steps[2:] == [WITHOUT, End(ending="max_tool_calls", is_answer=True)]


@pytest.mark.parametrize("outcome", ["unknown_tool", "invalid_arguments", "failed", "timed_out"])
def test_the_model_is_told_of_what_went_wrong(outcome: Any) -> None:
    assert played(machine(), ASKS, [result(outcome)])[-1] == WITH_TOOLS


@pytest.mark.parametrize(
    ("setting", "outcome", "ending"),
    [
        ("on_bad_call", "unknown_tool", "unknown_tool"),
        ("on_bad_call", "invalid_arguments", "invalid_arguments"),
        ("on_tool_error", "failed", "tool_failed"),
        ("on_tool_error", "timed_out", "tool_timed_out"),
    ],
)
def test_what_went_wrong_can_end_the_run(setting: str, outcome: Any, ending: Any) -> None:
    steps = played(machine(**{setting: "raise"}), ASKS, [result(outcome)])
    assert steps[-1] == End(ending=ending)
    other = {"on_bad_call": "on_tool_error", "on_tool_error": "on_bad_call"}[setting]
    assert played(machine(**{other: "raise"}), ASKS, [result(outcome)])[-1] == WITH_TOOLS


@pytest.mark.parametrize("outcome", ["denied", "cancelled"])
def test_a_denied_call_is_no_error(outcome: Any) -> None:
    run = machine(on_bad_call="raise", on_tool_error="raise")
    assert played(run, ASKS, [result(outcome)])[-1] == WITH_TOOLS


def test_a_deferred_call_ends_the_run_and_leaves_its_result_to_the_caller() -> None:
    run = machine()
    calls = (WEATHER, ToolCall(name="multiply", arguments={}))
    results = [result("deferred"), result(call=calls[1])]
    assert played(run, Answer(tool_calls=calls), results)[-1] == End(ending="deferred")
    assert [message.tool_name for message in run.history if message.role == "tool"] == ["multiply"]


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (Answer(text=" \n"), "empty_answer"),
        (Answer(thinking="Hm"), "empty_answer"),
        (Answer(text="It ra", done_reason="length"), "cut_answer"),
        (Answer(tool_calls=(WEATHER,), done_reason="length"), "cut_answer"),
        (Answer(text="It ra", done=False, done_reason=None), "incomplete_answer"),
        (Answer(text="<function=weather>{}</function>"), "leaked_tool_call"),
    ],
)
def test_answers_that_are_none(answer: Answer, ending: Any) -> None:
    run = machine()
    assert played(run, answer)[-1] == End(ending=ending)
    assert roles(run) == ["user"]
    assert run.rounds[0].text == answer.text


def test_a_leaked_call_can_be_recovered() -> None:
    run = machine(on_leaked_call="recover")
    leaked = Answer(text='<function=weather>{"city": "Rome"}</function>')
    call = ToolCall(name="weather", arguments={"city": "Rome"})
    steps = played(run, leaked, [result(call=call)], TEXT)
    assert steps[1:] == [Call(calls=(call,), allowed=100), WITH_TOOLS, ANSWERED]
    assert run.rounds[0].is_recovered
    assert run.history[1].content == ""


def test_a_leaked_call_that_cannot_be_read_is_not_recovered() -> None:
    run = machine(on_leaked_call="recover")
    answer = Answer(text="<function=weather>{broken</function>")
    assert played(run, answer)[-1] == End(ending="leaked_tool_call")


def test_the_format_is_asked_for_without_tools_in_a_last_round() -> None:
    run = machine(has_format=True)
    assert played(run, ASKS, [result()], TEXT, Answer(text="{}"))[2:] == [
        WITH_TOOLS,
        FORMATTING,
        ANSWERED,
    ]
    # The answer in the format stands for the one before.
    assert [m.content for m in run.history if m.role == "assistant"] == ["", "{}"]


def test_the_format_is_asked_for_at_once_without_tools() -> None:
    assert played(machine(tools=(), has_format=True), Answer(text="{}")) == [FORMATTING, ANSWERED]


def test_the_last_answer_at_the_limit_has_the_format() -> None:
    run = machine(has_format=True, max_rounds=2, at_limit="answer")
    assert played(run, ASKS, [result()])[-1] == FORMATTING


def test_json_in_the_format_is_no_leaked_call() -> None:
    run = machine(tools=("weather",), has_format=True)
    answer = Answer(text='{"name": "weather", "arguments": {}}')
    assert played(run, TEXT, answer)[-1] == ANSWERED


@pytest.mark.parametrize("keeps", [True, False])
def test_thinking_is_kept_or_counted(keeps: bool) -> None:
    run = machine(keeps_thinking=keeps)
    played(run, Answer(thinking="Hm.", tool_calls=(WEATHER,)), [result()], TEXT)
    assert run.history[1].thinking == ("Hm." if keeps else None)
    assert run.thinking_length == (0 if keeps else 3)


ANSWERS = st.builds(
    Answer,
    text=st.sampled_from(["", " ", "Fine.", "<function=weather>{}</function>", "<tool_call>x"]),
    thinking=st.sampled_from(["", "Hm"]),
    tool_calls=st.lists(
        st.builds(
            ToolCall,
            name=st.sampled_from(["weather", "multiply", "nothing"]),
            arguments=st.just({}),
            id=st.sampled_from([None, "call_0", "call_1"]),
        ),
        max_size=3,
    ).map(tuple),
    done=st.sampled_from([True, True, True, False]),
    done_reason=st.sampled_from(["stop", "stop", "stop", "length", None]),
)
OUTCOMES: list[Any] = [
    *("succeeded", "failed", "timed_out", "unknown_tool", "invalid_arguments"),
    *("denied", "deferred", "cancelled"),
]


@pytest.mark.slow
@given(st.data())
def test_any_answers_end_within_the_rounds(data: st.DataObject) -> None:
    limits = Limits(
        tools=data.draw(st.sampled_from([(), TOOLS])),
        has_format=data.draw(st.booleans()),
        max_rounds=data.draw(st.integers(2, 6)),
        max_tool_calls=data.draw(st.integers(0, 6)),
        at_limit=data.draw(st.sampled_from(["raise", "answer"])),
        on_bad_call=data.draw(st.sampled_from(["tell", "raise"])),
        on_tool_error=data.draw(st.sampled_from(["tell", "raise"])),
        on_leaked_call=data.draw(st.sampled_from(["raise", "recover"])),
    )
    run = Machine(limits, [user_message("Go")])
    step, made = run.begin(), 0
    while not isinstance(step, End):
        assert len(run.rounds) <= limits.max_rounds
        if isinstance(step, Ask):
            assert not (step.with_tools and step.with_format)
            step = run.heard(data.draw(ANSWERS))
            continue
        made += min(step.allowed, len(step.calls))
        results = [
            result(data.draw(st.sampled_from(OUTCOMES)) if n < step.allowed else "over_limit", call)
            for n, call in enumerate(step.calls)
        ]
        step = run.called(results)
    assert len(run.rounds) <= limits.max_rounds
    assert made <= limits.max_tool_calls
    if step.is_answer:
        assert run.rounds[-1].text.strip()
        assert step.ending in {"answered", "max_rounds", "max_tool_calls"}
    # The server gets no tool call without its result, but for those that the caller answers.
    asked = [call for message in run.history for call in message.tool_calls or ()]
    told = [message for message in run.history if message.role == "tool"]
    open_ones = [each for r in run.rounds for each in r.results if each.outcome == "deferred"]
    assert len(asked) == len(told) + len(open_ones)
