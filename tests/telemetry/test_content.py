"""What is captured has the form of the conventions, is redacted, is cut, and holds no image."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ollama_otel import _names as names
from ollama_otel._telemetry.content import ContentPolicy, as_json
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.native import NATIVE
from ollama_otel._wire.native.request import tool_calls as native_tool_calls
from ollama_otel.records import (
    CallRecord,
    CallStart,
    Message,
    Part,
    ResponseFacts,
    Text,
    Thinking,
)
from ollama_otel.settings import Settings

DATA = Path(__file__).parents[1] / "data"
EXAMPLE = json.loads((DATA / "genai-example-ollama-chat.json").read_text())
PLAIN = ContentPolicy()

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00picture" * 8


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def validators(name: str) -> list[Draft202012Validator]:
    return [
        Draft202012Validator(json.loads((DATA / "genai-schemas" / profile / name).read_text()))
        for profile in ("v1.41", "gen-ai-dev")
    ]


INPUT = validators("strict/gen-ai-input-messages.json")
OUTPUT = validators("strict/gen-ai-output-messages.json")
SYSTEM = validators("strict/gen-ai-system-instructions.json")
TOOLS = validators("gen-ai-tool-definitions.json")


def check(value: list[dict[str, Any]], against: list[Draft202012Validator]) -> None:
    for validator in against:
        validator.validate(value)


PATHS = {"chat": "/api/chat", "text_completion": "/api/generate", "embeddings": "/api/embed"}


def written(
    operation: str,
    request: dict[str, Any],
    policy: ContentPolicy,
    answer: Message | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    """What is captured of one call, by attribute."""
    endpoint = find_endpoint("POST", PATHS.get(operation, "/api/create"))
    assert endpoint is not None
    writer = MessageWriter(
        Settings(
            redactors=policy.redactors,
            content_max_length=policy.max_length,
            content_redaction=policy.finds_secrets,
        )
    )
    record = CallRecord(
        start=CallStart(endpoint=endpoint, conversation=NATIVE.conversation(endpoint, request)),
        outcome="completed",
        ending="final_message",
        duration=1.0,
        response=ResponseFacts(done_reason=finish_reason),
        answer=answer,
    )
    return writer.as_values(record)


def input_messages(operation: str, request: dict[str, Any], policy: ContentPolicy) -> list[Any]:
    return list(written(operation, request, policy).get(names.INPUT_MESSAGES, []))


def system_instructions(
    operation: str, request: dict[str, Any], policy: ContentPolicy
) -> list[Any]:
    return list(written(operation, request, policy).get(names.SYSTEM_INSTRUCTIONS, []))


def tool_definitions(request: dict[str, Any], policy: ContentPolicy) -> list[Any]:
    return list(written("chat", request, policy).get(names.TOOL_DEFINITIONS, []))


def output_messages(
    *,
    role: str | None,
    text: str | None,
    thinking: str | None,
    tool_calls: Any,
    finish_reason: str | None,
    policy: ContentPolicy,
    tools: Sequence[Any] = (),
) -> list[Any]:
    parts: tuple[Part, ...] = (
        *([Thinking(thinking)] if thinking else []),
        *([Text(text)] if text else []),
        *native_tool_calls(tool_calls),
    )
    message = Message(role=role or "assistant", parts=parts)
    values = written("chat", {"tools": tools}, policy, message, finish_reason)
    return list(values.get(names.OUTPUT_MESSAGES, []))


def answer(**facts: Any) -> list[dict[str, Any]]:
    nothing: dict[str, Any] = {
        "role": "assistant",
        "text": None,
        "thinking": None,
        "tool_calls": None,
        "finish_reason": None,
    }
    return output_messages(**{**nothing, "policy": PLAIN, **facts})


# The worked example


def test_the_worked_example_comes_out_but_for_its_image() -> None:
    messages = input_messages("chat", EXAMPLE["ollama_request"], PLAIN)
    expected = EXAMPLE["gen_ai.input.messages"]
    assert expected[1]["parts"][1] == {
        "type": "blob",
        "modality": "image",
        "mime_type": "image/png",
        "content": "iVBORw0KGgo=",
    }
    assert messages[1]["parts"][1] == {
        "type": "file",
        "modality": "image",
        "file_id": "sha256:4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6",
        "mime_type": "image/png",
        "size": 8,
    }
    expected[1]["parts"][1] = messages[1]["parts"][1]
    assert messages == expected
    check(messages, INPUT)


def test_the_example_s_answers_come_out() -> None:
    last = answer(text="Paris: rain, 14 C.", finish_reason="stop")
    assert last == EXAMPLE["gen_ai.output.messages"]
    asked = EXAMPLE["ollama_request"]["messages"][2]
    previous = answer(
        text=asked["content"],
        thinking=asked["thinking"],
        tool_calls=asked["tool_calls"],
        finish_reason="tool_call",
    )
    assert previous == EXAMPLE["gen_ai.output.messages (previous turn)"]
    check(last, OUTPUT)
    check(previous, OUTPUT)


def test_the_example_s_tools_come_out_with_description_and_parameters() -> None:
    definitions = tool_definitions(EXAMPLE["ollama_request"], PLAIN)
    required = [{key: tool[key] for key in ("type", "name")} for tool in definitions]
    assert required == EXAMPLE["gen_ai.tool.definitions"]
    function = EXAMPLE["ollama_request"]["tools"][0]["function"]
    assert definitions == [{"type": "function", **function}]
    check(definitions, TOOLS)


def test_the_generate_variant_comes_out() -> None:
    variant = EXAMPLE["generate_variant"]
    request, operation = variant["ollama_request"], variant["gen_ai.operation.name"]
    assert input_messages(operation, request, PLAIN) == variant["gen_ai.input.messages"]
    assert system_instructions(operation, request, PLAIN) == variant["gen_ai.system_instructions"]
    assert answer(text="Bonjour", finish_reason="stop") == variant["gen_ai.output.messages"]


def test_the_strict_schemas_would_notice_a_part_without_its_content() -> None:
    for validator in (*INPUT, *OUTPUT):
        message = {"role": "user", "parts": [{"type": "text"}], "finish_reason": "stop"}
        assert not validator.is_valid([message])


# The mapping


def test_embeddings_have_no_content() -> None:
    request = {"model": "m", "input": ["secret"], "prompt": "secret", "system": "s"}
    assert input_messages("embeddings", request, PLAIN) == []
    assert system_instructions("embeddings", request, PLAIN) == []


def test_a_system_message_of_a_chat_stays_in_the_history() -> None:
    request = {"messages": [{"role": "System", "content": "s"}], "system": "ignored"}
    assert system_instructions("chat", request, PLAIN) == []
    assert input_messages("chat", request, PLAIN) == [
        {"role": "system", "parts": [{"type": "text", "content": "s"}]}
    ]


def test_the_prompt_s_images_follow_the_prompt() -> None:
    request = {"prompt": "what?", "images": [base64_of(PNG)]}
    [message] = input_messages("text_completion", request, PLAIN)
    assert [part["type"] for part in message["parts"]] == ["text", "file"]
    assert input_messages("text_completion", {"prompt": ""}, PLAIN) == []


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ("rain", "rain"),
        ('{"sky": ["rain", 14, null]}', {"sky": ["rain", 14, None]}),
        ("[1]", "[1]"),
        ("{broken", "{broken"),
        ('{"a":' * 9_999, '{"a":' * 9_999),
        (None, ""),
    ],
)
def test_a_tool_s_answer_is_parsed_only_if_it_is_an_object(content: Any, response: Any) -> None:
    policy = ContentPolicy(max_length=100_000)
    request = {"messages": [{"role": "tool", "content": content, "thinking": "no"}]}
    assert input_messages("chat", request, policy)[0]["parts"] == [
        {"type": "tool_call_response", "id": None, "response": response}
    ]


def test_a_tool_call_without_id_has_none() -> None:
    [message] = answer(tool_calls=[{"function": {"name": "f"}}], finish_reason="tool_call")
    assert message["parts"] == [{"type": "tool_call", "id": None, "name": "f", "arguments": None}]


def test_an_answer_that_never_began_is_no_message() -> None:
    assert answer() == []
    assert answer(text="", thinking="", tool_calls=[]) == []


def test_an_empty_answer_that_ended_is_a_message_without_parts() -> None:
    assert answer(finish_reason="stop") == [
        {"role": "assistant", "parts": [], "finish_reason": "stop"}
    ]


def test_a_reason_that_never_came_is_error() -> None:
    messages = answer(role=None, text="Once")
    assert messages == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Once"}],
            "finish_reason": "error",
        }
    ]
    check(messages, OUTPUT)


def test_what_is_not_understood_is_left_out() -> None:
    request = {
        "messages": [
            None,
            "text",
            {},
            {"role": 1, "content": "x"},
            {"role": "user"},
            {"role": "user", "content": 1, "images": "no list", "tool_calls": {"a": 1}},
            {"role": "user", "images": [None, 1, {}], "tool_calls": [None, {}, {"function": 1}]},
            {"role": "user", "tool_calls": [{"function": {"name": None}}]},
        ],
        "tools": [None, {}, {"function": {}}, {"function": {"name": "f", "parameters": 1}}],
    }
    assert input_messages("chat", request, PLAIN) == [{"role": "user", "parts": []}] * 4
    assert tool_definitions(request, PLAIN) == [{"type": "function", "name": "f"}]
    assert input_messages("chat", {"messages": "text"}, PLAIN) == []
    assert tool_definitions({"tools": 1}, PLAIN) == []


# Images


@pytest.mark.parametrize(
    ("content", "modality", "mime_type"),
    [
        (PNG, "image", "image/png"),
        (b"\xff\xd8\xff\xe0", "image", "image/jpeg"),
        (b"GIF89a", "image", "image/gif"),
        (b"BM\x00\x00", "image", "image/bmp"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio", "audio/wav"),
        (b"ID3\x04", "audio", "audio/mpeg"),
        (b"fLaC", "audio", "audio/flac"),
        (b"OggS", "audio", "audio/ogg"),
        (b"what", "image", None),
        (b"", "image", None),
    ],
)
def test_an_image_is_its_hash_size_and_kind(
    content: bytes, modality: str, mime_type: str | None
) -> None:
    expected: dict[str, Any] = {
        "type": "file",
        "modality": modality,
        "file_id": "sha256:" + hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    if mime_type:
        expected["mime_type"] = mime_type
    for sent in (base64_of(content), base64.encodebytes(content).decode(), content):
        request = {"messages": [{"role": "user", "images": [sent]}]}
        messages = input_messages("chat", request, PLAIN)
        assert messages == [{"role": "user", "parts": [expected]}]
        check(messages, INPUT)


@pytest.mark.parametrize("text", ["/home/me/cat.png", "data:image/png;base64,AAAA", "\ud800", "é"])
def test_an_image_that_is_not_base64_is_the_hash_of_its_text(text: str) -> None:
    [message] = input_messages("text_completion", {"images": [text]}, PLAIN)
    content = text.encode("utf-8", "replace")
    assert message["parts"][0]["file_id"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert message["parts"][0]["size"] == len(content)


# Redaction and cutting

TALK: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "secret", "images": ["secret"]},
        {
            "role": "assistant",
            "thinking": "secret",
            "tool_calls": [
                {
                    "id": "secret-id",
                    "function": {
                        "name": "secret_tool",
                        "arguments": {"a": ["secret", {"secret": 1}]},
                    },
                }
            ],
        },
        {"role": "tool", "content": "secret"},
        {"role": "tool", "content": '{"k": ["\\u0073ecret"], "secret": 1}'},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "secret_tool",
                "description": "secret",
                "parameters": {"properties": {"secret": {"description": "secret"}}},
            },
        }
    ],
    "system": "secret",
    "prompt": "secret",
}


def everything(policy: ContentPolicy) -> list[Any]:
    assistant = TALK["messages"][1]
    return [
        input_messages("chat", TALK, policy),
        input_messages("text_completion", TALK, policy),
        system_instructions("text_completion", TALK, policy),
        tool_definitions(TALK, policy),
        output_messages(
            role="assistant",
            text="secret",
            thinking=assistant["thinking"],
            tool_calls=assistant["tool_calls"],
            finish_reason="stop",
            policy=policy,
            tools=TALK["tools"],
        ),
    ]


def test_redactors_change_every_content_and_no_name() -> None:
    policy = ContentPolicy(redactors=(lambda text: text.replace("secret", "***"),))
    assert as_json(everything(PLAIN)).count("secret") == 21
    redacted = as_json(everything(policy))
    assert redacted.count("secret") == redacted.count("secret_tool") + redacted.count("secret-id")
    assert redacted.count("secret") == 5
    assert redacted.count("***") == 16


def test_the_name_of_a_tool_that_was_not_offered_is_content() -> None:
    policy = ContentPolicy(redactors=(lambda text: text.replace("secret", "***"),))
    [message] = output_messages(
        role="assistant",
        text=None,
        thinking=None,
        tool_calls=[{"function": {"name": "my secret"}}, {"function": {"name": "secret_tool"}}],
        finish_reason="stop",
        policy=policy,
        tools=TALK["tools"],
    )
    assert [part["name"] for part in message["parts"]] == ["my ***", "secret_tool"]


def test_redactors_run_in_order() -> None:
    policy = ContentPolicy(redactors=(lambda text: text + "a", lambda text: text + "b"))
    assert policy.apply("x") == "xab"


def fails(text: str) -> str:
    raise RuntimeError(text)


def returns_nothing(text: str) -> Any:
    return None


@pytest.mark.parametrize("redactor", [fails, returns_nothing])
def test_a_failing_redactor_leaks_nothing(redactor: Callable[[str], str]) -> None:
    policy = ContentPolicy(redactors=(redactor, lambda text: text + " never run"))
    captured = everything(policy)
    assert "secret" not in as_json(captured).replace("secret_tool", "").replace("secret-id", "")
    assert captured[2] == [{"type": "text", "content": "[redaction failed]"}]


def test_a_text_is_redacted_before_it_is_cut() -> None:
    policy = ContentPolicy(redactors=(lambda text: text.replace("secret", "***"),), max_length=6)
    assert policy.apply("my secret") == "my ***"


@pytest.mark.parametrize("text", ["My password is hunter2secret", "Bearer hunter2secret", "x"])
def test_secrets_are_found_wherever_content_may_stand(text: str) -> None:
    policy = ContentPolicy(finds_secrets=True)
    request = {
        "system": text,
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": text},
            {
                "role": "tool",
                "tool_name": "t",
                "content": json.dumps({"a": text, "token": "hunter2secret"}),
            },
        ],
        "tools": [
            {
                "function": {
                    "name": "t",
                    "description": text,
                    "parameters": {
                        "properties": {"password": {"type": "string", "default": "hunter2secret"}}
                    },
                }
            }
        ],
    }
    call = {"function": {"name": "t", "arguments": {"a": [text], "api_key": "hunter2secret"}}}
    captured = as_json(
        [
            input_messages("chat", request, policy),
            system_instructions("chat", request, policy),
            system_instructions("text_completion", request, policy),
            tool_definitions(request, policy),
            answer(text=text, thinking=text, tool_calls=[call], policy=policy),
        ]
    )
    assert "hunter2" not in captured
    assert captured.count("[redacted: ") >= 3


def test_a_card_number_among_the_arguments_is_no_number_any_more() -> None:
    policy = ContentPolicy(finds_secrets=True)
    assert policy.values({"n": 4111111111111111}) == {"n": "[redacted: card_number]"}
    assert policy.values({"n": 4111111111111112}) == {"n": 4111111111111112}


@pytest.mark.parametrize("place", range(80, 130, 7))
def test_a_secret_across_the_cut_is_found(place: int) -> None:
    policy = ContentPolicy(finds_secrets=True, max_length=100)
    text = "x " * (place // 2) + "password: hunter2secret " + "y " * 20_000
    assert "hunter" not in policy.apply(text)


def test_what_redaction_brings_before_the_cut_is_searched_too() -> None:
    secret = "sk-ant-api03-" + "Ab1" * 3_000 + " "
    text = secret * 3 + "password: hunter2secret"
    assert "hunter2" not in ContentPolicy(finds_secrets=True, max_length=200).apply(text)
    # A user's redactor may make room, too.
    policy = ContentPolicy(
        finds_secrets=True, redactors=(lambda text: text.replace("x", ""),), max_length=100
    )
    assert "hunter2" not in policy.apply("x" * 20_000 + " password: hunter2secret")


def test_the_count_of_what_is_cut_is_that_of_the_whole_text() -> None:
    policy = ContentPolicy(finds_secrets=True, max_length=10)
    assert policy.apply("word " * 4_000) == "word word ... [cut 19990 characters]"


def test_the_search_for_secrets_can_be_turned_off() -> None:
    assert ContentPolicy().apply("password: hunter2secret") == "password: hunter2secret"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert ContentPolicy(max_length=3).apply("abc") == "abc"
    assert ContentPolicy(max_length=3).apply("abcd") == "abc... [cut 1 characters]"
    assert ContentPolicy(max_length=0).apply("abc") == "... [cut 3 characters]"
    assert PLAIN.apply("x" * 34_002) == "x" * 32_768 + "... [cut 1234 characters]"


def test_every_string_is_cut_names_and_ids_too() -> None:
    policy = ContentPolicy(max_length=4)
    [message] = output_messages(
        role="assistant",
        text="abcdef",
        thinking=None,
        tool_calls=[{"id": "abcdef", "function": {"name": "abcdef", "arguments": {"a": "abcdef"}}}],
        finish_reason="stop",
        policy=policy,
    )
    cut = "abcd... [cut 2 characters]"
    assert message == {
        "role": "assi... [cut 5 characters]",
        "parts": [
            {"type": "text", "content": cut},
            {"type": "tool_call", "id": cut, "name": cut, "arguments": {"a": cut}},
        ],
        "finish_reason": "stop",
    }


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a max_length of 0 or more"):
        ContentPolicy(max_length=-1)


# JSON


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([{"a": "é", "b": [1, 2.5, None, True]}], '[{"a":"é","b":[1,2.5,null,true]}]'),
        ("\ud800", '"?"'),
        ({"\udfff": "\ud83d\ude00"}, '{"?":"??"}'),
        ([float("nan"), float("-inf")], '["nan","-inf"]'),
        ({1: {("a", 1): {2}}}, '{"1":{"(\'a\', 1)":"{2}"}}'),
        ([b"abc", Unprintable()], '["[3 bytes]","[unprintable]"]'),
        ([10**5000, b"\x00", -(10**400)], f'["[unprintable]","[1 bytes]","{-(10**400)}"]'),
        (nested(100_000), "[" * 32 + '"[nested too deeply]"' + "]" * 32),
    ],
)
def test_as_json_gives_compact_json_for_anything(value: Any, text: str) -> None:
    assert as_json(value) == text
    json.loads(text)


# Anything a caller can send

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
texts = st.text(st.characters(exclude_categories=()), max_size=20)


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly the right fields, some missing, some with anything in them."""
    return st.fixed_dictionaries({}, optional={k: v | anything for k, v in fields.items()})


