"""Fits captured content into the SDK's limit for the length of attributes.

The SDK cuts every longer string at the limit, for example `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`. JSON
cut like that cannot be parsed. So here the texts inside are cut, and the JSON stays valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ollama_otel._bounds import cut
from ollama_otel._telemetry.content import as_json, plain

__all__ = ["Fitted", "json_within", "log_limit", "span_limit", "value_within", "values_within"]

_TEXTS: Final = frozenset({"content", "response", "arguments", "description", "parameters"})
"""Keys of messages, parts and tool definitions that hold texts of users or models."""
_LEAST: Final = 40
"""Characters that remain of a cut text: its mark at least."""
_LONGEST_ESCAPE: Final = 6

Messages = Sequence[Mapping[str, Any]]


# --- the SDK's limits ---------------------------------------------------------------------


def span_limit(span: object) -> int | None:
    """Return how many characters an attribute of this span may have; None is unlimited."""
    return _number(getattr(span, "_limits", None), "max_span_attribute_length")


def log_limit(logger: object) -> int | None:
    """Return how many characters an attribute of this logger's records may have."""
    # A logger of the API refers to that of the SDK once there is one.
    logger = getattr(logger, "_real_logger", None) or logger
    limits = getattr(logger, "_log_record_limits", None)
    if limits is None and type(logger).__module__.startswith("opentelemetry.sdk."):
        return _limit_of_environment()
    return _number(limits, "max_log_record_attribute_length")


def _limit_of_environment() -> int | None:
    """Return the limit for log records of an SDK whose loggers have none, before version 1.44."""
    from opentelemetry.sdk._logs import LogRecordLimits  # noqa: PLC0415 - only these SDKs need it

    return _number(LogRecordLimits(), "max_attribute_length")


def _number(limits: object, name: str) -> int | None:
    limit = getattr(limits, name, None)
    return limit if isinstance(limit, int) else None


# --- fitting ------------------------------------------------------------------------------


class Fitted(NamedTuple):
    """Content within a limit."""

    value: Any
    """None if not even a part fits."""
    is_whole: bool
    """Whether all messages are included; cut texts have a mark of their own."""


def json_within(messages: Messages, limit: int | None) -> Fitted:
    """Return messages, parts or tool definitions as JSON of at most `limit` characters.

    Long texts are cut and marked. If that is not enough, the oldest messages are left out.
    """
    text = as_json(messages)
    if limit is None or len(text) <= limit:
        return Fitted(text, is_whole=True)
    kept: list[Mapping[str, Any]] = []
    lengths: list[int] = []
    room = limit - len("[]")
    least = 0
    for message in reversed(messages):
        texts = [_json_length(each) for each in _texts_of([message])]
        around = len(as_json(message)) - sum(texts) + len(",")
        shortest = sum(min(each, _LEAST) for each in texts)
        if around + least + shortest > room:
            break
        kept.insert(0, message)
        lengths += texts
        room -= around
        least += shortest
    if not kept:
        return Fitted(None, is_whole=False)
    most = _longest(lengths, room)
    text = as_json(_with_texts(kept, lambda each: _cut_json(each, most)))
    return Fitted(text, is_whole=len(kept) == len(messages))


def value_within(value: Any, limit: int | None) -> str | None:
    """Return one value as JSON of at most `limit` characters; None if its keys alone are longer."""
    before, after = '[{"arguments":', "}]"
    around = len(before) + len(after)
    fitted = json_within([{"arguments": value}], None if limit is None else limit + around)
    text: str | None = fitted.value
    return None if text is None else text[len(before) : -len(after)]


def values_within(messages: Messages, limit: int | None) -> Fitted:
    """Return structured messages without a string of more than `limit` characters.

    Texts are cut and marked. An id or a name that is too long is left out, as a part of it would be
    a different one.
    """
    if limit is None:
        return Fitted(messages, is_whole=True)
    shorter = _with_texts(messages, lambda text: cut(text, limit))
    fits = all(len(each) <= limit for each in _strings_of(shorter))
    return Fitted(shorter if fits else None, is_whole=fits)


def _longest(lengths: Sequence[int], room: int) -> int:
    """Return the length for long texts, the same for all, so that all texts fit into `room`."""
    ordered = sorted(lengths)
    for index, length in enumerate(ordered):
        share = room // (len(ordered) - index)
        if length > share:
            return share
        room -= length
    return max(ordered, default=0)


def _cut_json(text: str, most: int) -> str:
    """As `cut`, for a text of at most `most` characters in JSON."""
    length = most
    while (excess := _json_length(shorter := cut(text, length)) - most) > 0:
        length -= max(1, excess // _LONGEST_ESCAPE)
    return shorter


def _json_length(value: Any) -> int:
    """Return the length in JSON, without the two marks around it."""
    return len(as_json(value)) - 2


# --- the texts of messages ----------------------------------------------------------------


def _with_texts(messages: Messages, change: Callable[[str], str]) -> list[dict[str, Any]]:
    """Copy messages, parts or tool definitions, with each text changed."""
    return [
        {
            key: plain(value, change)
            if key in _TEXTS
            else _with_texts(value, change)
            if key == "parts"
            else value
            for key, value in message.items()
        }
        for message in messages
    ]


def _texts_of(messages: Messages) -> list[str]:
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    _with_texts(messages, note)
    return texts


def _strings_of(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings_of(item)
