"""What of a call's content may be captured, and in which form; whether to capture is not its say.

The form is that of the GenAI conventions (`gen_ai.input.messages` and its siblings), valid in both
profiles. Nothing here raises, whatever a caller put into the request: what is not understood is
left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ContentPolicy",
    "Redactor",
    "as_json",
    "decoded_image",
    "input_messages",
    "output_messages",
    "system_instructions",
    "tool_definitions",
]

Redactor = Callable[[str], str]
"""Returns what may be kept of one string, uncut. It never sees a whole JSON document."""

_REDACTION_FAILED = "[redaction failed]"
_NESTED_TOO_DEEPLY = "[nested too deeply]"
_UNPRINTABLE = "[unprintable]"

_MAX_DEPTH = 32
"""Levels of nesting kept in tool arguments and schemas."""

_JSON_LIMIT = 10**300
"""Integers beyond it are no number to most readers of JSON, and Python may refuse to print them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPolicy:
    """What happens to each string before it leaves the process: redacted first, then cut."""

    redactors: tuple[Redactor, ...] = ()
    """Run in this order over every string of the user or the model, keys of tool arguments
    included; keys that become equal are merged. Roles, ids and tool names are not content.
    When one raises or returns no string, the text becomes `[redaction failed]`."""
    max_length: int = 32_768
    """Characters kept per string; a longer one ends with a mark that tells how many were cut."""

    def __post_init__(self) -> None:
        if self.max_length < 0:
            message = f"expected a max_length of 0 or more characters, found {self.max_length}"
            raise ValueError(message)

    def apply(self, text: str) -> str:
        """Redact, then cut: the other way round half a secret could pass unseen."""
        return self.cut(self._redacted(text))

    def cut(self, text: str) -> str:
        """Cut only: for names and ids."""
        text = _encodable(text)
        excess = len(text) - self.max_length
        if excess <= 0:
            return text
        return f"{text[: self.max_length]}... [cut {excess} characters]"

    def _redacted(self, text: str) -> str:
        for redactor in self.redactors:
            try:
                redacted: object = redactor(text)
            except Exception:  # noqa: BLE001  a redactor is foreign code; its error may quote the text
                return _REDACTION_FAILED
            if not isinstance(redacted, str):
                return _REDACTION_FAILED
            text = redacted
        return text


def input_messages(
    operation: str, request: Mapping[str, Any], policy: ContentPolicy
) -> list[dict[str, Any]]:
    """Return `gen_ai.input.messages`: what was asked, in the order it was sent.

    `operation` is `gen_ai.operation.name`. Images are never content: each becomes a part
    `{"type": "file", "modality", "file_id": "sha256:<hex>", "mime_type"?, "size"}`, the hash and
    the size (bytes) being those of the decoded image, or of the text if it is not base64. The
    conventions' own form (`blob`) demands the bytes, and `uri` a place they can be had from; `file`
    demands an id only and admits further keys in both profiles. Hence `size`.
    """
    if operation == "chat":
        return [
            _message(role, message, policy)
            for message in _mappings(request.get("messages"))
            if isinstance(role := message.get("role"), str)
        ]
    if operation == "text_completion":
        parts = [
            *_texts("text", request.get("prompt"), policy),
            *_images(request.get("images")),
        ]
        return [{"role": "user", "parts": parts}] if parts else []
    return []


def system_instructions(
    operation: str, request: Mapping[str, Any], policy: ContentPolicy
) -> list[dict[str, Any]]:
    """Return `gen_ai.system_instructions`: only what has a field of its own (`/api/generate`).

    A system message of a chat is part of its input messages.
    """
    if operation != "text_completion":
        return []
    return list(_texts("text", request.get("system"), policy))


def tool_definitions(request: Mapping[str, Any], policy: ContentPolicy) -> list[dict[str, Any]]:
    """Return `gen_ai.tool.definitions`, with description and parameters where there are any."""
    return [
        definition
        for tool in _mappings(request.get("tools"))
        for definition in _definitions(tool, policy)
    ]


def output_messages(
    *,
    role: str | None,
    text: str | None,
    thinking: str | None,
    tool_calls: Sequence[Any] | None,
    finish_reason: str | None,
    policy: ContentPolicy,
) -> list[dict[str, Any]]:
    """Return `gen_ai.output.messages`: the one answer, or nothing if none was begun.

    `tool_calls` are in Ollama's form; `finish_reason` is in the conventions' words. A reason that
    never came is `error`, as the conventions say, because profile v1.41 requires one.
    """
    parts = [
        *_texts("reasoning", thinking, policy),
        *_texts("text", text, policy),
        *_tool_calls(tool_calls, policy),
    ]
    if not parts and finish_reason is None:
        return []
    return [
        {
            "role": policy.cut(role or "assistant"),
            "parts": parts,
            "finish_reason": finish_reason or "error",
        }
    ]


