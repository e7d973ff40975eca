"""Records cannot be changed: not by an observer, and not by the caller whose values they hold."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec import Struct
from msgspec.structs import replace

from ollama_otel import (
    CallFollower,
    CallRecord,
    CallStart,
    Client,
    Settings,
    build_instrumentation,
    call_context,
    records,
)
from ollama_otel._frozen import FrozenDict, frozen
from ollama_otel._guard import guard
from ollama_otel._telemetry.instrumentation import replay_log_of
from ollama_otel.context import CallContext
from ollama_otel.records import ModelResidency, Part
from ollama_otel.testing import Capture, FakeOllama

PNG = "iVBORw0KGgo="
TYPES = {
    *(
        value
        for name in records.__all__
        if isinstance(value := getattr(records, name), type) and issubclass(value, Struct)
    ),
    CallContext,
}
POSITIONAL = {records.Text, records.Thinking}
"""Structs of one field, which says all."""


class _Residency:
    """An enricher that knows the GPU share of every call's model."""

    def begin(self, start: CallStart) -> Callable[[CallRecord], ModelResidency]:
        return lambda record: ModelResidency(gpu_share=0.5, reload_cause="num_ctx")


def question() -> dict[str, Any]:
    """A request with every kind of value, as a caller's own objects."""
    return {
        "model": "llama3.2",
        "messages": [
            {"role": "user", "content": "Which city is this?", "images": [PNG]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "A tower.",
                "tool_calls": [
                    {"function": {"name": "look", "arguments": {"at": ["Paris", {"zoom": 2}]}}}
                ],
            },
            {"role": "tool", "content": "rain", "tool_name": "look"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Looks.",
                    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
                },
            }
        ],
        "options": {"temperature": 0.5, "stop": ["a", "b"]},
        "format": {"type": "object", "required": ["city"]},
    }


def record_of(request: dict[str, Any], capture: Capture) -> CallRecord:
    client = Client(
        "http://h",
        transport=FakeOllama().transport(),
        settings=Settings(capture_content="span_only"),
        enrichers=[_Residency()],
        **capture.options,
    )
    with client, call_context(conversation_id="c", user_id="u", tags={"team": "blue"}):
        client.chat(**request)
    (record,) = capture.records
    return record


@pytest.fixture
def record(capture: Capture) -> CallRecord:
    """A record with every section and every kind of part."""
    return record_of(question(), capture)