images = st.lists(st.binary(min_size=24, max_size=40).map(base64_of) | texts | anything)
calls = st.lists(
    shaped(
        id=texts,
        function=shaped(name=texts, arguments=st.dictionaries(texts, anything), index=anything),
    )
    | anything
)
messages = shaped(
    role=st.sampled_from(["system", "user", "assistant", "tool", "Tool"]),
    content=texts | st.dictionaries(texts, anything).map(as_json),
    thinking=texts,
    images=images,
    tool_calls=calls,
    tool_call_id=texts,
    tool_name=texts,
)
tools = shaped(type=texts, function=shaped(name=texts, description=texts, parameters=anything))
requests = shaped(
    messages=st.lists(messages | anything, max_size=4),
    tools=st.lists(tools | anything, max_size=3),
    prompt=texts,
    system=texts,
    images=images,
)
policies = st.builds(
    ContentPolicy,
    redactors=st.lists(
        st.sampled_from([str.upper, fails, returns_nothing, lambda text: "same"]), max_size=2
    ).map(tuple),
    max_length=st.integers(min_value=1, max_value=40),
    finds_secrets=st.booleans(),
)


@pytest.mark.slow
@given(st.sampled_from(["chat", "text_completion", "embeddings", "other"]), requests, policies)
def test_any_request_gives_valid_content(
    operation: str, request: Any, policy: ContentPolicy
) -> None:
    if not isinstance(request, dict):
        return
    captured = input_messages(operation, request, policy)
    check(captured, INPUT)
    check(system_instructions(operation, request, policy), SYSTEM)
    check(tool_definitions(request, policy), TOOLS)
    as_json(captured).encode()
    json.dumps(captured, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.slow
@given(
    role=st.none() | texts,
    text=st.none() | texts,
    thinking=st.none() | texts,
    tool_calls=st.none() | calls,
    finish_reason=st.none() | st.sampled_from(["stop", "length", "tool_call", "error"]),
    policy=policies,
)
def test_any_answer_gives_valid_content(**facts: Any) -> None:
    captured = output_messages(**facts)
    check(captured, OUTPUT)
    json.dumps(captured, allow_nan=False, ensure_ascii=False).encode()


@given(
    st.sampled_from(["chat", "text_completion"]),
    st.lists(st.binary(min_size=12, max_size=60), min_size=1, max_size=3),
    st.booleans(),
)
def test_no_image_is_ever_in_the_output(operation: str, pictures: list[bytes], raw: bool) -> None:
    sent = [picture if raw else base64_of(picture) for picture in pictures]
    request = {"images": sent, "messages": [{"role": "user", "images": sent}]}
    captured = as_json(input_messages(operation, request, PLAIN))
    for picture in pictures:
        assert hashlib.sha256(picture).hexdigest() in captured
        assert base64_of(picture) not in captured
        assert repr(picture) not in captured


def strings_in(value: Any, at: str = "") -> Iterator[str]:
    """Every string of content in what was captured; not roles, types, names and ids."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item, at)
    elif isinstance(value, dict):
        for key, item in value.items():
            if at == "content":
                yield key
                yield from strings_in(item, at)
            elif key in {"content", "response", "arguments", "description", "parameters"}:
                yield from strings_in(item, "content")
            elif key == "parts":
                yield from strings_in(item, "parts")


@pytest.mark.slow
@given(st.sampled_from(["chat", "text_completion"]), requests)
def test_a_redactor_sees_every_string_that_is_kept(operation: str, request: Any) -> None:
    if not isinstance(request, dict):
        return
    seen: set[str] = set()

    def mark(text: str) -> str:
        seen.add(text)
        return f"<{len(seen)}>"

    policy = ContentPolicy(redactors=(mark,))
    kept = [
        *strings_in(input_messages(operation, request, policy)),
        *strings_in(system_instructions(operation, request, policy)),
        *strings_in(tool_definitions(request, policy)),
    ]
    own_marks = {"[nested too deeply]"}
    assert all(
        text.startswith("<") and text.endswith(">") for text in kept if text not in own_marks
    )
    if operation == "text_completion" and isinstance(request.get("prompt"), str):
        assert {request["prompt"]} - {""} <= seen
