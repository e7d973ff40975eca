"""A log as one file for tests, formatted to be read and compared in a pull request.

It holds the objects of the log's lines. Pieces of a response that are JSON, or complete messages
of a stream, are written as JSON if that loses no byte.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ollama_otel._bounds import cut
from ollama_otel._log import format as log_format
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.own_files import replace_file
from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel._wire.framing import Framing
from ollama_otel._wire.ndjson import NDJSON
from ollama_otel._wire.sse import SSE
from ollama_otel.errors import ReplayLogError

__all__ = ["FORMAT", "is_cassette", "lines_of", "read_cassette", "write_cassette"]

FORMAT: Final = "ollama_otel.cassette"

_VERSION: Final = 1
_BEGINS = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"format"\s*:\s*"ollama_otel\.cassette"')
_LONGEST: Final = 300
"""Characters of an error message."""
_HEAD_SIZE: Final = 256
"""Bytes that are read to recognise a cassette."""
_CALL_BEGINS = b'      "request": {'
_NEW_EACH_TIME: Final = frozenset({"id", "trace_id", "span_id", "sampled"})
"""Fields that differ between recordings, and are not facts of the call."""
_FRAMINGS: Final[Mapping[str, Framing]] = {framing.name: framing for framing in (NDJSON, SSE)}

Lines = tuple[Mapping[str, Any], Mapping[str, Any] | None]
"""A call of a log: the objects of its request line and of its end line."""


def is_cassette(path: Path) -> bool:
    """Whether a file begins like a cassette; raises OSError."""
    with path.open("rb") as file:
        return _BEGINS.match(file.read(_HEAD_SIZE)) is not None


# --- writing ------------------------------------------------------------------------------


def write_cassette(path: Path, calls: Iterable[Lines]) -> None:
    """Write the calls in this order, atomically. Missing folders are created. Raises OSError."""
    laid_out = ",\n    ".join(
        _laid_out(number, request, end) for number, (request, end) in enumerate(calls, 1)
    )
    text = (
        f'{{\n  "format": "{FORMAT}",\n  "v": {_VERSION},\n  "calls": [\n    {laid_out}\n  ]\n}}\n'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half a surrogate pair has no UTF-8: it becomes a JSON escape.
    replace_file(path, text.encode("utf-8", "backslashreplace"))


def _laid_out(number: int, request: Mapping[str, Any], end: Mapping[str, Any] | None) -> str:
    halves = {
        "request": _indented(_lasting(request, number)),
        "end": "null" if end is None else _with_chunks(_lasting(end, number), _dialect(request)),
    }
    fields = ",\n  ".join(f'"{name}": {_deeper(text)}' for name, text in halves.items())
    return _deeper(f"{{\n  {fields}\n}}", by=4)


def _lasting(line: Mapping[str, Any], number: int) -> dict[str, Any]:
    lasting = {"v": line.get("v"), "event": line.get("event"), "id": str(number)}
    rest = {name: value for name, value in line.items() if name not in _NEW_EACH_TIME}
    return {**lasting, **rest}


def _dialect(request: Mapping[str, Any]) -> Dialect:
    return dialect_of(find_endpoint(request["method"], request["path"]))


def _with_chunks(end: Mapping[str, Any], dialect: Dialect) -> str:
    """Format an end line, with each of its chunks on a line of its own."""
    chunks = end.get("chunks")
    if not chunks:
        return _indented(end)
    rows = ",\n    ".join(f"[{delta}, {_readable(piece, dialect)}]" for delta, piece in chunks)
    fields = {name: _deeper(_indented(value)) for name, value in end.items()}
    fields["chunks"] = f"[\n    {rows}\n  ]"
    listed = ",\n  ".join(f"{_compact(name)}: {text}" for name, text in fields.items())
    return f"{{\n  {listed}\n}}"


def _readable(piece: Any, dialect: Dialect) -> str:
    """Return a piece as JSON if that restores the same bytes, otherwise unchanged."""
    if not isinstance(piece, str):
        return _compact(piece)
    if _is_compact(piece):
        return f'{{"document": {piece}}}'
    framing = dialect.framing
    payloads = [each for each in framing.payloads(_encoded(piece)) if each]
    messages = [_message(each, dialect) for each in payloads]
    is_lossless = b"".join(map(framing.frame, payloads)) == _encoded(piece)
    if not messages or None in messages or not is_lossless:
        return _compact(piece)
    together = ", ".join(map(str, messages))
    return f'{{"{framing.name}": {together if len(messages) == 1 else f"[{together}]"}}}'


def _message(payload: bytes, dialect: Dialect) -> str | None:
    """Return a message as JSON; None if that loses bytes. The end mark of a stream is a string."""
    text = _decoded(payload)
    if _is_compact(text):
        return text
    return _compact(text) if dialect.is_end_mark(payload) else None


def _encoded(text: str) -> bytes:
    # A log edited by hand may have half a surrogate pair.
    return text.encode("utf-8", "surrogatepass")


def _decoded(payload: bytes) -> str:
    return payload.decode("utf-8", "surrogatepass")


def _is_compact(text: str) -> bool:
    """Whether a text is a JSON object that parsing and writing do not change."""
    if not text.startswith("{"):
        return False
    try:
        return _compact(json.loads(text, parse_constant=_refuse)) == text
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _deeper(text: str, *, by: int = 2) -> str:
    # JSON has line ends between values only; strings escape theirs.
    return text.replace("\n", "\n" + " " * by)


def lines_of(log: Path) -> list[Lines]:
    """Return the calls of a log that is one complete file, in the order of their starts.

    Raises OSError, and ValueError if a line is incomplete.
    """
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    ends = {line["id"]: line for line in lines if line["event"] == "end"}
    return [(line, ends.get(line["id"])) for line in lines if line["event"] == "request"]


# --- reading ------------------------------------------------------------------------------


def read_cassette(path: Path, *, ids_of: Path | None = None) -> Iterator[RecordedCall]:
    """Yield the calls of a cassette in their order.

    Ids are unique in the file, or in the folder `ids_of`: then they begin with the file's name.

    Raises `ReplayLogError`, with file and line, if it is malformed or of a newer version, and
    OSError.
    """
    content = path.read_bytes()
    calls = _calls(path, content)
    lines = _call_lines(content, len(calls))
    prefix = "" if ids_of is None else f"{path.relative_to(ids_of).with_suffix('').as_posix()}-"
    for number, (call, line) in enumerate(zip(calls, lines, strict=True), 1):
        try:
            recorded = _call(call, path, line, prefix)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ReplayLogError(
                f"{path}, line {line}: expected call {number} in the format of a cassette, "
                f"found a malformed one ({type(error).__name__}: {cut(str(error), _LONGEST)}): "
                "record it again"
            ) from error
        yield recorded


def _calls(path: Path, content: bytes) -> Sequence[Any]:
    try:
        cassette = json.loads(content)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise ReplayLogError(
            f"{path}, line {line}: expected a cassette, found invalid JSON ({error}): "
            "undo the last change to it, or record it again"
        ) from error
    if not isinstance(cassette, dict) or cassette.get("format") != FORMAT:
        raise ReplayLogError(f'{path}: expected a cassette, found no "format": "{FORMAT}" in it')
    version, calls = cassette.get("v"), cassette.get("calls")
    if type(version) is not int or version > _VERSION:
        raise ReplayLogError(
            f"{path}: expected a cassette of version {_VERSION} or older, "
            f"found {cut(repr(version), _LONGEST)}: "
            "update ollama_otel to read it, or record it again"
        )
    if not isinstance(calls, list):
        raise ReplayLogError(f'{path}: expected the list "calls", found {type(calls).__name__}')
    return calls


def _call_lines(content: bytes, count: int) -> Sequence[int]:
    """Return the line of each call; 1 for all if the file was reformatted."""
    found = [
        number
        for number, line in enumerate(content.split(b"\n"), 1)
        if line.startswith(_CALL_BEGINS)
    ]
    return found if len(found) == count else [1] * count


def _call(call: Mapping[str, Any], path: Path, line: int, prefix: str) -> RecordedCall:
    request, end = call["request"], call["end"]
    request = {**request, "id": prefix + request["id"]}
    for half in (request, end or request):
        if half["v"] > log_format.VERSION:
            raise ReplayLogError(
                f"{path}, line {line}: recorded in version {half['v']} of the log's format, and "
                f"this ollama_otel reads up to {log_format.VERSION}: upgrade it"
            )
    if end is not None and "chunks" in end:
        chunks = [[delta, _as_logged(piece)] for delta, piece in end["chunks"]]
        end = {**end, "chunks": chunks}
    return log_format.call_from(request, end, file=path, line=line)


def _as_logged(piece: Any) -> Any:
    if isinstance(piece, str):
        return piece
    if "document" in piece:
        return _compact(piece["document"])
    for name, framing in _FRAMINGS.items():
        if name in piece:
            messages = piece[name] if isinstance(piece[name], list) else [piece[name]]
            payloads = (each if isinstance(each, str) else _compact(each) for each in messages)
            return "".join(_decoded(framing.frame(_encoded(each))) for each in payloads)
    return {"base64": _checked(piece["base64"])}


def _checked(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    return text
