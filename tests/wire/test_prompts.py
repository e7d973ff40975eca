"""What of a native request becomes the model's prompt."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._wire.count_requests import count_request, read_rendered
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel._wire.prompts import Prompt, PromptMessage


def prompt(path: str, **body: Any) -> Prompt | None:
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    return dialect_of(endpoint).prompt(endpoint, body)


SAID = PromptMessage("user", "Hi")
ANSWERED = PromptMessage("assistant", "Yes")


def test_a_chat() -> None:
    messages = [
        {"role": "System", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
    ]
    assert prompt("/api/chat", messages=messages) == Prompt(
        messages=(PromptMessage("system", "Be brief.", stays=True), SAID, ANSWERED)
    )


def test_a_bare_prompt() -> None:
    assert prompt("/api/generate", prompt="Hi") == Prompt(messages=(SAID,))
    assert prompt("/api/generate", prompt="Hi", raw=True) == Prompt(messages=(SAID,), is_raw=True)
    assert prompt("/api/generate", prompt="Hi", system="Be brief.") == Prompt(
        messages=(PromptMessage("system", "Be brief.", stays=True), SAID)
    )


@pytest.mark.parametrize("field", [{"suffix": "x"}, {"template": "x"}, {"context": [1, 2]}])
def test_a_field_that_changes_the_prompt_makes_it_unknown(field: dict[str, Any]) -> None:
    found = prompt("/api/generate", prompt="Hi", **field)
    assert found is not None
    assert not found.is_known


def test_images_are_seen() -> None:
    for found in (
        prompt("/api/generate", prompt="Hi", images=["eA=="]),
        prompt("/api/chat", messages=[{"role": "user", "content": "Hi", "images": [""]}]),
    ):
        assert found is not None
        assert found.has_media


def test_what_a_template_may_write_in_any_form_is_apart() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    call = {"function": {"name": "f", "arguments": {}}}
    messages = [
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
        {"role": "assistant", "content": "<think>So.</think>Yes"},
        {"role": "user", "content": "What is </think>?"},
    ]
    found = prompt("/api/chat", messages=messages, tools=[tool])
    assert found is not None
    assert all(part in found.more for part in ('"name": "f"', "Hm.", '"arguments"', "So."))
    assert [message.text for message in found.messages] == ["", "", "What is </think>?"]


@pytest.mark.parametrize(
    "body", [{}, {"messages": "x"}, {"messages": [1, None]}, {"messages": [{"content": 7}]}]
)
def test_odd_bodies_have_a_prompt_without_text(body: dict[str, Any]) -> None:
    found = prompt("/api/chat", **body)
    assert found is not None
    assert "".join(message.text for message in found.messages) == ""


def test_an_embedding_has_none() -> None:
    assert prompt("/api/embed", input="Hi") is None


# --- requests that are only counted ---------------------------------------------------------


def test_a_chat_that_is_counted_is_the_chat_that_would_be_sent() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    request = count_request("m", messages, think=True, options={"num_ctx": 64, "num_predict": 9})
    assert (request.operation, request.think) == ("chat", True)
    assert request.prompt == Prompt(messages=(SAID,))
    assert request.rendering == {
        "model": "m",
        "messages": messages,
        "tools": [],
        "think": True,
        "stream": False,
        "truncate": False,
        "_debug_render_only": True,
        "options": {"num_ctx": 64, "num_predict": 1},
    }


def test_a_bare_text_is_not_rendered() -> None:
    request = count_request("m", "Hi")
    assert request.prompt == Prompt(messages=(SAID,), is_raw=True)
    assert request.rendering is None


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"_debug_info": {"rendered_template": "Hi"}}, "Hi"),
        ({"_debug_info": {"rendered_template": 1}}, None),
        ({"_debug_info": None}, None),
        ({"message": {"content": "an older server"}}, None),
        (None, None),
    ],
)
def test_a_rendered_prompt_is_read(answer: Any, text: str | None) -> None:
    assert read_rendered(answer) == text
