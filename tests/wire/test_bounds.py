"""Names of users, models and servers are bounded, in length and in number."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._wire.bounds import LONGEST_NAME, bounded_name, bounded_names
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.native import NATIVE
from ollama_otel._wire.native.response import Tally
from ollama_otel.records import Progress, ResponseFacts

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
