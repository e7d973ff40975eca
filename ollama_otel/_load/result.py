"""The result of one run: every request, and derived figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Literal

from ollama_otel._load.quantiles import Quantiles, quantiles_of
from ollama_otel._load.verdict import Pace, pace_of
from ollama_otel.records import CallRecord, ErrorType, Outcome, Phase

__all__ = ["LoadResult", "RequestResult", "StopReason"]

StopReason = Literal["finished", "saturated", "errors", "drained", "interrupted"]
"""Why a run ended.

`finished`: every request was sent and has ended. `saturated`: the server did not keep up.
`errors`: too many requests failed. `drained`: the last requests had not ended in the allowed time.
`interrupted`: the run was stopped.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """The result of one request. Times are seconds from the start of the run."""

    position: int
    """Its position in the plan."""
    intended_at: float
    """The intended time."""
    sent_at: float
    """When it was sent."""
    ended_at: float
    """When its answer was complete, or it failed or was cancelled."""
    record: CallRecord
    """The call as this library records it, with the server's own timings."""

    @property
    def schedule_delay(self) -> float:
        """Seconds from the intended time until it was sent."""
        return self.sent_at - self.intended_at

    @property
    def latency(self) -> float:
        """Seconds from the intended time to the end."""
        return self.ended_at - self.intended_at

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the intended time to the first part of a stream; None if none came.

        Thinking counts, as the model generates it first.
        """
        first = self.record.time_to_first_chunk
        return None if first is None else self.schedule_delay + first

    @property
    def time_to_first_answer(self) -> float | None:
        """Seconds from the intended time to the first text or tool call, thinking not counted."""
        first = self.record.time_to_first_answer
        return None if first is None else self.schedule_delay + first

    @property
    def outcome(self) -> Outcome:
        """The outcome. A redirect is a failure, as a run sends to the named server only."""
        return "failed" if self.record.is_hop else self.record.outcome

    @property
    def error_type(self) -> ErrorType | None:
        """The kind of failure; None unless it failed."""
        return "_OTHER" if self.record.is_hop else self.record.error_type


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """The result of one run. Properties are computed once."""

    requests: tuple[RequestResult, ...]
    """The requests that were sent, in the order of their intended times."""
    planned: int
    """Number of requests of the plan."""
    started_at: int
    """Nanoseconds since the epoch, by the wall clock."""
    duration: float
    """Seconds from the start to the last end."""
    stop: StopReason
    """Why the run ended."""
    stop_detail: str | None = None
    """The evidence, as a sentence; None for a run that finished or was interrupted."""
    warm_up: tuple[CallRecord, ...] = ()
    """The calls before the start, which load the models; not included in other numbers."""
    most_in_flight: int = 0
    """The largest number of requests that were open at the same time."""

    @cached_property
    def completed(self) -> tuple[RequestResult, ...]:
        """The requests with a whole answer."""
        return tuple(each for each in self.requests if each.outcome == "completed")

    @cached_property
    def outcomes(self) -> Mapping[Outcome, int]:
        """Number of requests by outcome; `cancelled` are those that had not ended in time."""
        return Counter(each.outcome for each in self.requests)

    @cached_property
    def errors(self) -> Mapping[ErrorType, int]:
        """Number of failed requests by kind."""
        return Counter(each.error_type for each in self.requests if each.error_type is not None)

    @property
    def failed(self) -> int:
        """Number of requests that failed."""
        return self.outcomes.get("failed", 0)

    @property
    def unfinished(self) -> int:
        """Number of requests that were sent and cancelled at the end of the run.

        If there are any, the percentiles are too low: these requests would have taken longer.
        """
        return self.outcomes.get("cancelled", 0)

    @property
    def error_rate(self) -> float | None:
        """Fraction of the ended requests that failed; None if none has ended."""
        ended = len(self.requests) - self.unfinished
        return self.failed / ended if ended else None

    @cached_property
    def pace(self) -> Pace:
        """How precisely the requests were sent; check its verdict first."""
        return pace_of(
            [each.intended_at for each in self.requests], [each.sent_at for each in self.requests]
        )

    @cached_property
    def latency(self) -> Quantiles | None:
        """Seconds from the intended time to the end, of completed requests."""
        return quantiles_of(each.latency for each in self.completed)

    @cached_property
    def time_to_first_token(self) -> Quantiles | None:
        """Seconds from the intended time to the first token, of completed streams."""
        return _known(each.time_to_first_token for each in self.completed)

    @cached_property
    def time_to_first_answer(self) -> Quantiles | None:
        """Seconds from the intended time to the first text or tool call, of completed streams."""
        return _known(each.time_to_first_answer for each in self.completed)

    @cached_property
    def decode_rate(self) -> Quantiles | None:
        """Output tokens per second of each completed request, by the server's clock."""
        return _known(each.record.decode_rate for each in self.completed)

    @cached_property
    def throughput(self) -> float | None:
        """Completed requests per second, from the start of the run to the last end."""
        return self._per_second(len(self.completed))

    @cached_property
    def output_token_rate(self) -> float | None:
        """Tokens that all completed requests generated, per second; None if unknown."""
        counts = [each.record.response.output_tokens for each in self.completed]
        return self._per_second(sum(count for count in counts if count)) if any(counts) else None

    @cached_property
    def phases(self) -> Mapping[Phase, float]:
        """Mean seconds of each phase of the completed requests that have it."""
        found: dict[Phase, list[float]] = {}
        for each in self.completed:
            for phase, seconds in each.record.phases.items():
                found.setdefault(phase, []).append(seconds)
        return {phase: fmean(values) for phase, values in found.items()}

    def _per_second(self, number: float) -> float | None:
        return number / self.duration if self.duration > 0 else None


def _known(values: Iterable[float | None]) -> Quantiles | None:
    return quantiles_of(value for value in values if value is not None)
