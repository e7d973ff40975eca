"""Sends the requests of a log to a server again, and logs the new calls."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import anyio
import httpx

from ollama_otel._client_instrumentation import instrument_client
from ollama_otel._exchange.observers import CallFollower
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.own_files import open_or_create
from ollama_otel._wire.address import parse_host
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel.context import call_context
from ollama_otel.errors import ReplayError, SettingsError
from ollama_otel.records import CallRecord, CallStart
from ollama_otel.redaction import Redactor
from ollama_otel.replay._diff.pairing import REPLAY_OF
from ollama_otel.replay._one_file_log import one_file_log
from ollama_otel.replay._rerun_plan import RerunPlan
from ollama_otel.replay._substitution import Substitution, without_unsuited
from ollama_otel.settings import Settings

__all__ = ["RerunProgress", "rerun"]

_PROBE_SECONDS: Final = 10.0

Send = Callable[[RecordedCall], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunProgress:
    """The progress of a re-run."""

    total: int
    """Number of calls to send."""
    ended: int = 0
    """Number of calls that have ended."""
    failed: int = 0
    """Number of ended calls that failed."""
    unreachable: int = 0
    """Number of failed calls that reached no server; the next run sends them again."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Number of failed calls by error type, or by outcome if they have none."""
    unsuited: int = 0
    """Number of calls that are not sent because the new model does not support them: embeddings
    with a chat model, and the reverse.
    """


async def rerun(
    plan: RerunPlan,
    *,
    host: str,
    model: str | Mapping[str, str] | None = None,
    concurrency: int | None = None,
    speed: float = 1.0,
    redactors: Sequence[Redactor] = (),
    media: bool = False,
    on_progress: Callable[[RerunProgress], object] = lambda _: None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> RerunProgress:
    """Send the calls of a plan to `host`, and log them into the plan's `out`.

    Each call is tagged with the id of the call that it repeats, and is a real call: spans and
    metrics go to the global providers. Calls start at the logged intervals, divided by `speed`,
    or, with `concurrency`, that many run at a time. `model` replaces the logged models; a mapping
    names new ones by logged ones, and keeps the others. Embeddings are not sent to a new model
    without that capability, nor completions to one that only creates embeddings. `redactors` redact
    the new log. With `media` it holds the images of requests, otherwise their hash, size and type,
    and these calls cannot be sent again from it. A failed call is logged as failed, and does not
    stop the others. `on_progress` is called after all checks, before the first call is sent, and
    after each call.

    Raises `SettingsError` for invalid values, and `ReplayError` if no server responds at `host`
    at the start, it does not have a new model, or `out` cannot be written.
    """
    url = _url(host)
    _check_pace(concurrency, speed)
    substitution = Substitution(model)
    async with httpx.AsyncClient(
        base_url=url,
        transport=transport,
        # As in the official client: models may be slow, and servers may redirect.
        timeout=None,  # noqa: S113
        follow_redirects=True,
        limits=httpx.Limits(max_connections=None),
    ) as client:
        with _explained(url):
            await client.get("/api/version", timeout=_PROBE_SECONDS)
            calls = await without_unsuited(client, plan.calls, substitution, url)
        unsuited = len(plan.calls) - len(calls)
        plan = replace(plan, calls=calls)
        _check_writable(plan.out)
        with one_file_log(plan.out, redactors, media=media) as log:
            tally = _Tally(len(calls), unsuited)
            instrument_client(
                client,
                # The environment may name a replay log, possibly the one that is being read.
                settings=Settings.from_environ(lenient=True).replace(replay_log=None),
                observers=[log, tally],
            )

            async def send(call: RecordedCall) -> None:
                await _send(client, call, substitution.of(call))
                on_progress(tally.progress)

            on_progress(tally.progress)
            if concurrency is None:
                await _send_as_recorded(plan, send, speed)
            else:
                await _send_some_at_a_time(plan.calls, send, concurrency)
    return tally.progress


# --- pace ---------------------------------------------------------------------------------


def _check_pace(concurrency: int | None, speed: float) -> None:
    if concurrency is not None and concurrency < 1:
        raise SettingsError(f"concurrency must be a whole number of at least 1, not {concurrency}")
    if not 0 < speed < math.inf:
        raise SettingsError(f"speed must be a number above 0, not {speed}")


async def _send_as_recorded(plan: RerunPlan, send: Send, speed: float) -> None:
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for call, offset in zip(plan.calls, plan.offsets, strict=True):
            await anyio.sleep_until(began + offset / speed)
            group.start_soon(send, call)


async def _send_some_at_a_time(calls: Sequence[RecordedCall], send: Send, concurrency: int) -> None:
    left = iter(calls)

    async def send_what_is_left() -> None:
        for call in left:
            await send(call)

    async with anyio.create_task_group() as group:
        for _ in calls[:concurrency]:
            group.start_soon(send_what_is_left)


# --- one call -----------------------------------------------------------------------------


async def _send(client: httpx.AsyncClient, call: RecordedCall, model: str | None) -> None:
    start = call.start
    body = call.request_body or {}
    if model is not None:
        body = dialect_of(start.endpoint).with_model(body, model)
    with (
        call_context(conversation_id=start.context.conversation_id, tags={REPLAY_OF: call.id}),
        # The failure is in the log.
        suppress(httpx.HTTPError),
    ):
        await client.request(
            start.endpoint.method,
            start.endpoint.path,
            # Not `json=`, which cannot send half a surrogate pair; a log may hold one.
            content=json.dumps(body),
            headers={"content-type": "application/json"},
        )


class _Tally:
    """An observer that counts how calls end."""

    def __init__(self, total: int, unsuited: int) -> None:
        self.progress = RerunProgress(total=total, unsuited=unsuited)

    def begin(self, start: CallStart) -> CallFollower:  # noqa: ARG002 - an observer's signature
        return _Counted(self)

    def add(self, record: CallRecord) -> None:
        so_far = self.progress
        failures = so_far.failures
        if record.outcome != "completed":
            kind = record.error_type or record.outcome
            failures = {**failures, kind: failures.get(kind, 0) + 1}
        self.progress = replace(
            so_far,
            ended=so_far.ended + 1,
            failed=so_far.failed + (record.outcome != "completed"),
            unreachable=so_far.unreachable + (record.error_type == "connect"),
            failures=failures,
        )


class _Counted(CallFollower):
    __slots__ = ("_tally",)

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally

    def end(self, record: CallRecord) -> None:
        if not record.is_hop:
            self._tally.add(record)


# --- checks -------------------------------------------------------------------------------


def _url(host: str) -> str:
    try:
        return parse_host(host).connectable
    except ValueError as error:
        raise SettingsError(str(error)) from None


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Raise `ReplayError` for a request that gets no response."""
    try:
        yield
    except httpx.TransportError as error:
        raise ReplayError(
            f"expected an Ollama server at {url}, found none that responds "
            f"({type(error).__name__}: {error}): start it, or name another host"
        ) from error


def _check_writable(out: Path) -> None:
    try:
        os.close(open_or_create(out))
    except OSError as error:
        raise ReplayError(f"expected a file that can be written, found: {error}") from error