def as_json(value: Any) -> str:
    """Return compact JSON for a span attribute; odd values become text, and it never raises."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_plain(value, _encodable), ensure_ascii=False, separators=(",", ":"))
    return _encodable(text)


def _message(role: str, message: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    # The server lowers it too.
    role = policy.cut(role.lower())
    said = [
        *_texts("reasoning", message.get("thinking"), policy),
        *_texts("text", message.get("content"), policy),
    ]
    parts = [
        *([_tool_response(message, policy)] if role == "tool" else said),
        *_images(message.get("images")),
        *_tool_calls(message.get("tool_calls"), policy),
    ]
    return {"role": role, "parts": parts}


def _texts(part: str, value: Any, policy: ContentPolicy) -> Iterator[dict[str, Any]]:
    if isinstance(value, str) and value:
        yield {"type": part, "content": policy.apply(value)}


def _tool_response(message: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    # Taken apart before redaction, so that no JSON escape hides a character from a redactor.
    parsed = _json_object(text)
    return {
        "type": "tool_call_response",
        "id": _id(message.get("tool_call_id"), policy),
        "response": policy.apply(text) if parsed is None else _plain(parsed, policy.apply),
    }


def _tool_calls(value: Any, policy: ContentPolicy) -> Iterator[dict[str, Any]]:
    for call in _mappings(value):
        function = call.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            continue
        yield {
            "type": "tool_call",
            "id": _id(call.get("id"), policy),
            "name": policy.cut(function["name"]),
            "arguments": _plain(function.get("arguments"), policy.apply),
        }


def _definitions(tool: Mapping[str, Any], policy: ContentPolicy) -> Iterator[dict[str, Any]]:
    function = tool.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return
    definition: dict[str, Any] = {"type": "function", "name": policy.cut(function["name"])}
    description, parameters = function.get("description"), function.get("parameters")
    if isinstance(description, str) and description:
        definition["description"] = policy.apply(description)
    if isinstance(parameters, Mapping):
        definition["parameters"] = _plain(parameters, policy.apply)
    yield definition


def _images(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list | tuple):
        return []
    return [_image(image) for image in value if isinstance(image, str | bytes)]


def _image(image: str | bytes) -> dict[str, Any]:
    content = image if isinstance(image, bytes) else decoded_image(image)
    modality, mime_type = _kind(content)
    return {
        "type": "file",
        "modality": modality,
        "file_id": f"sha256:{hashlib.sha256(content).hexdigest()}",
        **({"mime_type": mime_type} if mime_type else {}),
        "size": len(content),
    }


def decoded_image(image: str) -> bytes:
    """Return the bytes of an image in base64, or those of the text where it is none."""
    try:
        # Go's decoder skips line ends, and nothing else.
        return base64.b64decode(image.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return image.encode("utf-8", "replace")


_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"BM", "image/bmp"),
    (8, b"WEBP", "image/webp"),
    # `images` carries sound as well.
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
)


def _kind(content: bytes) -> tuple[str, str | None]:
    """Modality and mime type by the first bytes; what is not known is an image of no known kind."""
    for offset, magic, mime_type in _MAGIC:
        if content.startswith(magic, offset):
            return mime_type.partition("/")[0], mime_type
    return "image", None


def _id(value: Any, policy: ContentPolicy) -> str | None:
    return policy.cut(value) if isinstance(value, str) else None


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Mapping))


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _plain(value: Any, text: Callable[[str], str], depth: int = 0) -> Any:
    """Copy a value as plain JSON with every string, keys too, passed through `text`."""
    if isinstance(value, str):
        return text(value)
    if depth >= _MAX_DEPTH:
        return _NESTED_TOO_DEEPLY
    if isinstance(value, Mapping):
        return {text(_printed(key)): _plain(item, text, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, text, depth + 1) for item in value]
    return value if _is_json_scalar(value) else text(_printed(value))


def _is_json_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < _JSON_LIMIT
    return value is None


def _printed(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    try:
        return str(value)
    except Exception:  # noqa: BLE001  a foreign __str__ may raise anything
        return _UNPRINTABLE


def _encodable(text: str) -> str:
    """Replace lone surrogates: OTLP's protobuf takes UTF-8 only."""
    return text.encode("utf-8", "replace").decode("utf-8")
