"""A recorded call for the capacity model, with the times of its phases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, convert

from ollama_otel._wire.durations import read_keep_alive
from ollama_otel._wire.endpoints import ENDPOINTS
from ollama_otel._wire.load_options import load_options
from ollama_otel._wire.model_names import short_name

__all__ = ["COLUMNS", "Observation", "Skips", "observations"]

_EMBEDDING: Final = frozenset(
    endpoint.name for endpoint in ENDPOINTS if endpoint.response == "embedding"
)


class _Row(Struct, frozen=True, kw_only=True):
    """A row of the table `calls`; the names of the fields are its columns."""

    started_at: datetime
    operation: str | None
    model: str | None
    purpose: str | None
    stream: bool | None
    options: str | dict[str, Any] | None
    keep_alive: str | None
    outcome: str | None
    error_type: str | None
    duration: float | None
    delay: float | None
    time_to_first_chunk: float | None
    cold_start: bool | None
    input_tokens: int | None
    output_tokens: int | None
    total_duration: float | None
    load_duration: float | None
    prompt_eval_duration: float | None
    eval_duration: float | None
    model_size: int | None
    reload_cause: str | None
    conversation_id: str | None
    served_by: str | None
    fallback_model: str | None


COLUMNS: Final = _Row.__struct_fields__
"""The columns of the table `calls` that are needed."""


class Observation(Struct, frozen=True, kw_only=True, gc=False):
    """A completed call with the server's timings. All times are seconds.

    The server's clock is unknown; its time is assumed to begin with the request.
    """

    at: float
    """When it was sent, seconds since the epoch."""
    model: str
    duration: float
    first_token: float | None
    """Time to the first chunk of a stream."""
    total: float
    load: float
    prefill: float
    decode: float
    prompt_tokens: int
    output_tokens: int
    is_cold: bool
    is_embedding: bool
    options: str
    """The options that need a reload if they change."""
    keep_alive: float | None
    size: int | None
    was_evicted: bool
    conversation: str | None

    @property
    def rest(self) -> float:
        """Server time without load, prompt and generation: mostly the wait for a slot."""
        return max(0.0, self.total - self.load - self.prefill - self.decode)

    @property
    def client(self) -> float:
        """Time of client and network."""
        return max(0.0, self.duration - self.total)

    @property
    def before_first(self) -> float:
        """The part of `client` until the first chunk; 0 if the answer was not a stream."""
        if self.first_token is None:
            return 0.0
        return min(self.client, max(0.0, self.first_token - (self.total - self.decode)))

    @property
    def ready_at(self) -> float:
        """When an engine was ready for it."""
        return self.at + self.load

    @property
    def prompt_at(self) -> float:
        """When the evaluation of its prompt began."""
        return self.done_at - self.decode - self.prefill

    @property
    def decode_at(self) -> float:
        """When it had its first token."""
        return self.done_at - self.decode

    @property
    def done_at(self) -> float:
        """When the server had finished it."""
        return self.at + self.total


class Skips(Struct, frozen=True, kw_only=True, gc=False):
    """Number of unused calls, by reason."""

    busy: int = 0
    """The server answered 503."""
    not_completed: int = 0
    """They failed, were cancelled or left early; a forecast lacks their load."""
    no_timings: int = 0
    """The server reported no timings, as on `/v1` routes."""


def observations(rows: Iterable[Mapping[str, Any]]) -> tuple[tuple[Observation, ...], Skips]:
    """Read rows of the table `calls`, in the order of their times.

    Raises `msgspec.ValidationError` for a row without one of `COLUMNS`.
    """
    found = []
    busy = not_completed = no_timings = 0
    for row in convert(rows, list[_Row]):
        if row.model is None or row.purpose not in {None, "call"} or row.served_by is not None:
            continue
        if row.error_type == "server_busy":
            busy += 1
        elif row.outcome != "completed" or row.duration is None:
            not_completed += 1
        elif row.total_duration is None:
            no_timings += 1
        else:
            found.append(_observation(row, row.model, row.duration, row.total_duration))
    found.sort(key=lambda each: each.at)
    return tuple(found), Skips(busy=busy, not_completed=not_completed, no_timings=no_timings)


def _observation(row: _Row, model: str, duration: float, total: float) -> Observation:
    delay = row.delay or 0.0
    is_embedding = row.operation in _EMBEDDING
    load, first = row.load_duration or 0.0, row.time_to_first_chunk
    return Observation(
        at=_seconds(row.started_at) + delay,
        model=short_name(row.fallback_model or model),
        duration=duration - delay,
        first_token=None if first is None or not row.stream else first - delay,
        total=total,
        load=load,
        # For embeddings the server does not report the time in the slot.
        prefill=max(0.0, total - load) if is_embedding else row.prompt_eval_duration or 0.0,
        decode=row.eval_duration or 0.0,
        prompt_tokens=row.input_tokens or 0,
        output_tokens=row.output_tokens or 0,
        is_cold=bool(row.cold_start),
        is_embedding=is_embedding,
        options=_reload_options(row.options),
        keep_alive=read_keep_alive(row.keep_alive),
        size=row.model_size,
        was_evicted=row.reload_cause == "evicted",
        conversation=row.conversation_id,
    )


def _seconds(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _reload_options(options: str | Mapping[str, Any] | None) -> str:
    read = json.loads(options) if isinstance(options, str) else options
    return json.dumps(load_options(read or {}), sort_keys=True) if read else ""
