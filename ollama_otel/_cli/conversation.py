"""What was said in a recorded call, as things that rich can print: messages, tools, bodies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from ollama_otel._cli.terminal import first_words, printable

__all__ = ["as_text", "asked", "objects", "other_body", "tool_call", "tools_offered"]

_SHOWN: Final = 2000
"""Characters shown of an answer that is no text of a model."""


def asked(body: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield what a request says: messages, prompt or inputs, and its images."""
    if isinstance(body.get("system"), str):
        yield from _said("system", body["system"])
    for message in objects(body.get("messages")):
        yield from _message(message)
    for field in ("prompt", "input", "query"):
        values = body.get(field)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str):
                yield from _said(field, value)
    yield from _images(body.get("images"))


def _message(message: Mapping[str, Any]) -> Iterator[RenderableType]:
    role, content = str(message.get("role")), message.get("content")
    name = message.get("tool_name") or message.get("name")
    if isinstance(message.get("thinking"), str):
        yield from _said(f"{role}, thinking", message["thinking"], style="dim")
    text = content if isinstance(content, str) else ""
    yield from _said(f"{role} {name}" if name else role, text)
    for call in objects(message.get("tool_calls")):
        yield _below(tool_call(call))
    yield from _images(message.get("images"))


def _said(who: str, text: str, *, style: str = "") -> Iterator[RenderableType]:
    yield Text(first_words(who), style="cyan")
    if text:
        yield _below(Text(printable(text), style=style))


def _images(images: Any) -> Iterator[Text]:
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict):
            told = f"{image.get('size')} bytes, sha256 {str(image.get('sha256'))[:16]}"
            yield Text(f"  [image, left out of the log: {told}]", style="yellow")
        else:
            yield Text(f"  [image: {len(str(image))} characters of base64]", style="yellow")


def tools_offered(tools: Any) -> Iterator[Text]:
    """Yield a line for each tool of a request."""
    for tool in objects(tools):
        function = tool.get("function")
        function = function if isinstance(function, dict) else {}
        parameters = function.get("parameters")
        known = parameters.get("properties") if isinstance(parameters, dict) else None
        names = ", ".join(known) if isinstance(known, dict) else ""
        yield Text.assemble(
            (first_words(f"{function.get('name')}({names})"), "bold"),
            f"  {first_words(str(function.get('description') or ''))}",
        )


def tool_call(call: Mapping[str, Any]) -> Text:
    """Show a call of a tool as code would make it."""
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    named = (
        ", ".join(f"{name}={as_text(value)}" for name, value in arguments.items())
        if isinstance(arguments, dict)
        else as_text(arguments)
    )
    return Text.assemble(
        ("calls ", "cyan"), (printable(str(function.get("name"))), "bold"), f"({printable(named)})"
    )


def other_body(body: bytes) -> str:
    """Show vectors by their number and length, all else as it came."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    vectors = answer.get("embeddings") if isinstance(answer, dict) else None
    if isinstance(vectors, dict):
        return f"{vectors.get('count', 'some')} vector(s), left out of the log"
    if isinstance(vectors, list) and vectors and isinstance(vectors[0], list):
        return f"{len(vectors)} vector(s) of {len(vectors[0])} numbers"
    text = printable(body.decode("utf-8", "replace"))
    more = len(text) - _SHOWN
    return f"{text[:_SHOWN]}... and {more} more characters: see --body" if more > 0 else text


def objects(values: Any) -> list[Mapping[str, Any]]:
    """Return the JSON objects in what should be a list of them."""
    listed = values if isinstance(values, list | tuple) else ()
    return [value for value in listed if isinstance(value, dict)]


def as_text(value: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False)


def _below(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)
