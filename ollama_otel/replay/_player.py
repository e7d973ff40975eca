"""The httpx transports that play a log, sync and async.

They make no decisions. The async transport equals the sync one but for `await`.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence

import anyio
import httpx

from ollama_otel._log.call import RecordedCall
from ollama_otel.redaction import Redactor
from ollama_otel.replay._matching import CallIndex, Log
from ollama_otel.replay._playback import Playback, check_speed

__all__ = ["AsyncPlayer", "Player"]


class _Played:
    """The common part of the players: chooses the call that answers a request."""

    def __init__(self, index: CallIndex, *, speed: float, clock: Callable[[], float]) -> None:
        self.index: CallIndex = index
        """The calls that can be played."""
        self._speed = check_speed(speed)
        self._clock = clock

    @property
    def unused(self) -> tuple[RecordedCall, ...]:
        """The calls that can be played and were not requested, in the order of starts."""
        return self.index.unused

    def _play(self, request: httpx.Request) -> Playback:
        """Start to play the response to a request whose body is in memory."""
        asked = self.index.asked(request.method, request.url.path, request.content)
        call = self.index.take(asked)
        patience = request.extensions.get("timeout", {}).get("read")
        return Playback(
            call,
            speed=self._speed,
            clock=self._clock,
            patience=math.inf if patience is None else patience,
        )


class Player(_Played, httpx.BaseTransport):
    """Answers requests from a log, byte for byte and with the logged timing.

    `log` is the path of a log, its calls, or a `CallIndex` that several players share, with its
    own `ignore`, `repeat` and `redactors`. `speed` 2 is twice as fast, 0 means no waiting.
    `ignore` names request fields that may differ, dotted: `options.seed`. With `repeat` a request
    may be made more often than in the log. `redactors` are those of the log's recording. `clock`
    and `sleep` are in seconds.

    A request that is not in the log raises `ReplayMissError`. A failed call fails again in the same
    way; a call that its caller had closed early raises `ReplayEndedError` at that point.

    Raises `SettingsError` for an invalid argument, and `ReplayLogError` if `log` is not a log.
    """

    def __init__(
        self,
        log: Log | CallIndex,
        *,
        speed: float = 1.0,
        ignore: Collection[str] = (),
        repeat: bool = False,
        redactors: Sequence[Redactor] = (),
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        index = CallIndex.load(log, ignore=ignore, repeat=repeat, redactors=redactors)
        super().__init__(index, speed=speed, clock=clock)
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; raises the logged exception, or a `ReplayError`."""
        request.read()
        playback = self._play(request)
        for pause in playback.head():
            self._sleep(pause)
        return _response(playback, _Stream(playback, self._sleep))


class AsyncPlayer(_Played, httpx.AsyncBaseTransport):
    """As `Player`, on asyncio and trio."""

    def __init__(
        self,
        log: Log | CallIndex,
        *,
        speed: float = 1.0,
        ignore: Collection[str] = (),
        repeat: bool = False,
        redactors: Sequence[Redactor] = (),
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        index = CallIndex.load(log, ignore=ignore, repeat=repeat, redactors=redactors)
        super().__init__(index, speed=speed, clock=clock)
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; raises the logged exception, or a `ReplayError`."""
        await request.aread()
        playback = self._play(request)
        for pause in playback.head():
            await self._sleep(pause)
        return _response(playback, _AsyncStream(playback, self._sleep))


class _Stream(httpx.SyncByteStream):
    """The body of a logged response, piece by piece."""

    def __init__(self, playback: Playback, sleep: Callable[[float], object]) -> None:
        self._playback = playback
        self._sleep = sleep

    def __iter__(self) -> Iterator[bytes]:
        for step in self._playback.body():
            if isinstance(step, bytes):
                yield step
            else:
                self._sleep(step)


class _AsyncStream(httpx.AsyncByteStream):
    """The body of a logged response, piece by piece."""

    def __init__(self, playback: Playback, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._playback = playback
        self._sleep = sleep

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._playback.body():
            if isinstance(step, bytes):
                yield step
            else:
                # Also for 0 seconds, so that other tasks run and a cancellation is possible.
                await self._sleep(step)


def _response(playback: Playback, stream: _Stream | _AsyncStream) -> httpx.Response:
    content_type = playback.content_type
    return httpx.Response(
        playback.status or 0,
        headers={"content-type": content_type} if content_type else {},
        stream=stream,
    )
