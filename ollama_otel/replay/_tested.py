"""Records the calls of a test into a cassette, and plays them from it."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.cassette import Lines, lines_of, write_cassette
from ollama_otel._log.reader import read
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.errors import ReplayLogError, ReplayMissError
from ollama_otel.replay._canonical import CanonicalRequest
from ollama_otel.replay._everywhere import replay
from ollama_otel.replay._matching import CallIndex
from ollama_otel.replay._network import put_in_front
from ollama_otel.replay._one_file_log import one_file_log
from ollama_otel.replay._recording import recording_everywhere

__all__ = ["note_calls", "playing", "recording"]


def note_calls(note: Callable[[str], object]) -> Callable[[], None]:
    """Pass method and path of each Ollama call to `note`, until the returned function is called."""

    def in_front(network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        def handle(transport: Any, request: Any) -> Any:
            method, path = request.method, request.url.path
            if find_endpoint(method, path) is not None:
                note(f"{method} {path}")
            # For an async method this returns the coroutine.
            return network(transport, request)

        return handle

    return put_in_front(in_front, in_front)


@contextmanager
def recording(
    cassette: Path,
    *,
    redactors: Sequence[Callable[[str], str]],
    is_wanted: Callable[[], bool],
    media: bool = False,
    max_size: int = sys.maxsize,
) -> Iterator[None]:
    """Record all calls in the block, and write the cassette at its end if `is_wanted`.

    `media`: the cassette holds the images of requests, and not only their hash, size and type.
    The temporary log's file may have `max_size` bytes. Raises `ReplayLogError` if a call is
    incomplete, without writing the cassette, or if the cassette cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="ollama_otel_") as folder:
        path = Path(folder, "calls.jsonl")
        with (
            one_file_log(path, redactors, media=media, max_size=max_size) as log,
            recording_everywhere(log),
        ):
            yield
        if not is_wanted():
            return
        _check_files(path)
        calls = lines_of(path) if path.exists() else []
        _check(calls)
        _write(cassette, calls)


def _check_files(path: Path) -> None:
    if others := sorted(each.name for each in path.parent.iterdir() if each != path):
        raise ReplayLogError(
            f"expected the recording of a test in one file, found {', '.join(others)} too: call "
            "Ollama from the test's own process, as a forked process writes its own file"
        )


def _write(cassette: Path, calls: Sequence[Lines]) -> None:
    try:
        write_cassette(cassette, calls)
    except OSError as error:
        raise ReplayLogError(
            f"expected to write the cassette {cassette}, found: {error}"
        ) from error


def _check(calls: Sequence[Lines]) -> None:
    for request, end in calls:
        call = f"{request['method']} {request['path']}"
        if end is None:
            raise ReplayLogError(
                f"expected every call to end with its test, and {call} has not: read its response "
                "to the end, or close it"
            )
        if missing := end.get("missing") or request.get("missing"):
            raise ReplayLogError(f"the recording of {call} has no body: {missing}")


class _NotingIndex(CallIndex):
    """Collects the misses, as an app may catch the error."""

    def __init__(self, calls: Iterator[RecordedCall], **options: Any) -> None:
        super().__init__(calls, **options)
        self.misses: list[ReplayMissError] = []

    def take(self, asked: CanonicalRequest) -> RecordedCall:
        try:
            return super().take(asked)
        except ReplayMissError as miss:
            self.misses.append(miss)
            raise


@contextmanager
def playing(
    cassette: Path,
    *,
    speed: float,
    ignore: Collection[str],
    repeat: bool = False,
    redactors: Sequence[Callable[[str], str]],
) -> Iterator[_NotingIndex]:
    """Answer all calls in the block from the cassette; yields the index, with its misses."""
    index = _NotingIndex(
        read(cassette), name=str(cassette), ignore=ignore, repeat=repeat, redactors=redactors
    )
    with replay(index, speed=speed):
        yield index
