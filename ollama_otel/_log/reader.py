"""Reads a log: joins the lines of all of its files into calls, in bounded memory."""

from __future__ import annotations

import gzip
import heapq
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from msgspec.json import Decoder

from ollama_otel._bounds import cut
from ollama_otel._display import logger
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.cassette import is_cassette, read_cassette
from ollama_otel._log.files import base_of, files_of
from ollama_otel._log.format import LONGEST_LINE, MOST_VALUES, VERSION, call_from
from ollama_otel._log.own_files import is_regular
from ollama_otel._wire.lenient_json import LARGE, is_costly, parse_exactly
from ollama_otel.errors import ReplayLogError

__all__ = ["Skipped", "has_cassettes", "log_files", "read"]

_log = logger()

_decode: Final = Decoder().decode
_SHOWN: Final = 60
"""Bytes of a malformed line that are shown."""
_ATTEMPTS: Final = 20
_MOST_WAITING: Final = 20_000
"""Lines that wait for the other line of their call."""
_LARGEST_WAITING: Final = 512 << 20
"""Bytes of these lines."""
_LONGEST: Final = 300
"""Characters of an error message."""
_LONE_END: Final = "an end line without its request line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Incomplete parts of a log: a process may have been killed while it wrote."""

    file: Path
    line: int
    """The first of them."""
    reason: str
    count: int = 1
    """Number of such parts."""

    def __str__(self) -> str:
        more = f", and {self.count - 1:,} more" if self.count > 1 else ""
        return f"{self.file}:{self.line}: {self.reason}{more}"


Report = Callable[[Skipped], object]
"""Gets what the reader skipped."""


class _Skips:
    """Counts skipped lines by reason: one report per reason instead of one per line."""

    def __init__(self) -> None:
        self._by_reason: dict[str, Skipped] = {}

    def add(self, file: Path, line: int, reason: str) -> None:
        known = self._by_reason.get(reason)
        self._by_reason[reason] = (
            Skipped(file=file, line=line, reason=reason)
            if known is None
            else replace(known, count=known.count + 1)
        )

    def tell(self, report: Report) -> None:
        for skipped in self._by_reason.values():
            report(skipped)


class _Line(NamedTuple):
    """One line and its time."""

    at: str
    values: dict[str, Any]
    file: Path
    number: int
    size: int
    """Bytes."""


class _Waiting:
    """Lines that wait for the other line of their call, the oldest first; bounded."""

    def __init__(self, skips: _Skips, replaced: str) -> None:
        """`replaced` is the reason why the first of two lines with the same id is skipped."""
        self._skips = skips
        self._replaced = replaced
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._size = 0

    def take(self, call_id: str) -> _Line | None:
        """Remove and return the line of a call; None if it has none."""
        line = self._lines.pop(call_id, None)
        if line is not None:
            self._size -= line.size
        return line

    def add(self, call_id: str, line: _Line) -> Iterable[_Line]:
        """Add a line; return the oldest ones if they are too many."""
        if same := self.take(call_id):
            self._skips.add(same.file, same.number, self._replaced)
        self._lines[call_id] = line
        self._size += line.size
        if len(self._lines) <= _MOST_WAITING and self._size <= _LARGEST_WAITING:
            return ()
        return list(self._displaced())

    def _displaced(self) -> Iterator[_Line]:
        while len(self._lines) > _MOST_WAITING or self._size > _LARGEST_WAITING:
            _, oldest = self._lines.popitem(last=False)
            self._size -= oldest.size
            yield oldest

    def rest(self) -> Iterable[_Line]:
        """Return the lines that still wait."""
        return self._lines.values()


def read(path: str | os.PathLike[str], *, report: Report | None = None) -> Iterator[RecordedCall]:
    """Return the calls of a log in the order of their ends; those without an end come last.

    If more than 20,000 calls, or 512 MiB of their lines, are open at the same time, the oldest are
    returned earlier, as calls without an end; their later ends are skipped.

    `path` is a file, with its archived files and those of other processes, a cassette, or a
    folder of such files; cassettes may be in its subfolders, too, where pytest writes them. The
    calls of a folder's cassettes come last, file by file, and the names of their files are part of
    their ids. `report` gets the parts that were skipped because a process was killed while it
    wrote: once for each reason, with a count, at the end of reading; by default these are logged as
    warnings. Raises `ReplayLogError`: at once if there is no log, and while reading for a malformed
    line.
    """
    base = Path(path)
    files = log_files(base)
    cassettes = list(filter(_is_cassette, files))
    if not base.is_dir() and cassettes:
        return read_cassette(files[0])
    logged = _calls(base, report or (lambda skipped: _log.warning("%s", skipped)))
    return _followed_by(cassettes, base, logged)


