"""The output of a fake model, token by token: thinking, text, tool calls, vectors."""

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
class Step:
    """One chunk of an answer: its fields, and its number of tokens."""

    fields: dict[str, Any]
    tokens: int = 1


def count_tokens(text: str) -> int:
    """Return the number of words: a simple estimate that tests can predict."""
    return len(_TOKEN.findall(text))


def prompt_tokens(texts: Sequence[str], tools: Sequence[Any] = ()) -> int:
    """Return the number of words, plus four for the template around each message."""
    words = sum(count_tokens(text) + 4 for text in texts if text)
    return words + (len(go_json(tools)) // 4 if tools else 0)


def chat_answer(model: FakeModel, request: Mapping[str, Any], random: Random) -> list[Step]:
    """Return thinking, if any, then calls of the mentioned tools, or else the reply."""
    thoughts = [_message(thinking=token) for token in _thoughts(model, request)]
    calls = _tool_calls(request, random)
    return thoughts + (calls or [_message(content=token) for token in _reply(model, request)])


def generate_answer(model: FakeModel, request: Mapping[str, Any]) -> list[Step]:
    """Return thinking, if any, then the reply."""
    thoughts = [Step({"response": "", "thinking": token}) for token in _thoughts(model, request)]
    return thoughts + [Step({"response": token}) for token in _reply(model, request)]


def cut_short(steps: Sequence[Step], limit: float) -> tuple[list[Step], str]:
    """Return the answer up to `num_predict` tokens, and the done_reason."""
    kept: list[Step] = []
    used = 0
    for step in steps:
        used += step.tokens
        if 0 <= limit < used:
            return kept, "length"
        kept.append(step)
    return kept, "stop"


def merge_messages(steps: Sequence[Step]) -> dict[str, Any]:
    """Merge the chunks of a chat for a response that is not streamed."""
    messages = [step.fields["message"] for step in steps]
    merged: dict[str, Any] = {"role": "assistant"}
    merged["content"] = "".join(message["content"] for message in messages)
    if thinking := "".join(message.get("thinking", "") for message in messages):
        merged["thinking"] = thinking
    if calls := [item for message in messages for item in message.get("tool_calls", [])]:
        merged["tool_calls"] = calls
    return {"message": merged}


def merge_responses(steps: Sequence[Step]) -> dict[str, Any]:
    """Merge the chunks of a generate for a response that is not streamed."""
    merged = {"response": "".join(step.fields["response"] for step in steps)}
    if thinking := "".join(step.fields.get("thinking", "") for step in steps):
        merged["thinking"] = thinking
    return merged


def vector(model: FakeModel, text: str, size: int) -> list[float]:
    """Return a unit vector, equal for equal texts."""
    random = Random(f"{model.name}|{text}")
    raw = [random.gauss(0.0, 1.0) for _ in range(size)]
    length = math.sqrt(sum(value * value for value in raw))
    return [round(value / length, 7) for value in raw]


def _thoughts(model: FakeModel, request: Mapping[str, Any]) -> list[str]:
    # Since Ollama 0.12.4 a model with the capability thinks unless `think` is false.
    is_on = "thinking" in model.capabilities and request.get("think") is not False
    return _TOKEN.findall(model.thinking) if is_on else []


def _reply(model: FakeModel, request: Mapping[str, Any]) -> list[str]:
    text = model.reply
    for stop in request.get("options", {}).get("stop") or []:
        text = text.split(stop)[0] if stop else text
    return _TOKEN.findall(text)


def _message(*, content: str = "", **more: Any) -> Step:
    return Step({"message": {"role": "assistant", "content": content, **more}})


def _tool_calls(request: Mapping[str, Any], random: Random) -> list[Step]:
    """Return a call of each offered tool that the last message of the user mentions by name."""
    message = request["messages"][-1]
    if message.get("role") != "user":
        return []
    text = str(message.get("content") or "").lower()
    functions = [tool.get("function", {}) for tool in request.get("tools", [])]
    named = [function for function in functions if _is_mentioned(function.get("name", ""), text)]
    return [_tool_call(index, function, random) for index, function in enumerate(named)]


def _is_mentioned(name: str, text: str) -> bool:
    """Whether a text has the name, as written or with spaces for its underscores."""
    return bool(name) and (name.lower() in text or name.lower().replace("_", " ") in text)


def _tool_call(index: int, function: Mapping[str, Any], random: Random) -> Step:
    letters = random.choices(string.ascii_lowercase + string.digits, k=8)
    arguments = _sample({"type": "object"} | (function.get("parameters") or {}))
    call = {"index": index, "name": function["name"], "arguments": arguments}
    step = _message(tool_calls=[{"id": f"call_{''.join(letters)}", "function": call}])
    return Step(step.fields, tokens=5 + len(go_json(arguments)) // 4)


def _sample(schema: Mapping[str, Any]) -> Any:
    """Return a sample value of a JSON schema."""
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
