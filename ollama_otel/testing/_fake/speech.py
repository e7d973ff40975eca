"""What a fake model says: thoughts, answers, calls of tools, vectors, all token by token."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ollama_otel.testing._fake.go import go_json
from ollama_otel.testing._fake.models import FakeModel

_TOKEN = re.compile(r"\s*\S+|\s+\Z")
_SAMPLES: Mapping[str, object] = {"string": "text", "integer": 1, "number": 1.5, "boolean": True}


@dataclass(frozen=True, slots=True)
class Said:
    """One visible step of an answer: what its chunk carries, and how many tokens it took."""

    fields: dict[str, Any]
    tokens: int = 1


def count_tokens(text: str) -> int:
    """One for each word: near enough, and easy to foresee in a test."""
    return len(_TOKEN.findall(text))


def prompt_tokens(texts: Sequence[str], tools: Sequence[Any] = ()) -> int:
    """Words, and four for the template around each message."""
    words = sum(count_tokens(text) + 4 for text in texts if text)
    return words + (len(go_json(tools)) // 4 if tools else 0)


def chat_answer(model: FakeModel, request: Mapping[str, Any], random: Random) -> list[Said]:
    """Thoughts if it thinks, then calls of the tools that were mentioned, or else its reply."""
    thoughts = [_message(thinking=token) for token in _thoughts(model, request)]
    calls = _tool_calls(request, random)
    return thoughts + (calls or [_message(content=token) for token in _reply(model, request)])


def generate_answer(model: FakeModel, request: Mapping[str, Any]) -> list[Said]:
    """Thoughts if it thinks, then its reply."""
    thoughts = [Said({"response": "", "thinking": token}) for token in _thoughts(model, request)]
    return thoughts + [Said({"response": token}) for token in _reply(model, request)]


def cut_short(said: Sequence[Said], limit: float) -> tuple[list[Said], str]:
    """What is said before `num_predict` tokens are used up, and the done_reason."""
    kept: list[Said] = []
    used = 0
    for step in said:
        used += step.tokens
        if 0 <= limit < used:
            return kept, "length"
        kept.append(step)
    return kept, "stop"


def merge_messages(said: Sequence[Said]) -> dict[str, Any]:
    """What a chat that is not streamed carries instead of the chunks."""
    messages = [step.fields["message"] for step in said]
    merged: dict[str, Any] = {"role": "assistant"}
    merged["content"] = "".join(message["content"] for message in messages)
    if thinking := "".join(message.get("thinking", "") for message in messages):
        merged["thinking"] = thinking
    if calls := [item for message in messages for item in message.get("tool_calls", [])]:
        merged["tool_calls"] = calls
    return {"message": merged}


def merge_responses(said: Sequence[Said]) -> dict[str, Any]:
    """What a generate that is not streamed carries instead of the chunks."""
    merged = {"response": "".join(step.fields["response"] for step in said)}
    if thinking := "".join(step.fields.get("thinking", "") for step in said):
        merged["thinking"] = thinking
    return merged


def vector(model: FakeModel, text: str, size: int) -> list[float]:
    """A unit vector, the same for the same text."""
    random = Random(f"{model.name}|{text}")
    raw = [random.gauss(0.0, 1.0) for _ in range(size)]
    length = math.sqrt(sum(value * value for value in raw))
    return [round(value / length, 7) for value in raw]


def _thoughts(model: FakeModel, request: Mapping[str, Any]) -> list[str]:
    # Since Ollama 0.12.4 a model that can think does so unless it is told not to.
    is_on = "thinking" in model.capabilities and request.get("think") is not False
    return _TOKEN.findall(model.thinking) if is_on else []


def _reply(model: FakeModel, request: Mapping[str, Any]) -> list[str]:
    text = model.reply
    for stop in request.get("options", {}).get("stop") or []:
        text = text.split(stop)[0] if stop else text
    return _TOKEN.findall(text)


def _message(*, content: str = "", **more: Any) -> Said:
    return Said({"message": {"role": "assistant", "content": content, **more}})


def _tool_calls(request: Mapping[str, Any], random: Random) -> list[Said]:
    """A call for each offered tool the last message mentions by name, if it is the user's."""
    message = request["messages"][-1]
    if message.get("role") != "user":
        return []
    text = str(message.get("content") or "").lower()
    functions = [tool.get("function", {}) for tool in request.get("tools", [])]
    named = [function for function in functions if _is_mentioned(function.get("name", ""), text)]
    return [_tool_call(index, function, random) for index, function in enumerate(named)]


def _is_mentioned(name: str, text: str) -> bool:
    """As it is written, or with spaces for its underscores."""
    return bool(name) and (name.lower() in text or name.lower().replace("_", " ") in text)


def _tool_call(index: int, function: Mapping[str, Any], random: Random) -> Said:
    letters = random.choices(string.ascii_lowercase + string.digits, k=8)
    arguments = _sample({"type": "object"} | (function.get("parameters") or {}))
    call = {"index": index, "name": function["name"], "arguments": arguments}
    said = _message(tool_calls=[{"id": f"call_{''.join(letters)}", "function": call}])
    return Said(said.fields, tokens=5 + len(go_json(arguments)) // 4)


def _sample(schema: Mapping[str, Any]) -> Any:
    """The plainest value of a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [_sample(schema.get("items", {}))]
    if kind != "object":
        return _SAMPLES.get(kind)
    properties = schema.get("properties") or {}
    names = schema.get("required") or properties
    return {name: _sample(properties[name]) for name in names if name in properties}