def _followed_by(
    cassettes: Iterable[Path], folder: Path, logged: Iterator[RecordedCall]
) -> Iterator[RecordedCall]:
    yield from logged
    for file in cassettes:
        yield from read_cassette(file, ids_of=folder)


def has_cassettes(files: Iterable[Path]) -> bool:
    """Whether one of a log's files is a cassette."""
    return any(map(_is_cassette, files))


def _is_cassette(file: Path) -> bool:
    # Unreadable files are reported when they are opened as a log.
    with suppress(OSError):
        return is_cassette(file)
    return False


def log_files(path: Path) -> list[Path]:
    """Return the files of a log, or of all logs of a folder; `ReplayLogError` if there are none."""
    if path.is_dir():
        found = chain(path.glob("*.jsonl"), path.glob("*.jsonl.gz"))
        files = sorted(filter(is_regular, found))
        # If a process was killed while it compressed a file, the gzip is complete.
        files = [file for file in files if not file.with_name(f"{file.name}.gz").exists()]
        files += _cassettes(path)
    else:
        files = files_of(base_of(path))
    if not files:
        raise ReplayLogError(
            f"expected a replay log, or a folder with logs or cassettes, at {path}, found none: "
            "configure(replay_log=...) or OLLAMA_OTEL_REPLAY_LOG creates one"
        )
    return files


def _cassettes(folder: Path) -> list[Path]:
    """Return the cassettes of a folder and of its subfolders, which are those of test modules."""
    subfolders = (each for each in folder.glob("*/") if not each.is_symlink())
    found = chain.from_iterable(each.glob("*.json") for each in (folder, *subfolders))
    return sorted(file for file in found if is_regular(file) and _is_cassette(file))


def _calls(path: Path, report: Report) -> Iterator[RecordedCall]:
    skips = _Skips()
    with ExitStack() as stack:
        # Each file is in order already, up to short overlaps.
        opened = _opened(path, stack, skips)
        sources = [_lines(file, stream, skips) for file, stream in opened]
        lines = sources[0] if len(sources) == 1 else heapq.merge(*sources, key=lambda line: line.at)
        try:
            yield from _joined(lines, skips)
        finally:
            skips.tell(report)


def _opened(path: Path, stack: ExitStack, skips: _Skips) -> list[tuple[Path, IO[bytes]]]:
    """Open all files at once, so that files renamed or deleted later stay readable."""
    for _ in range(_ATTEMPTS):
        with ExitStack() as opening:
            opened: list[tuple[Path, IO[bytes]]] = []
            refused: list[tuple[Path, PermissionError]] = []
            try:
                for file in log_files(path):
                    if _is_cassette(file):
                        continue
                    try:
                        opened.append((file, opening.enter_context(_open(file))))
                    except PermissionError as error:
                        refused.append((file, error))
            except FileNotFoundError:
                # Renamed, compressed or deleted since it was listed.
                continue
            stack.push(opening.pop_all())
            _explain_refused(refused, skips, is_all=not opened)
            return opened
    raise ReplayLogError(f"{path}: its files are renamed faster than they can be opened: try again")


def _explain_refused(
    refused: Iterable[tuple[Path, PermissionError]], skips: _Skips, *, is_all: bool
) -> None:
    """Skip the files of other users; it is an error if there are no others."""
    for file, error in refused:
        if is_all:
            raise ReplayLogError(f"{file}: cannot be read: {error.strerror}") from error
        skips.add(file, 1, f"cannot be read: {error.strerror}")


