"""Requests and answers of the native API become facts, in SI units, whatever their fields hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from ollama_otel._wire.endpoints import ENDPOINTS, find_endpoint
from ollama_otel._wire.lenient_json import parse_object
from ollama_otel._wire.native import NATIVE
from ollama_otel._wire.native.response import (
    Tally,
    answer_of,
    has_no_answer,
    has_tool_calls,
    read_completion,
    read_progress,
    text_of,
    tool_calls_of,
)
from ollama_otel.records import (
    Endpoint,
    Message,
    Progress,
    RequestFacts,
    ResponseFacts,
    Text,
)
from tests.examples import examples


def endpoint(path: str, method: str = "POST") -> Endpoint:
    row = find_endpoint(method, path)
    assert row is not None
    return row


def read_request(
    row: Endpoint, body: dict[str, Any] | None, *, size: int | None = None
) -> RequestFacts:
    return NATIVE.read_request(row, body, size=size)


def asked(path: str, **body: Any) -> RequestFacts:
    return read_request(endpoint(path), body)


def read_embedding(document: bytes) -> ResponseFacts:
    return NATIVE.read_document(endpoint("/api/embed"), document)


def read_usage(document: bytes) -> ResponseFacts:
    return NATIVE.read_document(endpoint("/v1/systemone"), document)


MESSAGES = [{"role": "user", "content": "Hello"}]

# --- requests ---------------------------------------------------------------------------------


def test_all_that_is_asked_is_read() -> None:
    facts = read_request(
        endpoint("/api/chat"),
        {
            "model": "qwen3:8b",
            "messages": [*MESSAGES, {"role": "user", "content": "", "images": ["a", "b"]}],
            "stream": False,
            "options": {"temperature": 0.5},
            "think": "low",
            "keep_alive": "5m",
            "format": {"type": "object"},
            "truncate": False,
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
        size=123,
    )
    assert facts == RequestFacts(
        model="qwen3:8b",
        stream=False,
        purpose="call",
        options={"temperature": 0.5},
        think="low",
        keep_alive="5m",
        asks_for_json=True,
        truncate=False,
        input_count=2,
        image_count=2,
        tools=("f",),
        size=123,
    )


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: f"{row.method} {row.path}")
def test_a_request_that_could_not_be_read_has_the_servers_defaults(row: Endpoint) -> None:
    assert read_request(row, None, size=7) == RequestFacts(
        stream=bool(row.streams_by_default), size=7
    )


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"model": "m"}, "m"),
        ({"name": "m"}, "m"),
        ({"model": "", "name": "m"}, "m"),
        ({"model": "m", "name": "n"}, "m"),
        ({"source": "m", "destination": "n"}, "m"),
        ({"model": 7}, None),
        ({}, None),
    ],
)
def test_the_model_stands_under_one_of_three_names(body: dict[str, Any], model: str | None) -> None:
    assert asked("/api/show", **body).model == model


@pytest.mark.parametrize(
    "path", ["/api/chat", "/api/generate", "/api/pull", "/api/push", "/api/create"]
)
@pytest.mark.parametrize(
    ("stream", "streams"), [(True, True), (False, False), (None, True), ("no", True), (0, True)]
)
def test_a_long_answer_streams_unless_told_not_to(path: str, stream: Any, streams: bool) -> None:
    assert asked(path, model="m", stream=stream).stream is streams
    assert asked(path, model="m").stream is True


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/api/show", "/api/copy"])
def test_what_never_streams_does_not_when_asked(path: str) -> None:
    assert asked(path, model="m", stream=True).stream is False


ZEROS = [0, 0.0, -0.0, "0", "0s", "0m", "0h", "0ms", "0h0m0s", "-0", "+0s", "0.0s", "00"]
OTHERS = [
    None,
    5,
    -1,
    0.5,
    "5m",
    "-1s",
    "1m0s",
    "10s",
    "300",
    "",
    "s",
    "never",
    True,
    False,
    [],
    {},
]


@pytest.mark.parametrize(
    ("path", "field"), [("/api/chat", "messages"), ("/api/generate", "prompt")]
)
@pytest.mark.parametrize("empty", ["absent", "", [], None])
@pytest.mark.parametrize(
    ("keep_alive", "purpose"),
    [*((zero, "unload") for zero in ZEROS), *((other, "load") for other in OTHERS)],
)
def test_an_empty_input_loads_or_unloads(
    path: str, field: str, empty: Any, keep_alive: Any, purpose: str
) -> None:
    body = {"model": "m", "keep_alive": keep_alive}
    if empty != "absent":
        body[field] = empty
    assert read_request(endpoint(path), body).purpose == purpose


@pytest.mark.parametrize("keep_alive", ZEROS)
def test_an_input_makes_a_call_even_if_the_model_is_to_go_after_it(keep_alive: Any) -> None:
    assert asked("/api/generate", prompt="Hi", keep_alive=keep_alive).purpose == "call"
    assert asked("/api/chat", messages=MESSAGES, keep_alive=keep_alive).purpose == "call"


def test_images_without_a_prompt_are_no_input() -> None:
    assert asked("/api/generate", images=["aGk="]).purpose == "load"


@pytest.mark.parametrize(
    ("path", "body", "purpose"),
    [
        ("/api/embed", {"input": "a"}, "call"),
        ("/api/embed", {"input": ["a"]}, "call"),
        ("/api/embed", {"input": []}, "load"),
        ("/api/embed", {"input": "", "keep_alive": 0}, "load"),
        ("/api/embed", {}, "load"),
        ("/api/embeddings", {"prompt": "a"}, "call"),
        ("/api/embeddings", {"prompt": ""}, "load"),
        ("/api/pull", {"model": "m"}, "call"),
        ("/api/show", {"model": "m", "keep_alive": 0}, "call"),
    ],
)
def test_embedding_nothing_loads_and_never_unloads(
    path: str, body: dict[str, Any], purpose: str
) -> None:
    assert asked(path, **body).purpose == purpose


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("5m", "5m"),
        (0, "0"),
        (0.0, "0.0"),
        (-1, "-1"),
        (None, None),
        (True, None),
        ([1], None),
        (2**70, None),
    ],
)
def test_keep_alive_is_read_as_it_was_sent(sent: Any, read: str | None) -> None:
    assert asked("/api/chat", messages=MESSAGES, keep_alive=sent).keep_alive == read


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/api/chat", {"messages": MESSAGES * 3}, 3),
        ("/api/chat", {"messages": []}, 0),
        ("/api/chat", {"messages": "Hello"}, None),
        ("/api/chat", {}, None),
        ("/api/generate", {"prompt": "Hello"}, None),
        ("/api/embed", {"input": "a"}, 1),
        ("/api/embed", {"input": ["a", "b"]}, 2),
        ("/api/embed", {"input": []}, 0),
        ("/api/embed", {}, 0),
        ("/api/embeddings", {"prompt": "a"}, 1),
    ],
)
def test_inputs_are_counted(path: str, body: dict[str, Any], count: int | None) -> None:
    assert asked(path, **body).input_count == count


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/api/generate", {"prompt": "a", "images": ["x", "y"]}, 2),
        ("/api/generate", {"prompt": "a", "images": "x"}, 0),
        ("/api/generate", {"prompt": "a"}, 0),
        ("/api/chat", {"messages": [{"images": ["x"]}, {"images": ["y", "z"]}, {}, "odd"]}, 3),
        ("/api/chat", {"messages": [{"images": None}, {"images": "x"}]}, 0),
    ],
)
def test_images_are_counted(path: str, body: dict[str, Any], count: int) -> None:
    assert asked(path, **body).image_count == count


@pytest.mark.parametrize(
    ("format_", "asks"), [("json", True), ({"type": "object"}, True), ("", False), (None, False)]
)
def test_a_format_asks_for_json(format_: Any, asks: bool) -> None:
    assert asked("/api/chat", messages=MESSAGES, format=format_).asks_for_json is asks


@pytest.mark.parametrize(
    ("think", "read"),
    [(True, True), (False, False), ("high", "high"), (None, None), (1, None), ([], None)],
)
def test_thinking_is_switched_or_graded(think: Any, read: Any) -> None:
    assert asked("/api/chat", messages=MESSAGES, think=think).think is read


@pytest.mark.parametrize(
    ("dimensions", "read"),
    [(256, 256), (0, None), (-1, None), (True, None), ("8", None), (2**63, None)],
)
def test_dimensions_are_a_count(dimensions: Any, read: int | None) -> None:
    assert asked("/api/embed", input="a", dimensions=dimensions).dimensions == read


def test_tools_without_a_name_are_counted_too() -> None:
    tools = [{"function": {"name": "f"}}, {"function": {}}, {}, "odd", {"function": {"name": 7}}]
    assert asked("/api/chat", messages=MESSAGES, tools=tools).tools == ("f", "", "", "", "")
    assert asked("/api/chat", messages=MESSAGES, tools="f").tools == ()


def test_what_is_asked_is_read_apart_from_the_facts() -> None:
    body = {"model": "m", "messages": MESSAGES}
    assert "Hello" not in repr(asked("/api/chat", **body))
    conversation = NATIVE.conversation(endpoint("/api/chat"), body)
    assert conversation.messages == (Message(role="user", parts=(Text("Hello"),)),)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
request_fields = st.sampled_from(
    [
        *(
            "model",
            "name",
            "source",
            "stream",
            "think",
            "keep_alive",
            "options",
            "tools",
            "messages",
        ),
        *("images", "raw", "truncate", "format", "dimensions", "input", "prompt", "function"),
    ]
)
bodies = st.dictionaries(request_fields, json_values | st.dictionaries(request_fields, json_values))


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(row=st.sampled_from(ENDPOINTS), body=bodies)
def test_a_request_of_any_json_is_read(row: Endpoint, body: dict[str, Any]) -> None:
    facts = read_request(row, body)
    assert facts.model is None or isinstance(facts.model, str)
    assert isinstance(facts.stream, bool)
    assert facts.purpose in {"call", "load", "unload"}
    assert isinstance(facts.options, dict)
    assert facts.think is None or isinstance(facts.think, bool | str)
    assert facts.keep_alive is None or isinstance(facts.keep_alive, str)
    assert isinstance(facts.asks_for_json, bool)
    assert facts.raw in {None, True, False}
    assert facts.dimensions is None or facts.dimensions > 0
    assert all(isinstance(name, str) for name in facts.tools)


# --- answers ----------------------------------------------------------------------------------


FINAL = {
    "model": "m",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "total_duration": 2_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 10,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 30,
    "eval_duration": 1,
}


def test_nanoseconds_are_divided_once() -> None:
    assert read_completion(FINAL) == ResponseFacts(
        model="m",
        done=True,
        done_reason="stop",
        input_tokens=10,
        output_tokens=30,
        total_duration=2.0,
        load_duration=0.5,
        prompt_eval_duration=0.25,
        eval_duration=1e-9,
    )


def test_zero_is_zero_and_an_absence_is_not_known() -> None:
    zero = read_completion({"done": True, "eval_count": 0, "load_duration": 0})
    assert (zero.output_tokens, zero.load_duration) == (0, 0.0)
    absent = read_completion({"done": True})
    assert (absent.output_tokens, absent.load_duration) == (None, None)


@pytest.mark.parametrize("odd", [-1, 1.5, True, "7", None, [], {}, 2**63, float("nan")])
@pytest.mark.parametrize("field", [key for key in FINAL if key.endswith(("count", "duration"))])
def test_an_odd_number_is_not_known(field: str, odd: Any) -> None:
    facts = read_completion({**FINAL, field: odd})
    unknown = [name for name, value in asdict(facts).items() if value is None]
    assert len(unknown) == 4
    assert facts.done


@pytest.mark.parametrize("done", [False, None, 1, "true"])
def test_only_true_is_done(done: Any) -> None:
    assert not read_completion({**FINAL, "done": done}).done


def test_a_remote_model_is_named() -> None:
    facts = read_completion(
        {**FINAL, "remote_model": "big", "remote_host": "https://ollama.com:443"}
    )
    assert (facts.remote_model, facts.remote_host) == ("big", "https://ollama.com:443")


def test_nothing_read_is_nothing_known() -> None:
    assert read_completion(None) == ResponseFacts()
    assert read_completion(None, has_thinking=True) == ResponseFacts(has_thinking=True)


CALL = {"function": {"name": "f", "arguments": {}}}


def test_tool_calls_of_earlier_parts_come_first() -> None:
    parts: list[dict[str, Any]] = [
        {"message": {"tool_calls": [{"function": {"name": "a"}}]}},
        {"message": {"tool_calls": [{"function": {"name": "b"}}, "odd", {}]}},
    ]
    final = {"message": {"tool_calls": [{"function": {"name": "c"}}]}, "done": True}
    assert read_completion(final, tool_parts=parts).tool_calls == ("a", "b", "", "c")


def test_a_generation_carries_its_tool_calls_at_the_top() -> None:
    assert read_completion({"response": "", "done": True, "tool_calls": [CALL]}).tool_calls == (
        "f",
    )


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"message": {"content": "Hi"}}, "Hi"),
        ({"response": "Hi"}, "Hi"),
        ({"message": {"content": ""}, "response": "not this"}, ""),
        ({"message": "odd", "response": "Hi"}, "Hi"),
        ({"message": {"content": 7}}, ""),
        ({"response": None}, ""),
        ({}, ""),
    ],
)
def test_the_text_of_a_part_stands_in_its_message_or_its_response(
    part: dict[str, Any], text: str
) -> None:
    assert text_of(part) == text


def test_thinking_stands_beside_the_text() -> None:
    assert answer_of({"message": {"thinking": "Hm"}}).get("thinking") == "Hm"
    assert answer_of({"response": "", "thinking": "Hm"}).get("thinking") == "Hm"
    assert read_completion({"message": {"thinking": "Hm"}, "done": True}).has_thinking


@pytest.mark.parametrize(
    ("error", "text"),
    [("boom", "boom"), ("", None), (None, None), ({"message": "x"}, '{"message": "x"}'), (7, "7")],
)
def test_an_error_field_is_told_as_text(error: Any, text: str | None) -> None:
    assert read_completion({"error": error}).error == text
    assert read_progress({"error": error}).error == text


@pytest.mark.parametrize(
    ("line", "has_none"),
    [
        (b'{"message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}', True),
        (b'{"response":"","thinking":"Hm","done":false}', True),
        (b'{"message":{"role":"assistant","content":"x"},"done":false}', False),
        (b'{"message":{"role":"assistant","content":"\\"content\\":\\"\\""},"done":false}', False),
        (b'{"message":{"role":"assistant","content":"","tool_calls":[]},"done":false}', False),
        (b'{"message":{"role":"assistant","content": ""},"done":false}', False),
        (b'{"error":"boom"}', False),
        (b"", False),
    ],
)
def test_a_part_surely_without_an_answer_is_known_unparsed(line: bytes, has_none: bool) -> None:
    assert has_no_answer(line) is has_none


@settings(max_examples=examples(200))
@given(content=st.text(max_size=30), thinking=st.text(max_size=30), is_chat=st.booleans())
def test_no_part_with_an_answer_is_taken_for_one_without(
    content: str, thinking: str, is_chat: bool
) -> None:
    part: dict[str, Any] = (
        {"message": {"role": "assistant", "content": content, "thinking": thinking}}
        if is_chat
        else {"response": content, "thinking": thinking}
    )
    for ascii_only in (True, False):
        line = json.dumps(part, separators=(",", ":"), ensure_ascii=ascii_only).encode()
        assert has_no_answer(line) is (content == "")
        assert not has_tool_calls(line)


def test_tool_calls_are_found_unparsed() -> None:
    assert has_tool_calls(b'{"message":{"tool_calls":[{"function":{}}]}}')
    assert not has_tool_calls(b'{"message":{"content":"\\"tool_calls\\""}}')


@pytest.mark.parametrize("calls", [None, "f", {}, ["f", 7, None], 7])
def test_tool_calls_of_another_shape_are_none(calls: Any) -> None:
    assert tool_calls_of({"message": {"tool_calls": calls}}) == []


@settings(max_examples=examples(60))
@given(
    st.dictionaries(
        st.sampled_from([*FINAL, "error", "tool_calls", "response", "thinking"]), json_values
    )
)
def test_an_answer_of_any_json_is_read(part: dict[str, Any]) -> None:
    facts = read_completion(part, tool_parts=[part])
    assert facts.total_duration is None or facts.total_duration >= 0
    assert facts.error is None or isinstance(facts.error, str)
    assert all(isinstance(name, str) for name in facts.tool_calls)
    assert isinstance(text_of(part), str)
    read_progress(part)
    read_usage(json.dumps(part).encode())
    read_embedding(json.dumps(part).encode())


# --- documents --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{",
        b'{"a":1} x',
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 9_999,
    ],
)
def test_what_is_no_json_object_is_none(document: bytes) -> None:
    assert parse_object(document) is None


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b' {"a":1}\r\n', {"a": 1}),
        ('{"a":"\u2028\u0085"}'.encode(), {"a": "\u2028\u0085"}),
        ('{"a":1}'.encode("utf-16"), {"a": 1}),
        (b'{"a":"\\ud83d"}', {"a": "?"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_a_json_object_is_read(document: bytes, value: dict[str, Any]) -> None:
    assert parse_object(document) == value


@pytest.mark.parametrize(
    ("document", "vectors"),
    [
        (
            b'{"embeddings":[[0.1,0.2],[0.3,4]],"prompt_eval_count":6}',
            (b"[[0.1,0.2],[0.3,4]]", 2, 2),
        ),
        (b'{"embedding":[1e-9, 2, 3]}', (b"[1e-9, 2, 3]", 1, 3)),
        (b'{"embedding":[]}', None),
        (b'{"error":"x"}', None),
        (b"", None),
        (b"][", None),
    ],
)
def test_vectors_are_found(document: bytes, vectors: tuple[bytes, int, int] | None) -> None:
    span = NATIVE.vectors(document)
    found = None if span is None else (document[span.start : span.end], span.count, span.dimensions)
    assert found == vectors


def test_an_embedding_is_done_when_its_vectors_are_there() -> None:
    facts = read_embedding(
        b'{"model":"e","embeddings":[[0.1]],"total_duration":48210400,"load_duration":12100300,'
        b'"prompt_eval_count":6}'
    )
    assert facts == ResponseFacts(
        model="e", done=True, input_tokens=6, total_duration=0.0482104, load_duration=0.0121003
    )
    assert read_embedding(b'{"embedding":[0.1]}') == ResponseFacts(done=True)
    assert read_embedding(b'{"model":"e"}') == ResponseFacts(model="e")
    assert read_embedding(b"odd") == ResponseFacts()


def test_usage_is_read() -> None:
    document = b'{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}'
    assert read_usage(document) == ResponseFacts(
        model="m", done=True, input_tokens=3, output_tokens=4
    )
    assert read_usage(b'{"error":"boom"}') == ResponseFacts(error="boom")
    assert read_usage(b'{"usage":7}') == ResponseFacts(done=True)
    assert read_usage(b"odd") == ResponseFacts()


def test_a_long_job_is_done_at_success() -> None:
    assert read_progress({"status": "success"}) == ResponseFacts(done=True)
    assert read_progress({"status": "writing manifest"}) == ResponseFacts()
    assert read_progress(None) == ResponseFacts()


# --- progress ---------------------------------------------------------------------------------


def moved(*lines: tuple[str, int, int | None, float]) -> Progress:
    """Lines of digest, total and completed bytes, each with the time at which it came."""
    tally = Tally()
    for digest, total, completed, now in lines:
        part: dict[str, Any] = {"status": "pulling", "digest": digest, "total": total}
        if completed is not None:
            part["completed"] = completed
        tally.add(part, now)
    return tally.total()


def test_nothing_is_known_before_the_first_layer() -> None:
    tally = Tally()
    tally.add({"status": "pulling manifest"}, 1.0)
    progress = tally.total()
    assert (progress.total_bytes, progress.moved_bytes, progress.rate) == (None, None, None)


def test_layers_add_up() -> None:
    progress = moved(
        ("a", 100, None, 1.0),
        ("a", 100, 60, 2.0),
        ("b", 50, None, 2.0),
        ("a", 100, 100, 3.0),
        ("b", 50, 50, 6.0),
    )
    assert progress.total_bytes == 150
    assert progress.moved_bytes == 150
    assert progress.rate == 30.0


def test_a_pull_taken_up_again_counts_only_what_it_moved() -> None:
    progress = moved(("a", 100, 40, 1.0), ("a", 100, 70, 2.0), ("a", 100, 100, 4.0))
    assert progress.total_bytes == 100
    assert progress.moved_bytes == 60
    assert progress.rate == 20.0


def test_layers_that_are_there_already_move_nothing() -> None:
    progress = moved(("a", 100, 100, 1.0), ("b", 50, 50, 1.5))
    assert progress.total_bytes == 150
    assert progress.moved_bytes == 0
    assert progress.rate is None


def test_time_in_which_nothing_moved_at_the_end_is_not_counted() -> None:
    progress = moved(("a", 100, 0, 1.0), ("a", 100, 100, 3.0), ("a", 100, 100, 90.0))
    assert progress.rate == 50.0


def test_a_count_that_falls_back_moves_nothing_backwards() -> None:
    progress = moved(("a", 100, 0, 1.0), ("a", 100, 80, 2.0), ("a", 100, 10, 3.0))
    assert progress.moved_bytes == 80


def test_a_rate_over_no_time_is_not_known() -> None:
    assert moved(("a", 100, 0, 1.0), ("a", 100, 80, 1.0)).rate is None


@pytest.mark.parametrize(
    "part",
    [
        {"digest": 7, "total": 100},
        {"digest": "a"},
        {"digest": "a", "total": "100"},
        {"digest": "a", "total": -1},
        {"digest": "a", "total": True},
        {"total": 100},
        {},
    ],
)
def test_odd_lines_count_nothing(part: dict[str, Any]) -> None:
    tally = Tally()
    tally.add(part, 1.0)
    assert tally.total() == Progress()


def test_a_total_that_changes_is_the_newest() -> None:
    assert moved(("a", 100, 0, 1.0), ("a", 200, 0, 2.0)).total_bytes == 200
