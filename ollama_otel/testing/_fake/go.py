"""JSON, times and durations as a Go server reads and writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NoReturn

JSON = "application/json; charset=utf-8"
BARE_JSON = "application/json"
"""Content type of errors after the server had prepared for a stream."""
FOREVER = (2**63 - 1) / 1e9
"""Go's longest duration in seconds, about 292 years: the meaning of a negative keep_alive."""

_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[-+]?(?:0|(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)")
_DURATION_TERM = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_FIELD_TYPES: Mapping[str, tuple[type, str]] = {
    "model": (str, "string"),
    "name": (str, "string"),
    "prompt": (str, "string"),
    "suffix": (str, "string"),
    "system": (str, "string"),
    "template": (str, "string"),
    "from": (str, "string"),
    "source": (str, "string"),
    "destination": (str, "string"),
    "query": (str, "string"),
    "url": (str, "string"),
    "stream": (bool, "bool"),
    "raw": (bool, "bool"),
    "truncate": (bool, "bool"),
    "top_logprobs": (int, "int"),
    "dimensions": (int, "int"),
    "messages": (list, "[]api.Message"),
    "tools": (list, "api.Tools"),
    "options": (dict, "map[string]interface {}"),
}


class RefusalError(Exception):
    """The request gets an error: HTTP status and the text of its `error` field."""

    def __init__(self, status: int, text: str, content_type: str = JSON) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.content_type = content_type


def go_json(value: object) -> bytes:
    """Encode as `encoding/json` does: compact, UTF-8, and `<`, `>`, `&`, U+2028/9 escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def go_time(seconds: float, *, zone_hours: int = 0) -> str:
    """Return RFC 3339 with nanoseconds; `seconds` since the epoch, `Z` if the zone is UTC.

    Ollama writes `created_at` in UTC and `modified_at`/`expires_at` in its local zone.
    """
    whole, nanoseconds = divmod(round(seconds * 1e9), 10**9)
    zone = timezone(timedelta(hours=zone_hours)) if zone_hours else UTC
    stamp = datetime.fromtimestamp(0, zone) + timedelta(seconds=whole)
    suffix = f"{zone_hours:+03d}:00" if zone_hours else "Z"
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}{suffix}"


def keep_alive_seconds(value: object) -> float:
    """Return the seconds that a model stays loaded; negative means forever, as in Go."""
    if isinstance(value, str):
        seconds = _duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise RefusalError(400, f"Unsupported type: '{_go_type(value)}'")
    return seconds if seconds >= 0 else FOREVER


def decode_object(body: bytes, kind: str) -> dict[str, Any]:
    """Parse a request body as a JSON object; `kind` is the Go struct's name, for errors.

    Fields that are `null` are left out, as Go leaves them at their zero value. Raises
    `RefusalError` with Go's message.
    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise RefusalError(400, "missing request body")
    try:
        # Go's decoder stops after the first value, and so does raw_decode.
        value, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise RefusalError(400, _syntax_error(text, error)) from None
    if not isinstance(value, dict):
        message = f"json: cannot unmarshal {_go_type(value)} into Go value of type api.{kind}"
        raise RefusalError(400, message)
    present = {name: item for name, item in value.items() if item is not None}
    for name, item in present.items():
        _check_type(name, item, kind)
    return present


def _check_type(name: str, item: object, kind: str) -> None:
    expected = _FIELD_TYPES.get(name)
    # An exact comparison, as bool is an int in Python and not in Go.
    if expected is not None and type(item) is not expected[0]:
        where = f"Go struct field {kind}.{name} of type {expected[1]}"
        raise RefusalError(400, f"json: cannot unmarshal {_go_type(item)} into {where}")


def _duration(text: str) -> float:
    if not _DURATION.fullmatch(text):
        problem = "missing unit in" if re.fullmatch(r"[-+]?[\d.]*\d", text) else "invalid"
        raise RefusalError(400, f'time: {problem} duration "{text}"')
    size = sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_TERM.findall(text))
    return -size if text.startswith("-") else size


def _syntax_error(text: str, error: json.JSONDecodeError) -> str:
    is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
    if is_cut:
        return "unexpected EOF"
    return f"invalid character '{text[error.pos]}' looking for beginning of value"


def _go_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _no_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's decoder accepts."""
    raise RefusalError(400, f"invalid character '{name[0]}' looking for beginning of value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
