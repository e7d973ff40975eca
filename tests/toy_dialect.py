"""A dialect that no server speaks: one class over server-sent events, to prove the seam.

Its field names are those of no real protocol, so that code that knows a real one fails on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ollama_otel._frozen import frozen
from ollama_otel._wire.dialect import Dialect, Fields, Speech, as_json
from ollama_otel._wire.lenient_json import parse_object
from ollama_otel._wire.media import media_of
from ollama_otel._wire.sse import SSE
from ollama_otel.records import (
    Conversation,
    Endpoint,
    Message,
    RequestFacts,
    ResponseFacts,
    Text,
    Thinking,
    ToolCall,
    ToolDefinition,
)

ASK = Endpoint(
    method="POST",
    path="/toy/ask",
    name="toy_ask",
    genai_operation="chat",
    dialect="toy",
    streams_by_default=False,
    response="completion",
)


class ToyDialect(Dialect):
    """Reads `{"who": model, "said": [{"by": role, "words": text}], "live": bool}`."""

    name = "toy"
    framing = SSE
    model_field = "who"
    closing_count = 2
    needs_first = True
    response_fields: ClassVar[Fields] = Fields(
        kinds={"at": "time"},
        inner={
            "bit": Fields(kinds={"words": "text", "musing": "text"}, identity=("choice",)),
            "whole": Fields(kinds={"words": "text"}),
        },
    )
    request_media = frozenset({"pictures"})

    def read_request(
        self, endpoint: Endpoint, body: Mapping[str, Any] | None, *, size: int | None
    ) -> RequestFacts:
        if body is None:
            return RequestFacts(size=size)
        said = body.get("said", ())
        return RequestFacts(
            model=body.get("who"),
            stream=body.get("live") is True,
            options=frozen({"temperature": body["heat"]} if "heat" in body else {}),
            input_count=len(said),
            image_count=len(body.get("pictures", ())),
            tools=tuple(body.get("devices", ())),
            size=size,
        )

    def conversation(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Conversation:
        media = [each for each in map(media_of, body.get("pictures", ())) if each is not None]
        messages = [
            Message(role=each["by"], parts=(Text(each["words"]),)) for each in body.get("said", ())
        ]
        if media:
            messages.append(Message(role="user", parts=tuple(media)))
        return Conversation(
            messages=tuple(messages),
            tools=tuple(ToolDefinition(name=name) for name in body.get("devices", ())),
            settings=frozen({"temperature": body["heat"]} if "heat" in body else {}),
        )

    def canonical(self, endpoint: Endpoint | None, body: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if (name, value) != ("live", False)}

    def has_tool_calls(self, data: bytes) -> bool:
        return b'"device"' in data

    def is_end_mark(self, payload: bytes) -> bool:
        return payload == b"[END]"

    def speech(self, message: Mapping[str, Any]) -> tuple[Speech, ...]:
        bit = message.get("bit", {})
        answers = bool(bit.get("words")) or "device" in bit
        return (
            *(("thinking",) if bit.get("musing") else ()),
            *(("answer",) if answers else ()),
        )

    def read_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tool_messages: Sequence[Mapping[str, Any]],
        has_thinking: bool,
        has_end_mark: bool,
    ) -> ResponseFacts:
        known: dict[str, Any] = {}
        for message in messages:
            known |= message
        return self._facts(
            known,
            tools=[each["bit"]["device"] for each in tool_messages if "device" in each["bit"]],
            has_thinking=has_thinking,
            done=has_end_mark,
        )

    def joined(self, messages: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Message | None:
        bits = [each.get("bit") or each.get("whole") or {} for each in messages]
        musing = "".join(bit.get("musing", "") for bit in bits)
        words = "".join(bit.get("words", "") for bit in bits)
        calls = [
            ToolCall(name=bit["device"], arguments=frozen(bit.get("with")))
            for bit in bits
            if "device" in bit
        ]
        said = (
            *([Thinking(musing)] if musing else []),
            *([Text(words)] if words else []),
            *calls,
        )
        return Message(role="assistant", parts=said, is_cut=is_cut)

    def read_document(self, endpoint: Endpoint, body: bytes) -> ResponseFacts:
        known = parse_object(body) or {}
        return self._facts(known, done="whole" in known)

    def document_messages(self, body: bytes) -> list[dict[str, Any]]:
        whole = parse_object(body)
        return [] if whole is None else [whole]

    def _facts(
        self,
        known: Mapping[str, Any],
        *,
        tools: Sequence[str] = (),
        has_thinking: bool = False,
        done: bool,
    ) -> ResponseFacts:
        return ResponseFacts(
            model=known.get("who"),
            input_tokens=known.get("heard"),
            output_tokens=known.get("spoken"),
            done_reason=known.get("because"),
            tool_calls=tuple(tools),
            has_thinking=has_thinking,
            done=done,
            error=known.get("trouble"),
        )

    def error_text(self, body: bytes) -> str:
        return str((parse_object(body) or {}).get("trouble", ""))

    def error_body(self, text: str) -> bytes:
        return as_json({"trouble": text})


TOY = ToyDialect()


def stream(*bits: Mapping[str, Any], end: bool = True) -> list[bytes]:
    """The events of one streamed answer."""
    messages = [
        {"who": "toy-1", "heard": 3},
        *({"bit": {"choice": 0, **bit}} for bit in bits),
        {"spoken": len(bits), "because": "stop"},
    ]
    events = [SSE.frame(as_json(message)) for message in messages]
    return [*events, SSE.frame(b"[END]")] if end else events
