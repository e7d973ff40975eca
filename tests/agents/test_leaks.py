"""Tool calls that models write as text, and texts that are none."""

from __future__ import annotations

import pytest

from ollama_otel._agent.leaks import find_leak
from ollama_otel.records import ToolCall

KNOWN = ("weather", "multiply")
ROME = ToolCall(name="weather", arguments={"city": "Rome"})


@pytest.mark.parametrize(
    "text",
    [
        '<function=weather>{"city": "Rome"}</function>',
        'I look it up. <function=weather>{"city": "Rome"}',
        "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>",
        '<tool_call>{"name": "weather", "arguments": {"city":"Rome"}}</tool_call>',
        '<tool_call>\n{"name": "weather", "arguments": {"city":"Rome"}}',
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]',
        '{"name": "weather", "parameters": {"city": "Rome"}}',
        '{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}',
        '```json\n{"name": "weather", "arguments": {"city": "Rome"}}\n```',
        '[{"name": "weather", "arguments": {"city": "Rome"}}]',
        '{"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}',
    ],
)
def test_a_leaked_call_is_found(text: str) -> None:
    leak = find_leak(text, KNOWN)
    assert leak is not None
    assert leak.calls == (ROME,)


def test_values_of_parameters_are_json_where_they_can_be() -> None:
    text = "<function=multiply><parameter=a>12</parameter><parameter=b>x</parameter></function>"
    leak = find_leak(text, KNOWN)
    assert leak is not None
    assert leak.calls == (ToolCall(name="multiply", arguments={"a": 12, "b": "x"}),)


def test_several_calls_are_found_in_their_order() -> None:
    leak = find_leak("<function=weather></function>\n<function=multiply>{}</function>", KNOWN)
    assert leak is not None
    assert [call.name for call in leak.calls] == ["weather", "multiply"]


@pytest.mark.parametrize(
    "text", ["<function=weather>{broken</function>", '<function=weather>"Rome"</function>']
)
def test_a_call_that_cannot_be_read_is_found_without_arguments(text: str) -> None:
    leak = find_leak(text, KNOWN)
    assert leak is not None
    assert leak.calls == ()


@pytest.mark.parametrize(
    "text",
    [
        "It rains.",
        "",
        "The weather tool gives the weather.",
        "Write <function=NAME> to call a function.",
        "<tool_call>{broken",
        '{"name": "other", "arguments": {}}',
        '{"name": "weather"}',
        '{"city": "Rome"}',
        'Call it with {"name": "weather", "arguments": {}}.',
        "[1, 2]",
        "[" * 100_000,
    ],
)
def test_other_texts_are_none(text: str) -> None:
    assert find_leak(text, KNOWN) is None


def test_without_tools_nothing_leaks() -> None:
    assert find_leak("<function=weather>{}</function>", ()) is None
