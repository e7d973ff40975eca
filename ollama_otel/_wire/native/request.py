"""Requests of the native API: their facts, their content, and their canonical form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ollama_otel._bounds import (
    LONGEST_NAME,
    MOST_TOOLS,
    bounded_name,
    bounded_names,
    bounded_options,
)
from ollama_otel._frozen import FrozenDict, frozen
from ollama_otel._wire.durations import read_keep_alive
from ollama_otel._wire.lenient_json import LEFT_OUT, FieldReader
from ollama_otel._wire.media import is_mark, media_of
from ollama_otel._wire.model_names import short_name
from ollama_otel.records import (
    Conversation,
    Endpoint,
    Media,
    Message,
    Part,
    Purpose,
    RequestFacts,
    Text,
    Thinking,
    ToolCall,
    ToolDefinition,
    ToolResult,
)

__all__ = [
    "canonical",
    "read_conversation",
    "read_fields",
    "read_request",
    "tool_calls",
    "tool_name",
]

_NO_OPTIONS: Final[Mapping[str, Any]] = FrozenDict()
_TOO_LARGE: Final = 2**63
_LONGEST_DURATION: Final = 64
"""Characters of a keep-alive."""
_THINK_LEVEL: Final = re.compile(r"minimal|low|medium|x?high|max")

_SETTINGS: Final = ("format", "think", "keep_alive", "stream", "raw", "truncate")
"""Fields besides the options that affect the response."""

read_fields: Final = FieldReader(
    (
        *("model", "name", "source", "stream", "options", "tools", "messages", "prompt", "input"),
        *("images", "format", "think", "keep_alive", "raw", "truncate", "dimensions"),
    )
)
"""Reads the fields that are facts of a request."""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _mappings(values: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(values, list | tuple):
        yield from (value for value in values if isinstance(value, Mapping))


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value if len(value) <= LONGEST_NAME else bounded_name(value)


# --- facts --------------------------------------------------------------------------------


def _keep_alive(value: object) -> str | None:
    """Return it as sent: a text or a number of seconds; None if the server does not accept it."""
    if isinstance(value, str):
        is_duration = len(value) <= _LONGEST_DURATION and read_keep_alive(value) is not None
        return value if is_duration else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return str(value) if abs(value) < _TOO_LARGE else None


def _think(value: object) -> bool | str | None:
    """Return it as sent; `_OTHER` for an unknown level, whose text may be anything."""
    if isinstance(value, str):
        return value if _THINK_LEVEL.fullmatch(value) else "_OTHER"
    return value if isinstance(value, bool) else None


def _purpose(endpoint: Endpoint, body: Mapping[str, Any]) -> Purpose:
    if endpoint.input_field is None or body.get(endpoint.input_field):
        return "call"
    if endpoint.can_unload and read_keep_alive(_keep_alive(body.get("keep_alive"))) == 0:
        return "unload"
    return "load"


def tool_name(tool: object) -> str:
    """Return the name of a tool's definition or call; "" if it has none."""
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def _length(value: object) -> int:
    return len(value) if isinstance(value, (list, tuple)) else 0


def _dimensions(value: object) -> int | None:
    return value if type(value) is int and 0 < value < _TOO_LARGE else None


def _options(value: object) -> Mapping[str, Any]:
    return bounded_options(value) if value and isinstance(value, dict) else _NO_OPTIONS


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _tool_names(value: object) -> tuple[str, ...]:
    tools = value if isinstance(value, (list, tuple)) else ()
    # One more than the limit, so that the bounded names end with `MORE_NAMES`.
    return bounded_names([tool_name(tool) for tool in tools[: MOST_TOOLS + 1]], MOST_TOOLS)


_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "options": _options,
    "think": _think,
    "keep_alive": _keep_alive,
    "raw": _flag,
    "truncate": _flag,
    "dimensions": _dimensions,
    "tools": _tool_names,
}
"""Fields of a request that are facts of the same name."""


def read_request(
    endpoint: Endpoint, body: Mapping[str, Any] | None, *, size: int | None
) -> RequestFacts:
    """Read the facts of a request; `body` is None if it is not readable."""
    if body is None:
        return RequestFacts(stream=bool(endpoint.streams_by_default), size=size)
    get = body.get
    stream = get("stream")
    if not isinstance(stream, bool):
        stream = bool(endpoint.streams_by_default)
    messages, images = get("messages"), get("images")
    image_count = 0 if images is None else _length(images)
    input_count: int | None = None
    if isinstance(messages, (list, tuple)):
        input_count = len(messages)
        for message in messages:
            if isinstance(message, dict) and "images" in message:
                image_count += _length(message["images"])
    elif endpoint.response == "embedding":
        inputs = get(endpoint.input_field or "")
        if inputs is not LEFT_OUT:
            input_count = len(inputs) if isinstance(inputs, (list, tuple)) else int(bool(inputs))
    return RequestFacts(
        model=_name(get("model")) or _name(get("name")) or _name(get("source")),
        stream=stream and endpoint.streams_by_default is not None,
        purpose=_purpose(endpoint, body),
        asks_for_json=bool(get("format")),
        input_count=input_count,
        image_count=None if images is LEFT_OUT or messages is LEFT_OUT else image_count,
        size=size,
        # Most requests have none of these fields.
        **{name: _READERS[name](body[name]) for name in _READERS.keys() & body.keys()},
    )


# --- content ------------------------------------------------------------------------------


