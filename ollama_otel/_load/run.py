"""Runs a plan: sends each request at its time as an open loop, and records the calls."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypedDict, Unpack

import httpx

from ollama_otel._exchange.observers import Observer
from ollama_otel._load.calls import Call, instrumented, prepared, send, warm_up
from ollama_otel._load.collector import short_pauses
from ollama_otel._load.connections import Connections
from ollama_otel._load.pacer import wait_until
from ollama_otel._load.progress import LoadProgress, Tally
from ollama_otel._load.request import TimedRequest, check_plan
from ollama_otel._load.result import LoadResult, RequestResult, StopReason
from ollama_otel._load.saturation import SaturationDetector
from ollama_otel._wire.address import parse_host
from ollama_otel.errors import SettingsError
from ollama_otel.records import CallRecord

__all__ = ["LoadOptions", "StopSwitch", "arun_load", "run_load"]

_TICK: Final = 0.25
"""Interval, in seconds, at which the run is checked."""
_LEAD: Final = 0.05
"""Seconds from the preparation to the start of the schedule."""


class StopSwitch:
    """Stops a run from outside, for example from a signal handler or another thread."""

    def __init__(self) -> None:
        self._is_on = False
        self._on_stop: Callable[[], object] | None = None

    @property
    def is_on(self) -> bool:
        """Whether it has been used."""
        return self._is_on

    def stop(self) -> None:
        """Stop the run: open requests are cancelled, and the result covers the requests so far."""
        self._is_on = True
        if (tell := self._on_stop) is not None:
            with suppress(RuntimeError):  # the loop of the run has been closed meanwhile
                tell()

    def tell(self, on_stop: Callable[[], object]) -> None:
        """Call `on_stop` when the switch is used; replaces an earlier function."""
        self._on_stop = on_stop


class LoadOptions(TypedDict, total=False):
    """The keywords of a run besides its plan and host; `arun_load` has their meaning."""

    warms_up: bool
    stops_at_saturation: bool
    max_error_rate: float
    drain: float
    observers: Sequence[Observer]
    switch: StopSwitch | None
    on_progress: Callable[[LoadProgress], object] | None
    transport: httpx.AsyncBaseTransport | None
    clock: Callable[[], float]


def run_load(
    plan: Sequence[TimedRequest], *, host: str, **options: Unpack[LoadOptions]
) -> LoadResult:
    """Run `arun_load` in a new event loop."""
    return asyncio.run(arun_load(plan, host=host, **options))


async def arun_load(
    plan: Sequence[TimedRequest], *, host: str, **options: Unpack[LoadOptions]
) -> LoadResult:
    """Send each request of a plan at its time, whether or not earlier ones have ended.

    Requests go to `host` only: redirects are not followed, and no proxy is used. Nothing is
    exported; `observers` follow the calls too. Keywords:

    - `warms_up` (true): the first request to each model is sent once before the start.
    - `stops_at_saturation` (true): the run stops when the server does not keep up.
    - `max_error_rate` (0.1): it stops when a larger fraction of the latest 200 requests failed.
    - `drain` (60): seconds from sending the last request until open requests are cancelled.
    - `switch`: stops it from outside.
    - `on_progress`: called about four times a second, in the event loop; it has to be fast.
    - `transport`, `clock`: used by the client, for tests; the clock counts seconds.

    Raises `SettingsError` for an invalid plan or value, and `LoadError` if the warm-up fails, for
    example without a server or for a missing model.
    """
    check_plan(plan)
    clock = options.get("clock") or time.perf_counter
    url = _url(host)
    async with httpx.AsyncClient(
        base_url=url,
        transport=options.get("transport") or Connections(),
        timeout=None,  # noqa: S113 - models may be slow; what is too slow is cancelled at the end
    ) as client:
        instrumented(client, options.get("observers", ()), clock)
        run = _Run(client, plan, clock, options)
        warm = await run.warmed_up(url) if options.get("warms_up", True) else ()
        with short_pauses():
            return await run.result(warm)


def _url(host: str) -> str:
    try:
        return parse_host(host).connectable
    except ValueError as error:
        raise SettingsError(str(error)) from None


class _Run:
    """The state of one run, in one event loop."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        plan: Sequence[TimedRequest],
        clock: Callable[[], float],
        options: LoadOptions,
    ) -> None:
        self._client = client
        self._plan = plan
        self._clock = clock
        self._drain = options.get("drain", 60.0)
        self._max_error_rate = options.get("max_error_rate", 0.1)
        _check_limits(self._drain, self._max_error_rate)
        self._stops_at_saturation = options.get("stops_at_saturation", True)
        self._switch = options.get("switch") or StopSwitch()
        self._on_progress = options.get("on_progress")
        self._calls = [prepared(client, request) for request in plan]
        self._following: defaultdict[int, list[int]] = defaultdict(list)
        for position, request in enumerate(plan):
            if request.after is not None:
                self._following[request.after].append(position)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        """Tasks that wait for their time."""
        self._changed = asyncio.Event()
        self._detector = SaturationDetector()
        self._tally = Tally(len(plan))
        self._results: list[RequestResult] = []
        self._start = 0.0
        self._fault: BaseException | None = None

    async def warmed_up(self, url: str) -> tuple[CallRecord, ...]:
        """Send the first request to each model; the switch can interrupt a long load."""
        warming = asyncio.create_task(warm_up(self._client, self._plan, url))
        loop = asyncio.get_running_loop()
        self._switch.tell(lambda: loop.call_soon_threadsafe(warming.cancel))
        try:
            await asyncio.wait([warming])
        finally:
            warming.cancel()
        return () if warming.cancelled() else warming.result()

    async def result(self, warm: tuple[CallRecord, ...]) -> LoadResult:
        """Send all requests, wait for their ends or a reason to stop, and return the result."""
        loop = asyncio.get_running_loop()
        self._switch.tell(lambda: loop.call_soon_threadsafe(self._changed.set))
        started_at = time.time_ns()
        self._start = self._clock() + _LEAD
        if not self._switch.is_on:
            self._begin(self._dispatch())
        try:
            stop, detail = await self._until_stop()
        finally:
            await self._cancel()
        if self._fault is not None:
            raise self._fault
        results = sorted(self._results, key=lambda each: (each.intended_at, each.position))
        return LoadResult(
            requests=tuple(results),
            planned=len(self._plan),
            started_at=started_at,
            duration=max((each.ended_at for each in results), default=0.0),
            stop=stop,
            stop_detail=detail,
            warm_up=warm,
            most_in_flight=self._tally.most_in_flight,
        )

    # --- sending --------------------------------------------------------------------------

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = self._fault or fault
            self._changed.set()
        if not self._tasks:
            self._changed.set()

    async def _dispatch(self) -> None:
        independent = sorted(
            (request.offset, position)
            for position, request in enumerate(self._plan)
            if request.after is None
        )
        for offset, position in independent:
            await self._wait(self._start + offset)
            self._begin(self._send(position, self._start + offset))

    async def _follow(self, position: int, intended: float) -> None:
        await self._wait(intended)
        await self._send(position, intended)

    async def _wait(self, moment: float) -> None:
        self._waiting += 1
        try:
            await wait_until(moment, self._clock)
        finally:
            self._waiting -= 1

    async def _send(self, position: int, intended: float) -> None:
        call = self._calls[position]
        self._tally.sent(intended - self._start, self._now())
        self._detector.sent(self._now(), self._tally.in_flight)

        def on_first() -> None:
            waited = self._clock() - intended
            if call.is_streamed:
                self._tally.answered(waited)
            # For an answer in one piece this is its end, which shows a growing queue as well.
            self._detector.answered(self._now(), waited)

        try:
            await send(self._client, call, on_first)
        finally:
            self._ended(position, intended, call)

    def _ended(self, position: int, intended: float, call: Call) -> None:
        self._tally.ended()
        record = call.record
        if record is None:
            return
        sent = record.sent_at - self._start
        result = RequestResult(
            position=position,
            intended_at=intended - self._start,
            sent_at=sent,
            ended_at=sent + record.duration,
            record=record,
        )
        self._results.append(result)
        if result.outcome == "cancelled":
            return
        self._tally.judged(is_failed=result.outcome == "failed")
        self._detector.ended(result.ended_at)
        for following in self._following[position]:
            moment = self._start + result.ended_at + self._plan[following].offset
            self._begin(self._follow(following, moment))

    # --- stopping -------------------------------------------------------------------------

    async def _until_stop(self) -> tuple[StopReason, str | None]:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _TICK)
            if self._on_progress is not None:
                self._on_progress(self._tally.progress(self._now()))
            if found := self._reason_to_stop():
                return found

    def _reason_to_stop(self) -> tuple[StopReason, str | None] | None:
        if self._fault is not None:
            return "errors", None
        if self._switch.is_on:
            return "interrupted", None
        if not self._tasks:
            return "finished", None
        now = self._now()
        if (rate := self._tally.error_rate) is not None and rate > self._max_error_rate:
            return "errors", (
                f"{rate:.0%} of the latest requests failed, and at most "
                f"{self._max_error_rate:.0%} are allowed"
            )
        if self._stops_at_saturation and (found := self._detector.find(now)):
            return "saturated", str(found)
        if not self._waiting and now > self._tally.last_sent + self._drain:
            return "drained", (
                f"{self._tally.in_flight} requests had not ended {self._drain:g} s after the last "
                "one was sent"
            )
        return None

    async def _cancel(self) -> None:
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _now(self) -> float:
        return self._clock() - self._start


def _check_limits(drain: float, max_error_rate: float) -> None:
    if not 0 <= drain < math.inf:
        raise SettingsError(f"expected drain to be at least 0 seconds, found {drain}")
    if not 0 <= max_error_rate <= 1:
        raise SettingsError(f"expected max_error_rate to be from 0 to 1, found {max_error_rate}")
