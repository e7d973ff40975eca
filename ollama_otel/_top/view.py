"""The view at one moment: frozen values. None is unknown, 0 is zero; times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ollama_otel._facts import FACTS
from ollama_otel._wire.model_names import short_name
from ollama_otel.records import CallRecord, CallStart, ErrorType, Outcome, Phase

__all__ = [
    "CallRow",
    "CallState",
    "ModelRow",
    "Rates",
    "SourceRow",
    "Verdict",
    "VerdictKind",
    "View",
    "values_of",
]

CallState = Literal["running"] | Outcome

VerdictKind = Literal[
    "errors_in_a_row",
    "cancels_in_a_row",
    "waiting_for_load",
    "cold_load_thrash",
    "queueing",
    "waiting_for_prefill",
    "cache_lost",
    "same_prompt",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One call, running or ended."""

    id: str
    start: CallStart
    record: CallRecord | None
    started_at: float
    """Since the epoch."""
    elapsed: float
    """Its duration, or its time until now while it runs."""
    server: str | None
    """`host:port`; None if the log no longer holds the call's beginning."""
    prefill_estimate: float | None = None
    """Estimated time for its prompt, without any cached tokens."""
    prefill_eta: float | None = None
    """Estimated time until its prompt is processed; None once that time has passed, as the log
    does not say when the first chunk came.
    """

    @property
    def ended_at(self) -> float:
        """When it ended, or the time of the view while it runs; since the epoch."""
        return self.started_at + self.elapsed

    @property
    def state(self) -> CallState:
        """Whether it runs, or how it ended."""
        return "running" if self.record is None else self.record.outcome

    @property
    def model(self) -> str | None:
        """The requested model, without the default tag."""
        model = self.start.request.model
        return None if model is None else short_name(model)

    @property
    def error_type(self) -> ErrorType | None:
        """The kind of error of a call that failed."""
        return None if self.record is None else self.record.error_type

    @property
    def is_timed(self) -> bool:
        """Whether the server reported the times of its phases."""
        return self.record is not None and self.record.response.total_duration is not None

    @property
    def first(self) -> float | None:
        """Time to the first chunk of a stream that has ended."""
        return None if self.record is None else self.record.time_to_first_chunk

    @property
    def input_tokens(self) -> int | None:
        """Tokens of the prompt."""
        return None if self.record is None else self.record.response.input_tokens

    @property
    def output_tokens(self) -> int | None:
        """Tokens generated."""
        return None if self.record is None else self.record.response.output_tokens

    def phase(self, name: Phase) -> float | None:
        """Return the time of a phase."""
        return None if self.record is None else self.record.phases.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One model of one server."""

    server: str | None
    model: str
    """Its name, without the default tag."""
    is_loaded: bool | None = None
    """Whether it is in memory."""
    is_due: bool | None = None
    """Whether it has expired according to `/api/ps`: a request still uses it, or it is being
    unloaded.
    """
    used_ago: float | None = None
    """Time since the end of its last request that was seen; 0 while one is in flight."""
    memory: int | None = None
    """Bytes in memory."""
    gpu_share: float | None = None
    """Fraction in GPU memory, 0 to 1."""
    context_length: int | None = None
    expires_in: float | None = None
    """Time until the server unloads it."""
    stays: bool = False
    """Whether it stays loaded until a request unloads it."""
    in_flight: int | None = None
    """Calls that have begun and not ended."""
    slots: int | None = None
    """Most calls seen running at the same time: the server has at least as many slots."""
    slots_are_all: bool = False
    """Whether a call waited while that many ran, so the server probably has no more: an
    estimate.
    """
    ended: int | None = None
    """Calls that ended in the window of the rates."""
    loads: int | None = None
    """Loads of the model that were seen in the last five minutes."""
    prefill_rate: float | None = None
    """Estimated tokens of an uncached prompt per second."""
    decode_rate: float | None = None
    """Median of output tokens per second, by the server's clock."""

    @property
    def waiting(self) -> int | None:
        """Estimated calls that wait for a slot; None if the number of slots is unknown."""
        if self.in_flight is None or self.slots is None or not self.slots_are_all:
            return None
        return max(0, self.in_flight - self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of a time window."""

    window: float
    """Length of the window; shorter than a minute if less has been seen."""
    ended: int = 0
    failed: int = 0
    cancelled: int = 0
    """Calls that were cancelled or abandoned."""
    input_tokens: float | None = None
    """Tokens per second."""
    output_tokens: float | None = None
    """Tokens per second."""
    duration: float | None = None
    """Median from a log, mean from a scrape endpoint."""
    first: float | None = None
    """Time to the first chunk of streams: median from a log, mean from a scrape endpoint."""
    waited: int | None = None
    """Calls that waited for a slot, by estimate."""
    wait: float | None = None
    """Their median or mean wait."""

    @property
    def calls_per_second(self) -> float | None:
        """Calls that ended, per second; None for a window of no length."""
        return self.ended / self.window if self.window else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A statement about the present, with the calls that show it."""

    kind: VerdictKind
    sentence: str
    calls: tuple[str, ...] = ()
    """Ids, the latest last."""
    server: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """A source of the view."""

    name: str
    problem: str | None = None
    """Why it could not be read last time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that is known at one moment."""

    at: float
    """Since the epoch."""
    sources: tuple[SourceRow, ...] = ()
    in_flight: int | None = None
    """Calls that have begun and not ended; None if no source says."""
    oldest: float | None = None
    """Age of the oldest of them."""
    unended: int = 0
    """Calls that began over an hour ago and have no end: their process was probably killed."""
    limiter_waiting: int | None = None
    """Calls in the queues of limiters, by the scrape endpoint."""
    loaded: int | None = None
    """Models in memory; None if no source says."""
    memory: int | None = None
    """Bytes of the models whose size is known; None if there are none."""
    rates: Rates | None = None
    models: tuple[ModelRow, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    calls: tuple[CallRow, ...] | None = None
    """Running ones, then those that ended; the newest first. None if no log was read."""

    @property
    def waiting(self) -> int | None:
        """Estimated calls that wait for a slot of a server; None if no model's slots are known."""
        known = [each.waiting for each in self.models if each.waiting is not None]
        return sum(known) if known else None


def values_of(view: View, *, most_calls: int) -> dict[str, Any]:
    """Return a view as JSON values, with at most this many calls."""
    return {
        "at": view.at,
        "sources": [_fields(each) for each in view.sources],
        "in_flight": view.in_flight,
        "oldest": view.oldest,
        "unended": view.unended,
        "waiting_estimate": view.waiting,
        "limiter_waiting": view.limiter_waiting,
        "loaded": view.loaded,
        "memory": view.memory,
        "rates": None
        if view.rates is None
        else _fields(view.rates) | {"calls_per_second": view.rates.calls_per_second},
        "models": [_fields(row) | {"waiting_estimate": row.waiting} for row in view.models],
        "verdicts": [_fields(each) for each in view.verdicts],
        "calls": None
        if view.calls is None
        else [_call_values(row) for row in view.calls[:most_calls]],
    }


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _call_values(row: CallRow) -> Mapping[str, Any]:
    return {
        "id": row.id,
        "state": row.state,
        "started_at": row.started_at,
        "elapsed": row.elapsed,
        "prefill_estimate": row.prefill_estimate,
        "prefill_eta": row.prefill_eta,
        **FACTS.flat(row.start, row.record),
    }