def read_conversation(endpoint: Endpoint, body: Mapping[str, Any]) -> Conversation:
    """Read the content of a request: messages, or a prompt, or texts to embed."""
    options = body.get("options")
    settings = dict(options) if isinstance(options, Mapping) else {}
    settings |= {name: value for name in _SETTINGS if (value := body.get(name)) is not None}
    if endpoint.response == "embedding":
        inputs = _inputs(body.get(endpoint.input_field or ""))
        return Conversation(inputs=inputs, settings=frozen(settings))
    # The server ignores the fields of the other endpoint.
    is_chat, is_prompt = endpoint.input_field == "messages", endpoint.input_field == "prompt"
    messages = () if is_prompt else tuple(map(_message, _mappings(body.get("messages"))))
    prompt: tuple[Part, ...] = ()
    if not is_chat and not messages:
        prompt = (*_texts(Text, body.get("prompt")), *_media(body.get("images")))
        messages = (Message(role="user", parts=prompt),) if prompt else ()
    return Conversation(
        system=() if is_chat else tuple(_texts(Text, body.get("system"))),
        messages=messages,
        inputs=() if messages else _inputs(body.get("query")),
        tools=tuple(_tools(body.get("tools"))),
        settings=frozen(settings),
    )


def _inputs(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(each for each in values if isinstance(each, str))


def _message(message: Mapping[str, Any]) -> Message:
    role, content = message.get("role"), message.get("content")
    # The server lowercases it too.
    role = role.lower() if isinstance(role, str) else ""
    name = _text(message.get("tool_name")) or _text(message.get("name"))
    call_id = message.get("tool_call_id")
    parts: tuple[Part, ...] = (
        *_texts(Thinking, message.get("thinking")),
        *_texts(Text, content),
    )
    if role == "tool":
        result = ToolResult(
            text=content if isinstance(content, str) else "",
            id=call_id if isinstance(call_id, str) else None,
            name=name,
        )
        parts = (result,)
    calls = tool_calls(message.get("tool_calls"))
    return Message(role=role, name=name, parts=(*parts, *_media(message.get("images")), *calls))


def _texts(part: type[Text | Thinking], value: Any) -> Iterator[Text | Thinking]:
    if isinstance(value, str) and value:
        yield part(value)


def _media(values: Any) -> Iterator[Media]:
    for value in values if isinstance(values, list | tuple) else ():
        if (media := media_of(value)) is not None:
            yield media


def tool_calls(values: Any) -> tuple[ToolCall, ...]:
    """Read the tool calls of a message, without those that have no function name."""
    return tuple(
        ToolCall(
            name=function["name"],
            arguments=frozen(function.get("arguments")),
            id=call["id"] if isinstance(call.get("id"), str) else None,
        )
        for call in _mappings(values)
        if isinstance(function := call.get("function"), Mapping)
        and isinstance(function.get("name"), str)
    )


def _tools(values: Any) -> Iterator[ToolDefinition]:
    for tool in _mappings(values):
        function = tool.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            continue
        parameters = function.get("parameters")
        yield ToolDefinition(
            name=function["name"],
            description=_text(function.get("description")),
            parameters=frozen(parameters) if isinstance(parameters, Mapping) else None,
        )


# --- canonical form -----------------------------------------------------------------------

# Values that mean the same as no field. `think`, `keep_alive` and options are not among them:
# without them the model's own settings apply.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "_debug_render_only": False,
    "dimensions": 0,
    "insecure": False,
    "logprobs": False,
    "raw": False,
    "shift": True,
    "top_logprobs": 0,
    "truncate": True,
    "verbose": False,
}
_MODELS: Final = ("model", "source", "destination", "from")
# The keys inside these are the caller's own, and empty values count.
_FREE: Final = frozenset({"arguments", "format", "info", "parameters"})


def canonical(endpoint: Endpoint | None, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a normalised request: equal for requests that the server treats the same."""
    fields: dict[str, Any] = _without_empty(body)
    # `name` is the old name of `model`.
    name = fields.pop("name", None)
    if isinstance(name, str) and not fields.get("model"):
        fields["model"] = name
    streams = None if endpoint is None else endpoint.streams_by_default
    if streams is None or fields.get("stream") is streams:
        fields.pop("stream", None)
    for name in _MODELS:
        if isinstance(model := fields.get(name), str):
            fields[name] = short_name(model)
    return {
        name: value
        for name, value in fields.items()
        if not (value == (default := _DEFAULTS.get(name)) and type(value) is type(default))
    }


def _without_empty(value: Any, name: str = "") -> Any:
    """Return a copy without empty fields."""
    if name in _FREE:
        return value
    if name == "images" and isinstance(value, list):
        return [_identity(item) for item in value]
    if is_mark(value):
        return _identity(value)
    if isinstance(value, Mapping):
        filled = {key: _without_empty(item, key) for key, item in value.items()}
        # An empty list of stop words overrides the model's own.
        empty: tuple[Any, ...] = (None,) if name == "options" else (None, "", [], {})
        return {
            key: item
            for key, item in filled.items()
            if not (item in empty and (key != "format" or not isinstance(item, dict)))
        }
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


def _identity(image: Any) -> Any:
    """Return hash and size, which an image and its mark in a log have in common."""
    if isinstance(image, Mapping):
        return {name: value for name, value in image.items() if name in {"sha256", "size"}}
    media = media_of(image)
    return image if media is None else {"sha256": media.sha256, "size": media.size}