def _joined(lines: Iterable[_Line], skips: _Skips) -> Iterator[RecordedCall]:
    """Join requests and ends."""
    requests = _Waiting(skips, "a request line with the id of a later one")
    early_ends = _Waiting(skips, _LONE_END)
    for line in lines:
        call_id = line.values.get("id", "")
        match line.values.get("event"):
            case "request":
                # The clock was set back between the files.
                if end := early_ends.take(call_id):
                    yield _call(line, end)
                else:
                    for oldest in requests.add(call_id, line):
                        yield _call(oldest, None)
            case "end":
                if request := requests.take(call_id):
                    yield _call(request, line)
                else:
                    _skip_ends(early_ends.add(call_id, line), skips)
    _skip_ends(early_ends.rest(), skips)
    for request in requests.rest():
        yield _call(request, None)


def _skip_ends(ends: Iterable[_Line], skips: _Skips) -> None:
    for end in ends:
        skips.add(end.file, end.number, _LONE_END)


def _call(request: _Line, end: _Line | None) -> RecordedCall:
    try:
        return call_from(
            request.values,
            None if end is None else end.values,
            file=request.file,
            line=request.number,
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        where = request if end is None else end
        raise ReplayLogError(
            f"{where.file}:{where.number}: expected the {where.values['event']} line of a call, "
            f"found a malformed one ({type(error).__name__}: {cut(str(error), _LONGEST)})"
        ) from error


def _lines(file: Path, stream: IO[bytes], skips: _Skips) -> Iterator[_Line]:
    number, torn = 0, None
    try:
        while raw := stream.readline(LONGEST_LINE):
            number += 1
            if len(raw) == LONGEST_LINE:
                raise ReplayLogError(
                    f"{file}:{number}: expected lines of at most {LONGEST_LINE >> 20} MiB, found "
                    "a longer one: it was not written by ollama_otel, or its file is damaged"
                )
            if len(raw) > LARGE and is_costly(raw, most=MOST_VALUES):
                raise ReplayLogError(
                    f"{file}:{number}: expected lines of at most {MOST_VALUES:,} values, found "
                    "one with more: it was not written by ollama_otel"
                )
            values = _parsed(raw)
            if torn is not None:
                _explain(file, number - 1, torn, values, skips)
                torn = None
            if values is None:
                torn = raw
                continue
            _check(values, file, number)
            yield _Line(values.get("at", ""), values, file, number, len(raw))
    except (OSError, EOFError, zlib.error) as error:
        raise ReplayLogError(f"{file}:{number + 1}: cannot be read: {error}") from error
    if torn is not None:
        _explain(file, number, torn, None if torn.endswith(b"\n") else {"event": "opened"}, skips)


def _open(file: Path) -> IO[bytes]:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        values = _decode(raw)
    except (ValueError, RecursionError):
        values = parse_exactly(raw)
    return values if isinstance(values, dict) else None


def _explain(
    file: Path, number: int, raw: bytes, following: dict[str, Any] | None, skips: _Skips
) -> None:
    """Skip a line that a process did not finish; any other malformed line is an error.

    An unfinished line is followed by a header line of the next process, or is the last one.
    """
    if following is None or following.get("event") != "opened":
        shown = raw[:_SHOWN].decode("utf-8", "replace").rstrip()
        raise ReplayLogError(
            f"{file}:{number}: expected a line of a replay log (a JSON object), found {shown!r}"
        )
    skips.add(file, number, "an unfinished line is skipped")


def _check(values: dict[str, Any], file: Path, number: int) -> None:
    """Raise for a line of a newer version, or one that cannot be ordered and joined."""
    get = values.get
    version = get("v")
    if (
        type(version) is int
        and 1 <= version <= VERSION
        and type(get("at", "")) is type(get("id", "")) is type(get("event", "")) is str
    ):
        return
    _check_version(values, file, number)
    for key in ("at", "id", "event"):
        if type(get(key, "")) is not str:
            raise ReplayLogError(
                f"{file}:{number}: expected a text as {key!r}, found {values[key]!r}"[:_LONGEST]
            )


def _check_version(values: dict[str, Any], file: Path, number: int) -> None:
    version = values.get("v")
    if type(version) is not int or version < 1:
        raise ReplayLogError(
            f'{file}:{number}: expected a line of a replay log with its version "v", '
            f"found the keys {cut(', '.join(values), _LONGEST) or 'none'}"
        )
    if version > VERSION:
        raise ReplayLogError(
            f"{file}:{number}: written in version {cut(str(version), _LONGEST)} of the format, and "
            f"this ollama_otel reads up to {VERSION}: upgrade it"
        )
