"""Sources of readings: a live log, a server's `/api/ps`, the scrape endpoint of an app."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, Protocol, Self

from ollama_otel._display import masked_url
from ollama_otel._log.tail import LogTail
from ollama_otel._top.readings import LogReading, PsReading, Reading
from ollama_otel._top.scrape import check_installed, read_scrape
from ollama_otel._top.servers import server_name
from ollama_otel._top.state import State
from ollama_otel._wire.address import Address
from ollama_otel._wire.ps import LOADED_PATH, read_models
from ollama_otel.errors import ReplayLogError
from ollama_otel.residency._http import (
    BusyError,
    CannotPollError,
    Connection,
    PollResponse,
    UnreachableError,
)

__all__ = ["Feed", "LogSource", "PsSource", "ScrapeSource", "Source", "SourceError", "read_once"]

_FIRST_EVENTS: Final = 10_000
"""Number of events of a log that are read at the start."""
_TIMEOUT: Final = 5.0
"""Seconds for a response."""
_CLOCK_SKEW: Final = 2.0
_OK: Final = 200


class SourceError(Exception):
    """A source cannot be read now; the message says why."""


class Source(Protocol):
    """A source that one thread reads repeatedly."""

    name: str
    waits: bool
    """Whether a reading may wait for a server."""

    def read(self) -> Reading:
        """Return the new readings; raises `SourceError`."""
        ...

    def stop(self) -> None:
        """Interrupt a waiting read, and make further ones fail; callable from any thread."""
        ...

    def close(self) -> None:
        """Close files and connections, on the reading thread."""
        ...


class LogSource:
    """A log, or a folder of logs, that is being written."""

    waits = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._tail = LogTail(path)
        self._has_begun = False

    def read(self) -> LogReading:
        """Return the events since the last reading; at first the latest ones."""
        try:
            if not self._tail.files():
                raise SourceError("no log yet")
            events = self._tail.new() if self._has_begun else self._tail.latest(_FIRST_EVENTS)
        except (OSError, ReplayLogError) as error:
            raise SourceError(str(error)) from error
        self._has_begun = True
        return LogReading(events=tuple(events))

    def stop(self) -> None:
        """Do nothing: reading a file does not wait."""

    def close(self) -> None:
        """Close the files."""
        self._tail.__exit__()


class PsSource:
    """The models in the memory of a server."""

    waits = True

    def __init__(self, address: Address, *, timeout: float = _TIMEOUT) -> None:
        self.name = f"{address.url}{LOADED_PATH}"
        self._server = server_name(address.host, address.port) or address.host
        self._connection = Connection(address.connectable, timeout)

    def read(self) -> PsReading:
        """Return the models in memory now."""
        response = _get(self._connection, LOADED_PATH)
        now = time.time()
        # The server's date has no fractions; it is used only if its clock differs.
        if response.date is not None and abs(response.date - now) > _CLOCK_SKEW:
            now = response.date
        models = read_models(response.json(), now=now)
        if models is None:
            raise SourceError("the response is not that of an Ollama server")
        return PsReading(server=self._server, at=now, models=models)

    def stop(self) -> None:
        """Make a running request fail."""
        self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.drop()


class ScrapeSource:
    """The scrape endpoint of an app that this library instruments.

    Raises `MissingExtraError` if its text cannot be parsed.
    """

    waits = True

    def __init__(self, url: str, *, timeout: float = _TIMEOUT) -> None:
        check_installed()
        self.name = masked_url(url)
        self._connection = Connection(url, timeout)

    def read(self) -> Reading:
        """Return the metrics as they are now."""
        response = _get(self._connection, "")
        try:
            scrape = read_scrape(response.body.decode())
        except ValueError as error:
            raise SourceError("the response is not in Prometheus' text format") from error
        if scrape is None:
            raise SourceError("the response has no metric of ollama_otel")
        return scrape

    def stop(self) -> None:
        """Make a running request fail."""
        self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.drop()


def _get(connection: Connection, path: str) -> PollResponse:
    try:
        response = connection.get(path)
    except BusyError as error:
        raise SourceError(f"busy: {error}") from error
    except (UnreachableError, CannotPollError) as error:
        raise SourceError(f"cannot be reached: {error}") from error
    if response.status != _OK:
        raise SourceError(f"HTTP status {response.status}")
    return response


# --- feeding a state ----------------------------------------------------------------------


class _News(NamedTuple):
    source: str
    reading: Reading | SourceError
    at: float


def _read(source: Source, clock: Callable[[], float]) -> _News:
    try:
        reading: Reading | SourceError = source.read()
    except SourceError as error:
        reading = error
    except Exception as error:  # noqa: BLE001 - shown, and read again: the view goes on
        reading = SourceError(f"{type(error).__name__}: {error}")
    return _News(source.name, reading, clock())


def _give(state: State, news: _News) -> None:
    if isinstance(news.reading, SourceError):
        state.failed(news.source, str(news.reading))
    else:
        state.take(news.source, news.reading, news.at)


def read_once(
    state: State, sources: Sequence[Source], *, clock: Callable[[], float] = time.time
) -> None:
    """Read each source once, and feed a state with it."""
    for source in sources:
        state.add_source(source.name)
        _give(state, _read(source, clock))


class Feed:
    """Reads each server in a separate thread, so that a slow server does not delay others.

    Used as `with Feed(sources, interval) as feed:`. `feed.into(state)` never waits; it reads
    logs itself, so that calls are as they are now.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        interval: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._interval = interval
        self._clock = clock
        self._news: SimpleQueue[_News] = SimpleQueue()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(source,), name="ollama-otel-top", daemon=True)
            for source in sources
            if source.waits
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        for source in self._sources:
            source.stop()
        for thread in self._threads:
            thread.join(_TIMEOUT)
        for source in self._sources:
            if not source.waits:
                source.close()

    def into(self, state: State) -> None:
        """Feed a state with all that was read since the last time."""
        for source in self._sources:
            state.add_source(source.name)
            if not source.waits:
                _give(state, _read(source, self._clock))
        with suppress(Empty):
            while True:
                _give(state, self._news.get_nowait())

    def _run(self, source: Source) -> None:
        try:
            while not self._end.is_set():
                self._news.put(_read(source, self._clock))
                self._end.wait(self._interval)
        finally:
            source.close()
