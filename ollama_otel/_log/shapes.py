"""What the values in a log's lines have to be: somebody may have edited them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from ollama_otel.records import Outcome

__all__ = ["check_end", "check_facts", "check_request"]

_SHOWN = 80
"""Characters of what is wrong that are shown."""
_OUTCOMES: tuple[str, ...] = get_args(Outcome)

# Exactly these types: to Python, true is an integer.
_TEXT, _TRUTH, _INTEGER, _NUMBER = (str,), (bool,), (int,), (int, float)
_OBJECT, _LIST = (dict,), (list,)
_Types = Mapping[str, tuple[type, ...]]

_REQUEST: _Types = {
    **dict.fromkeys(("id", "at", "operation", "method", "path", "server"), _TEXT),
    **dict.fromkeys(("trace_id", "span_id", "conversation_id", "user_id", "missing"), _TEXT),
    **dict.fromkeys(("request", "tags"), _OBJECT),
    "port": _INTEGER,
    "sampled": _TRUTH,
    "changes": _LIST,
}
_END: _Types = {
    **dict.fromkeys(("id", "at", "outcome", "error_type", "error_message", "missing"), _TEXT),
    **dict.fromkeys(("content_type", "content_encoding"), _TEXT),
    **dict.fromkeys(("status", "chunk_count", "size"), _INTEGER),
    **dict.fromkeys(("duration", "time_to_first_chunk", "time_to_first_answer"), _NUMBER),
    **dict.fromkeys(("longest_gap", "held_by_caller"), _NUMBER),
    **dict.fromkeys(("response", "progress"), _OBJECT),
    **dict.fromkeys(("chunks", "changes"), _LIST),
}
_FACTS: _Types = {
    **dict.fromkeys(("model", "purpose", "keep_alive", "remote_model", "remote_host"), _TEXT),
    **dict.fromkeys(("done_reason", "error"), _TEXT),
    **dict.fromkeys(("stream", "asks_for_json", "raw", "truncate"), _TRUTH),
    **dict.fromkeys(("done", "has_thinking"), _TRUTH),
    **dict.fromkeys(("dimensions", "input_count", "image_count", "size"), _INTEGER),
    **dict.fromkeys(("input_tokens", "output_tokens"), _INTEGER),
    **dict.fromkeys(("total_duration", "load_duration"), _NUMBER),
    **dict.fromkeys(("prompt_eval_duration", "eval_duration"), _NUMBER),
    **dict.fromkeys(("tools", "tool_calls"), _LIST),
    "options": _OBJECT,
    "think": (bool, str),
}
_PROGRESS: _Types = {
    **dict.fromkeys(("first", "completed", "total"), _OBJECT),
    **dict.fromkeys(("started_at", "updated_at"), (int, float, type(None))),
}
_TEXTS = ("tools", "tool_calls", "changes")


def check_request(line: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where a request line has a value that none may have."""
    _check(line, _REQUEST)
    tags = line.get("tags")
    if tags and not all(type(value) is str for value in tags.values()):
        raise TypeError(f"tags is {tags!r}"[:_SHOWN])


def check_end(line: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where an end line has a value that none may have."""
    _check(line, _END)
    if line["outcome"] not in _OUTCOMES:
        raise ValueError(f"outcome is {line['outcome']!r}, and not {', '.join(_OUTCOMES)}")
    if "progress" in line:
        _check(line["progress"], _PROGRESS)


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where a fact is of another kind than it may be."""
    _check(facts, _FACTS)


def _check(values: Mapping[str, Any], types: _Types) -> None:
    for key, value in values.items():
        expected = types.get(key)
        if expected is None:
            continue
        if type(value) not in expected:
            raise TypeError(f"{key} is {value!r}"[:_SHOWN])
        if expected is _NUMBER and not math.isfinite(value):
            raise ValueError(f"{key} is {value!r}")
        if key in _TEXTS and not all(type(each) is str for each in value):
            raise TypeError(f"{key} is {value!r}"[:_SHOWN])
