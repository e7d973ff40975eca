"""The text of a native request that becomes the model's prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ollama_otel._wire.prompts import Prompt, PromptMessage
from ollama_otel.records import Endpoint

__all__ = ["read_prompt"]

_ANOTHER: Final = ("suffix", "template", "context")
"""Fields that change the prompt in a way that cannot be reproduced here."""
_SYSTEM: Final = "system"
_END_OF_THINKING: Final = "</think>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def read_prompt(endpoint: Endpoint, body: Mapping[str, Any]) -> Prompt | None:
    """Read the prompt of a completion; None for any other endpoint."""
    if endpoint.response != "completion":
        return None
    if endpoint.input_field == "prompt":
        return _of_generate(body)
    if endpoint.input_field == "messages":
        return _of_chat(body)
    return None


def _of_generate(body: Mapping[str, Any]) -> Prompt:
    is_raw = body.get("raw") is True
    system, text = _text(body.get("system")), _text(body.get("prompt"))
    return Prompt(
        messages=(*_instructions(system), PromptMessage("user", text)),
        has_media=bool(body.get("images")),
        is_raw=is_raw,
        is_known=not any(body.get(name) for name in _ANOTHER),
    )


def _of_chat(body: Mapping[str, Any]) -> Prompt:
    found = body.get("messages")
    messages = (
        [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    )
    return Prompt(
        messages=tuple(map(_spoken, messages)),
        more="".join(_more(body, messages)),
        has_media=any(message.get("images") for message in messages),
    )


def _instructions(text: str) -> Iterator[PromptMessage]:
    if text:
        yield PromptMessage(_SYSTEM, text, stays=True)


def _spoken(message: Mapping[str, Any]) -> PromptMessage:
    role, text = _text(message.get("role")).lower(), _text(message.get("content"))
    # The server takes the thinking out of earlier answers, for some models.
    is_cleaned = role == "assistant" and _END_OF_THINKING in text
    return PromptMessage(role, "" if is_cleaned else text, stays=role == _SYSTEM)


def _more(body: Mapping[str, Any], messages: list[Mapping[str, Any]]) -> Iterator[str]:
    if tools := body.get("tools"):
        yield json.dumps(tools, ensure_ascii=False)
    for message in messages:
        yield _text(message.get("thinking"))
        if calls := message.get("tool_calls"):
            yield json.dumps(calls, ensure_ascii=False)
        if _END_OF_THINKING in (text := _text(message.get("content"))):
            yield text if message.get("role") == "assistant" else ""
