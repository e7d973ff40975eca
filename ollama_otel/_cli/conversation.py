"""The content of a logged call as rich objects: messages, tools, bodies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from ollama_otel import records
from ollama_otel._display import visible, visible_line
from ollama_otel._wire.dialect import VectorSpan

__all__ = [
    "as_text",
    "content",
    "other_body",
    "part_lines",
    "tool_call",
    "tools_offered",
    "vectors",
]

_SHOWN: Final = 2000
"""Characters shown of a body that is not a text of a model."""


def content(conversation: records.Conversation) -> Iterator[RenderableType]:
    """Yield the content of a request: its messages, or the texts to embed."""
    if conversation.system:
        yield from _block("system", part_lines(conversation.system))
    for message in conversation.messages:
        yield from _message(message)
    for text in conversation.inputs:
        yield from _block("input", [Text(visible(text))])


def _message(message: records.Message) -> Iterator[RenderableType]:
    if message.thinking:
        thinking = Text(visible(message.thinking), style="dim")
        yield from _block(f"{message.role}, thinking", [thinking])
    yield from _block(f"{message.role} {message.name or ''}", part_lines(message.parts))


def _block(who: str, lines: Iterable[Text]) -> Iterator[RenderableType]:
    yield Text(visible_line(who), style="cyan")
    for line in lines:
        yield Padding(line, (0, 0, 0, 2), expand=False)


def part_lines(parts: Iterable[records.Part]) -> Iterator[Text]:
    """Yield the parts of a message, without its thinking."""
    for part in parts:
        match part:
            case records.Text(text) | records.ToolResult(text=text):
                if text:
                    yield Text(visible(text))
            case records.ToolCall():
                yield tool_call(part)
            case records.Media():
                yield _media(part)


def _media(media: records.Media) -> Text:
    left_out = ", left out of the log" if media.is_omitted else ""
    facts = f"{media.size} bytes, sha256 {media.sha256[:16]}"
    return Text(visible_line(f"[{media.modality}{left_out}: {facts}]"), style="yellow")


def tools_offered(tools: Iterable[records.ToolDefinition]) -> Iterator[Text]:
    """Yield a line for each tool of a request."""
    for tool in tools:
        known = (tool.parameters or {}).get("properties")
        names = ", ".join(known) if isinstance(known, dict) else ""
        yield Text.assemble(
            (visible_line(f"{tool.name}({names})"), "bold"),
            f"  {visible_line(tool.description or '')}",
        )


def tool_call(call: records.ToolCall) -> Text:
    """Format a tool call as code."""
    arguments = call.arguments
    named = (
        ", ".join(f"{name}={as_text(value)}" for name, value in arguments.items())
        if isinstance(arguments, dict)
        else as_text(arguments)
    )
    name = visible(call.name)
    return Text.assemble(("calls ", "cyan"), (name, "bold"), f"({visible(named)})")


def vectors(span: VectorSpan) -> Text:
    """Return the number and length of vectors."""
    length = ", left out of the log" if span.is_omitted else f" of {span.dimensions} numbers"
    return Text(f"{span.count} vector(s){length}")


def other_body(body: bytes) -> Text:
    """Return a body as text, up to a length."""
    text = visible(body.decode("utf-8", "replace"))
    more = len(text) - _SHOWN
    return Text(f"{text[:_SHOWN]}... and {more} more characters: see --body" if more > 0 else text)


def as_text(value: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False)
