"""Runs tools on threads, for both shells, and async functions for the sync one.

The threads are daemons, unlike those of anyio and `concurrent.futures`: a thread cannot be stopped,
and a tool that hangs must not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from ollama_otel._agent.job import ToolJob

__all__ = ["run_async", "run_on_thread", "run_on_threads"]

_T = TypeVar("_T")
_NAME: Final = "ollama_otel tool"


class _Running:
    """A tool call on its thread."""

    __slots__ = ("error", "job", "until")

    def __init__(self, job: ToolJob) -> None:
        self.job = job
        self.until = None if job.timeout is None else time.monotonic() + job.timeout
        self.error: BaseException | None = None


def run_on_threads(jobs: Sequence[ToolJob], call: Callable[[ToolJob], None], most: int) -> None:
    """Call `call` with each job, at most `most` at once, until each has returned or timed out.

    A call that times out continues in the background, as a thread cannot be stopped; its thread
    does not keep the process alive. Raises exceptions that stop the program, as soon as a call
    raises one.
    """
    waiting = deque(jobs)
    running: set[_Running] = set()
    ended: SimpleQueue[_Running] = SimpleQueue()
    while waiting or running:
        while waiting and len(running) < most:
            running.add(_started(waiting.popleft(), call, ended))
        try:
            done = ended.get(timeout=_patience(running))
        except Empty:
            late = {each for each in running if each.until and each.until <= time.monotonic()}
            for each in late:
                each.job.time_out()
            running -= late
            continue
        running.discard(done)
        if done.error is not None:
            raise done.error


def _patience(running: set[_Running]) -> float | None:
    """Return the seconds until the first call times out; None without a time limit."""
    ends = [each.until for each in running if each.until is not None]
    return max(0.0, min(ends) - time.monotonic()) if ends else None


def _started(
    job: ToolJob, call: Callable[[ToolJob], None], ended: SimpleQueue[_Running]
) -> _Running:
    running = _Running(job)

    def work() -> None:
        try:
            call(job)
        except BaseException as error:  # noqa: BLE001 - the thread of the run raises it
            running.error = error
        ended.put(running)

    _start(work)
    return running


def _start(work: Callable[[], None]) -> None:
    # In a copy of this context: the span of the run, and the caller's own variables.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name=_NAME, daemon=True).start()


async def run_on_thread(call: Callable[[], _T], portal: BlockingPortal) -> _T:
    """Run `call` on a thread; return its result or raise its exception.

    If this task is cancelled, the call continues in the background.
    """
    ended = anyio.Event()
    results: list[_T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - the task raises it
            errors.append(error)
        # The waiting task is gone if the portal or its loop is closed.
        with suppress(RuntimeError):
            portal.start_task_soon(ended.set)

    _start(work)
    await ended.wait()
    for error in errors:
        raise error
    return results[0]


def run_async(value: Awaitable[Any]) -> Any:
    """Await the coroutine of an async tool in a new event loop, and return its result.

    A thread with a running event loop, such as that of a notebook, cannot run a second one.
    """
    coroutine = _awaited(value)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, thread_name_prefix=_NAME) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
