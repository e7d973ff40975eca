"""Names of users, models and servers are bounded, in length and in number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_otel._bounds import (
    LONGEST_NAME,
    MOST_OPTIONS,
    MOST_TOOLS,
    MOST_VALUES,
    bounded_name,
    bounded_names,
    bounded_options,
)
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.native import NATIVE
from ollama_otel._wire.native.response import Tally
from ollama_otel.records import Progress, RequestFacts, ResponseFacts

LONG = "x" * 1_000_000


@pytest.mark.parametrize("name", ["", "llama3.2", "x" * LONGEST_NAME])
def test_a_name_of_ordinary_length_is_unchanged(name: str) -> None:
    assert bounded_name(name) == name


@pytest.mark.parametrize("length", [LONGEST_NAME + 1, 1_000, 10**6])
def test_a_longer_name_says_how_much_is_cut(length: int) -> None:
    name = bounded_name("x" * length)
    kept = name.partition("...")[0]
    assert name == f"{kept}... [cut {length - len(kept)} characters]"
    assert LONGEST_NAME - 8 <= len(name) <= LONGEST_NAME


def test_names_beyond_the_bound_are_marked() -> None:
    assert bounded_names(["f"] * 128) == ("f",) * 128
    assert bounded_names(["f"] * 129) == (*("f",) * 128, ResponseFacts.MORE_NAMES)


def test_every_name_of_a_request_is_bounded() -> None:
    endpoint = find_endpoint("POST", "/api/chat")
    assert endpoint is not None
    tool = {"function": {"name": LONG}}
    body: dict[str, Any] = {"model": LONG, "keep_alive": LONG, "think": LONG, "tools": [tool]}
    facts = NATIVE.read_request(endpoint, body, size=None)
    for text in (facts.model, facts.think, *facts.tools):
        assert isinstance(text, str) and len(text) <= LONGEST_NAME
    assert facts.keep_alive is None


@pytest.mark.parametrize("field", ["model", "name", "source"])
def test_a_model_is_bounded_under_every_key(field: str) -> None:
    endpoint = find_endpoint("POST", "/api/copy")
    assert endpoint is not None
    model = NATIVE.read_request(endpoint, {field: LONG}, size=None).model
    assert model == bounded_name(LONG)


def test_every_name_of_a_response_is_bounded() -> None:
    calls = [{"function": {"name": LONG}}] * 3
    final = {
        **dict.fromkeys(("model", "remote_model", "remote_host", "done_reason"), LONG),
        "done": True,
        "message": {"tool_calls": calls},
    }
    facts = NATIVE.read_stream([final], tool_messages=[], has_thinking=False, has_end_mark=False)
    short = bounded_name(LONG)
    assert (facts.model, facts.remote_model, facts.remote_host) == (short,) * 3
    assert facts.done_reason == short
    assert facts.tool_calls == (short,) * 3
    assert facts.tool_call_count == 3


def test_a_hundred_thousand_tool_calls_are_not_counted_wrongly() -> None:
    final = {"done": True, "message": {"tool_calls": [{"function": {"name": "f"}}] * 100_000}}
    facts = NATIVE.read_stream([final], tool_messages=[], has_thinking=False, has_end_mark=False)
    assert facts.tool_calls[-1] == ResponseFacts.MORE_NAMES and len(facts.tool_calls) == 129
    assert facts.tool_call_count is None


def test_a_pull_of_endless_layers_has_no_sums() -> None:
    tally = Tally()
    for number in range(10_000):
        tally.add({"digest": f"sha256:{number}", "total": 2, "completed": 1}, now=float(number))
    assert tally.total().total_bytes == 20_000
    tally.add({"digest": "sha256:one more", "total": 2, "completed": 1}, now=0.0)
    assert tally.total() == Progress()


def test_the_digest_of_a_layer_is_bounded() -> None:
    tally = Tally()
    tally.add({"digest": LONG, "total": 2, "completed": 1}, now=0.0)
    assert tally.total() == Progress()


# --- options and tools of requests -------------------------------------------------------------


def facts_of(**fields: Any) -> RequestFacts:
    endpoint = find_endpoint("POST", "/api/chat")
    assert endpoint is not None
    return NATIVE.read_request(endpoint, {"model": "m", **fields}, size=None)


def test_ordinary_options_are_facts_as_they_were_sent() -> None:
    options = {"temperature": 0.5, "num_ctx": 4096, "stop": ["###", "x" * 512], "use_mmap": True}
    assert facts_of(options=options).options == {**options, "stop": ("###", "x" * 512)}


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        [LONG] * 200,
        ["x"] * 1_000_000,
        {"a": [{"b": LONG}]},
        {LONG: 1},
        {f"key {number}": number for number in range(100_000)},
        [[[LONG] * 20] * 10],
        [["x"] * 250] * 250,
        [{}] * 1_000_000,
    ],
    ids=range(9),
)
def test_the_value_of_an_option_is_bounded(value: Any) -> None:
    options = facts_of(options={**dict.fromkeys("abcdef", value), "num_ctx": 8}).options
    assert options["num_ctx"] == 8
    assert len(json.dumps(options)) < 2 * LONGEST_NAME * MOST_VALUES


def test_an_option_of_too_many_values_is_left_out() -> None:
    assert facts_of(options={"stop": ["x"] * MOST_VALUES}).options == {"stop": ("x",) * MOST_VALUES}
    assert facts_of(options={"stop": ["x"] * (MOST_VALUES + 1)}).options == {}


def test_options_are_bounded_in_number_and_names() -> None:
    many = {f"option {number}": number for number in range(100_000)}
    assert bounded_options(many) == dict(list(many.items())[:MOST_OPTIONS])
    assert bounded_options({LONG: 1, 5: 1, "a": 1}) == {"a": 1}  # type: ignore[dict-item]


@pytest.mark.slow
def test_an_option_that_is_nested_without_end_is_bounded() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert facts_of(options={"stop": deep, "seed": 1}).options == {"seed": 1}
    deep = [LONG]
    for _ in range(200):
        deep = [deep]
    assert "nested too deeply" in json.dumps(facts_of(options={"stop": deep}).options)


def test_more_tools_than_are_listed_are_not_counted_wrongly() -> None:
    tool = {"function": {"name": "f"}}
    facts = facts_of(tools=[tool] * MOST_TOOLS)
    assert (len(facts.tools), facts.tool_count) == (MOST_TOOLS, MOST_TOOLS)
    facts = facts_of(tools=[tool] * (MOST_TOOLS + 1))
    assert facts.tools == ("f",) * MOST_TOOLS + (ResponseFacts.MORE_NAMES,)
    assert facts.tool_count is None
