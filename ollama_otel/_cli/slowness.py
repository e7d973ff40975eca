"""Explains in a few words why a call was slow, from its record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Final

from ollama_otel._cli.call_tree import Phase, phases_of
from ollama_otel._cli.model_memory import reload_reason
from ollama_otel._cli.units import seconds
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.model_names import short_name
from ollama_otel.records import CallRecord

__all__ = ["SLOW", "UsualRates", "is_slow", "why"]

SLOW: Final = 2.0
"""Default duration, in seconds, from which a call is slow."""
_ENOUGH: Final = 4
"""Calls that a usual rate needs, including the call in question."""
_WORDS: Final[dict[Phase, str]] = {
    "resilience": "limiter or retries",
    "load": "load",
    "queue_estimate": "queue, estimated",
    "prompt_eval": "prompt",
    "eval": "decode",
    "unaccounted": "rest in server",
    "client": "client or network",
    "to_first_chunk": "first chunk",
    "stream": "stream",
}


def is_slow(record: CallRecord | None, limit: float) -> bool:
    """Whether a call took `limit` seconds or more; a call that never ended has no duration."""
    return record is not None and record.duration >= limit


def why(record: CallRecord, *, limit: float = SLOW) -> str:
    """Return the longest phase of a slow call with its cause; "" if nothing is known.

    For a failed call, return its error instead. A reload is explained even if the call was not
    slow.
    """
    reason = reload_reason(record.residency)
    is_explained = record.outcome != "failed" and is_slow(record, limit)
    phases = phases_of(record) if is_explained else {}
    longest = max(phases, key=phases.__getitem__, default=None)
    if longest == "load":
        cold = "cold load" if record.cold_start else "load"
        return f"{cold} {seconds(phases[longest])}" + (f": {reason}" if reason else "")
    causes = [f"cold: {reason}"] if reason else []
    if longest is not None:
        cause = _cause(longest, record)
        causes.insert(0, f"{_WORDS[longest]} {seconds(phases[longest])}{cause}")
    return "; ".join(causes)


def _cause(phase: Phase, record: CallRecord) -> str:
    response, rate = record.response, record.decode_rate
    cpu = ", on the CPU" if record.residency.is_on_cpu else ""
    if phase == "prompt_eval":
        tokens = response.input_tokens
        return ("" if tokens is None else f", {tokens} tokens") + cpu
    if phase == "eval":
        return ("" if rate is None else f", {response.output_tokens} tokens at {rate:.0f}/s") + cpu
    return ""


class UsualRates:
    """The usual decode rate of each model on each server, from a log."""

    def __init__(self) -> None:
        self._rates: defaultdict[tuple[str, str | None, int | None], list[float]]
        self._rates = defaultdict(list)

    def of(self, calls: Iterable[RecordedCall]) -> Iterator[RecordedCall]:
        """Yield calls, and take the rate of each."""
        for call in calls:
            if call.record is not None and (rate := call.record.decode_rate) is not None:
                self._rates[_model_of(call)].append(rate)
            yield call

    def usual(self, call: RecordedCall) -> float | None:
        """Return the median rate of the calls of the same model and server; None with few calls."""
        rates = self._rates[_model_of(call)]
        return median(rates) if len(rates) >= _ENOUGH else None


def _model_of(call: RecordedCall) -> tuple[str, str | None, int | None]:
    start = call.start
    return (short_name(start.request.model or ""), start.server_address, start.server_port)