def inside(value: Any) -> Iterator[Any]:
    """Every value in a record, the record first."""
    yield value
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from inside(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from inside(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from inside(item)


def structs(record: CallRecord) -> list[Struct]:
    return [value for value in inside(record) if isinstance(value, Struct)]


def test_the_sample_holds_every_type_of_a_record(record: CallRecord) -> None:
    assert {type(value) for value in structs(record)} == TYPES
    assert set(get_args(Part)) <= TYPES
    mappings = [value for value in inside(record) if isinstance(value, Mapping) and value]
    assert len(mappings) >= 8


def test_no_field_can_be_set_or_deleted(record: CallRecord) -> None:
    for value in structs(record):
        for name in value.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(value, name, None)
            with pytest.raises(AttributeError):
                delattr(value, name)
        with pytest.raises(AttributeError):
            value.added = 1  # type: ignore[attr-defined]


def test_nothing_that_can_be_changed_is_inside(record: CallRecord) -> None:
    plain = (str, bytes, int, float, type(None), tuple, FrozenDict, Struct)
    assert [value for value in inside(record) if not isinstance(value, plain)] == []


CHANGES: dict[str, Callable[[Any], Any]] = {
    "set an item": lambda mapping: mapping.__setitem__("temperature", 1),
    "delete an item": lambda mapping: mapping.__delitem__(next(iter(mapping))),
    "or": lambda mapping: mapping.__ior__({"a": 1}),
    "clear": lambda mapping: mapping.clear(),
    "pop": lambda mapping: mapping.pop(next(iter(mapping))),
    "pop with a default": lambda mapping: mapping.pop("nothing", None),
    "popitem": lambda mapping: mapping.popitem(),
    "setdefault": lambda mapping: mapping.setdefault("added", 1),
    "update": lambda mapping: mapping.update(added=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_mapping_can_be_changed(record: CallRecord, change: str) -> None:
    for mapping in (value for value in inside(record) if isinstance(value, Mapping) and value):
        before = dict(mapping)
        with pytest.raises(TypeError, match="read-only"):
            CHANGES[change](mapping)
        assert mapping == before


@pytest.mark.parametrize("kind", sorted(TYPES - POSITIONAL, key=lambda kind: kind.__name__))
def test_fields_are_given_by_keyword(kind: type[Struct]) -> None:
    with pytest.raises(TypeError, match="positional"):
        kind(*["x"] * len(kind.__struct_fields__))


def test_a_record_can_be_pickled_and_copied(record: CallRecord) -> None:
    for copied in (
        pickle.loads(pickle.dumps(record)),
        copy.deepcopy(record),
        copy.copy(record),
    ):
        assert copied == record
        assert [type(value) for value in inside(copied)] == [
            type(value) for value in inside(record)
        ]


def test_a_record_with_a_change_is_a_record_of_its_own(record: CallRecord) -> None:
    changed = replace(record, outcome="failed")
    assert (changed.outcome, record.outcome) == ("failed", "completed")


def test_a_mapping_is_copied_to_be_changed(record: CallRecord) -> None:
    options = dict(record.start.request.options)
    options["temperature"] = 1.0
    assert record.start.request.options["temperature"] == 0.5
    assert json.loads(json.dumps(record.start.request.options)) == {
        "temperature": 0.5,
        "stop": ["a", "b"],
    }


def test_what_the_caller_changes_afterwards_changes_no_record(capture: Capture) -> None:
    request = question()
    record = record_of(request, capture)
    before = copy.deepcopy(record)
    request["options"]["temperature"] = 9
    request["options"]["stop"].append("c")
    request["messages"][1]["tool_calls"][0]["function"]["arguments"]["at"][1]["zoom"] = 9
    request["messages"].clear()
    request["tools"][0]["function"]["parameters"]["properties"].clear()
    request["format"]["required"].clear()
    assert record == before
    assert record.start.conversation is not None
    assert record.start.conversation.settings["format"] == {
        "type": "object",
        "required": ("city",),
    }


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_a_value_that_is_nested_without_end_is_cut(wrap: Callable[[Any], Any]) -> None:
    value: Any = 1
    for _ in range(5_000):
        value = wrap(value)
    cut = frozen(value)
    for _ in range(64):
        (cut,) = cut.values() if isinstance(cut, dict) else cut
    assert cut == "[nested too deeply]"


def test_tags_that_change_afterwards_change_no_record(capture: Capture) -> None:
    tags = {"team": "blue"}
    client = Client("http://h", transport=FakeOllama().transport(), **capture.options)
    with client, call_context(tags=tags):
        tags["team"] = "red"
        client.chat("llama3.2")
    assert capture.records[0].start.context.tags == {"team": "blue"}


class _Vandal(CallFollower):
    """Begins to follow a call, and tries to change its record."""

    def begin(self, start: CallStart) -> CallFollower:
        return self

    def end(self, record: CallRecord) -> None:
        record.outcome = "failed"  # type: ignore[misc]


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_observer_cannot_change_what_others_are_handed(
    order: tuple[int, ...], capture: Capture, tmp_path: Path
) -> None:
    settings = Settings(replay_log=str(tmp_path / "calls.jsonl"))
    log = replay_log_of(settings)
    assert log is not None
    own = build_instrumentation(**{**capture.options, "observers": ()})
    everyone = [*own.observers, log, _Vandal(), capture.observer]
    assert len(everyone) == len(order)
    observers = tuple(everyone[place] for place in order)
    client = Client(
        "http://h",
        transport=FakeOllama().transport(),
        instrumentation=dataclasses.replace(own, observers=observers),
    )
    with client:
        client.chat("llama3.2", [{"role": "user", "content": "Hello"}])
    assert log.close()
    assert guard.faults == {"_Vandal took a record: AttributeError": 1}
    assert [record.outcome for record in capture.records] == ["completed"]
    (span,) = capture.spans
    assert (span.attributes or {})["ollama.outcome"] == "completed"
    assert capture.total("gen_ai.client.operation.duration", ollama_outcome="completed") == 1
    end = json.loads(log.path.read_text().splitlines()[-1])
    assert (end["event"], end["outcome"]) == ("end", "completed")


@pytest.mark.parametrize(
    ("share", "is_on_cpu"),
    # Seen on an H100: no layer on the GPU, half of them, all of them.
    [(None, None), (0.0, True), (0.046, True), (0.1, False), (0.485, False), (1.0, False)],
)
def test_a_model_on_the_cpu_has_a_small_share_not_only_none(
    share: float | None, is_on_cpu: bool | None
) -> None:
    assert ModelResidency(gpu_share=share).is_on_cpu is is_on_cpu
