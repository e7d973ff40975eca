"""What is captured has the conventions' form, is redacted and cut, and holds no image."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ollama_otel import _names as names
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture

from .call_script import HELLO, JSON, WEATHER, Scene, Step, chat, final, part, tool_call

DATA = Path(__file__).parents[1] / "data"
SCHEMAS = {
    names.INPUT_MESSAGES: "strict/gen-ai-input-messages.json",
    names.OUTPUT_MESSAGES: "strict/gen-ai-output-messages.json",
    names.SYSTEM_INSTRUCTIONS: "strict/gen-ai-system-instructions.json",
    names.TOOL_DEFINITIONS: "gen-ai-tool-definitions.json",
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\x00picture" * 40).decode()


def captured(*steps: Step, settings: dict[str, Any] | None = None, **call: Any) -> dict[str, Any]:
    """The content attributes of a span, read back from JSON."""
    capture = Capture()
    Scene(capture, Settings(capture_content="span_only", **(settings or {}))).play(*steps, **call)
    (span,) = capture.spans
    attributes = span.attributes or {}
    return {name: json.loads(str(attributes[name])) for name in SCHEMAS if name in attributes}


CONVERSATION: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Which city is this?", "images": [PNG]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "A tower.",
            "tool_calls": [tool_call("Paris")],
        },
        {
            "role": "tool",
            "tool_name": "get_weather",
            "tool_call_id": "call_paris",
            "content": "rain",
        },
    ],
    "tools": [WEATHER],
}
CALLS: dict[str, dict[str, Any]] = {
    "a conversation": {
        "steps": [chat(thinking="Hm"), chat("Paris: "), final("rain.")],
        "body": CONVERSATION,
    },
    "a tool call": {"steps": [chat(tool_calls=[tool_call("Oslo")]), final()], "body": CONVERSATION},
    "a generation": {
        "steps": [
            part(response="Hi", thinking="Hm"),
            part(response="!", done=True, done_reason="stop"),
        ],
        "path": "/api/generate",
        "body": {"model": "m", "prompt": "Hello", "system": "Be brief.", "images": [PNG]},
    },
    "a document": {
        "steps": [final("Hello").rstrip()],
        "body": {**CONVERSATION, "stream": False},
        "content_type": JSON,
    },
    "an abandoned stream": {
        "steps": [chat("Par"), final()],
        "body": CONVERSATION,
        "stops_after": 1,
    },
    "a failure": {"steps": [chat("Par"), OSError("gone")], "body": CONVERSATION},
    "odd messages": {
        "steps": [final()],
        "body": {
            "model": "m",
            "messages": ["odd", {}, {"role": 7}, {"role": "user", "content": 7}],
        },
    },
}


@pytest.mark.parametrize("profile", ["v1.41", "gen-ai-dev"])
@pytest.mark.parametrize("name", CALLS)
def test_content_is_valid_by_the_conventions(profile: Any, name: str) -> None:
    call = dict(CALLS[name])
    content = captured(*call.pop("steps"), settings={"profile": profile}, **call)
    assert names.INPUT_MESSAGES in content
    for attribute, value in content.items():
        schema = json.loads((DATA / "genai-schemas" / profile / SCHEMAS[attribute]).read_text())
        Draft202012Validator(schema).validate(value)


def test_a_conversation_is_told_whole() -> None:
    call = dict(CALLS["a conversation"])
    assert captured(*call.pop("steps"), **call) == {
        "gen_ai.input.messages": [
            {"role": "system", "parts": [{"type": "text", "content": "Answer briefly."}]},
            {
                "role": "user",
                "parts": [
                    {"type": "text", "content": "Which city is this?"},
                    {
                        "type": "file",
                        "modality": "image",
                        "file_id": "sha256:04b5291facada9feacaeee6d3210e063e5d99bf2b1900605842430a196fa2ccd",
                        "mime_type": "image/png",
                        "size": 328,
                    },
                ],
            },
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "A tower."},
                    {
                        "type": "tool_call",
                        "id": "call_paris",
                        "name": "get_weather",
                        "arguments": {"city": "Paris"},
                    },
                ],
            },
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "call_paris", "response": "rain"}],
            },
        ],
        "gen_ai.output.messages": [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Hm"},
                    {"type": "text", "content": "Paris: rain."},
                ],
                "finish_reason": "stop",
            }
        ],
        "gen_ai.tool.definitions": [
            {
                "type": "function",
                "name": "get_weather",
                "description": "The weather in a city.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            }
        ],
    }


def test_a_generation_is_told_whole() -> None:
    call = dict(CALLS["a generation"])
    assert captured(*call.pop("steps"), **call) == {
        "gen_ai.input.messages": [
            {
                "role": "user",
                "parts": [
                    {"type": "text", "content": "Hello"},
                    {
                        "type": "file",
                        "modality": "image",
                        "file_id": "sha256:04b5291facada9feacaeee6d3210e063e5d99bf2b1900605842430a196fa2ccd",
                        "mime_type": "image/png",
                        "size": 328,
                    },
                ],
            }
        ],
        "gen_ai.output.messages": [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Hm"},
                    {"type": "text", "content": "Hi!"},
                ],
                "finish_reason": "stop",
            }
        ],
        "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
    }


def test_of_an_abandoned_stream_what_came_is_told() -> None:
    call = dict(CALLS["an abandoned stream"])
    assert captured(*call.pop("steps"), **call)[names.OUTPUT_MESSAGES] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Par"}],
            "finish_reason": "error",
        }
    ]


def test_of_a_refused_request_there_is_no_answer_to_tell() -> None:
    content = captured(b'{"error":"server busy"}', status=503, content_type=JSON)
    assert names.OUTPUT_MESSAGES not in content
    assert names.INPUT_MESSAGES in content


@pytest.mark.parametrize(
    "call",
    [
        {"path": "/api/embed", "body": {"model": "m", "input": "a secret"}, "content_type": JSON},
        {"path": "/api/create", "body": {"model": "m", "system": "a secret"}},
        {"body": {"model": "m", "messages": [], "system": "a secret"}, "content_type": JSON},
    ],
)
def test_what_is_no_inference_has_no_content(call: dict[str, Any]) -> None:
    assert captured(final(), **call) == {}


@pytest.mark.parametrize("mode", ["span_only", "event_only", "span_and_event"])
def test_an_image_goes_nowhere(capture: Capture, mode: Any) -> None:
    scene = Scene(capture, Settings(capture_content=mode))
    scene.play(final("A tower."), body=CONVERSATION)
    scene.play(
        part(response="A tower.", done=True),
        path="/api/generate",
        body={"model": "m", "prompt": "What?", "images": [PNG]},
    )
    told = str([dict(span.attributes or {}) for span in capture.spans])
    told += str([event.log_record.attributes for event in capture.events])
    assert PNG[:24] not in told
    assert PNG[40:64] not in told
    assert "A tower." in told


def test_redactors_run_in_order_over_everything_said() -> None:
    settings = {
        "redactors": (
            lambda text: text.replace("secret", "hidden"),
            lambda text: text.replace("hidden", "***"),
        )
    }
    content = captured(
        chat(thinking="secret thought"),
        chat("sec"),
        chat("ret answer", tool_calls=[tool_call("secret city")]),
        final(),
        settings=settings,
        body={
            "model": "m",
            "messages": [{"role": "user", "content": "a secret question"}],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "a secret tool"}}
            ],
        },
    )
    told = json.dumps(content)
    # The tool call's id is made of the city here, and ids are no content.
    assert "secret" not in told.replace("call_secret city", "")
    assert "hidden" not in told
    assert told.count("***") == 5


@pytest.mark.usefixtures("quiet_guard")
def test_a_faulty_redactor_lets_nothing_through() -> None:
    def faulty(text: str) -> str:
        raise RuntimeError(text)

    told = json.dumps(captured(chat("a secret"), final(), settings={"redactors": (faulty,)}))
    assert "secret" not in told
    assert "Hello" not in told
    assert "[redaction failed]" in told


def test_long_texts_are_cut() -> None:
    content = captured(final("x" * 100), settings={"content_max_length": 10})
    (message,) = content[names.OUTPUT_MESSAGES]
    assert message["parts"][0]["content"].startswith("x" * 10 + "... [cut 90")


def test_an_answer_of_which_only_the_beginning_was_kept_says_so() -> None:
    capture = Capture()
    scene = Scene(capture, Settings(capture_content="span_only"))
    scene.play(*[chat("x" * 100_000)] * 20, final())
    scene.play(chat("short"), final())
    cut, whole = ((span.attributes or {}).get(names.CONTENT_IS_CUT) for span in capture.spans)
    assert (cut, whole) == (True, None)


def test_content_is_captured_of_the_body_as_it_was_sent() -> None:
    content = captured(
        final(), body={**HELLO, "messages": [{"role": "User", "content": "\u00fc\u2028"}]}
    )
    assert content[names.INPUT_MESSAGES] == [
        {"role": "user", "parts": [{"type": "text", "content": "\u00fc\u2028"}]}
    ]
