"""What a comparison of two logs tells: of each pair of calls, and of all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from ollama_otel._log.call import RecordedCall
from ollama_otel.replay._diff.statistics import percentile, sign_test
from ollama_otel.replay._diff.text import FieldDifference, TextDifference

__all__ = [
    "ASPECTS",
    "MEASURES",
    "Aspect",
    "BeforeAfter",
    "ComparedPair",
    "Comparison",
    "Measure",
    "MeasureSummary",
    "Note",
    "Side",
    "StructureDifference",
]

Aspect = Literal["outcome", "text", "thinking", "structure", "tools", "tokens"]
"""What can change in a call, its times apart: those never are the same twice."""
ASPECTS: Final[tuple[Aspect, ...]] = get_args(Aspect)

Measure = Literal["duration", "time_to_first_chunk", "decode_rate", "input_tokens", "output_tokens"]
"""What is measured of a call: seconds, tokens per second, tokens."""
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)

_SIGNIFICANT: Final = 0.05


class BeforeAfter(NamedTuple):
    """A measure of both calls of a pair; None where it is not known."""

    before: float | None
    after: float | None

    @property
    def is_known(self) -> bool:
        """Whether there is something to compare."""
        return self.before is not None and self.after is not None


Side = Literal["before", "after"]


class Note(NamedTuple):
    """Why a comparison says less than it could."""

    side: Side
    why: Literal["no_body", "redacted", "not_ended", "left_early"]
    """`left_early`: its caller had left, and the other call is compared as far as it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureDifference:
    """How two answers that were to be JSON differ."""

    before_is_json: bool
    after_is_json: bool
    fields: tuple[FieldDifference, ...] = ()
    """Empty where one of them is no JSON."""

    @property
    def is_identical(self) -> bool:
        """Whether both say the same, or both are no JSON: then their texts tell more."""
        return self.before_is_json is self.after_is_json and not self.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPair:
    """One call and the one it is compared with."""

    before: RecordedCall
    after: RecordedCall
    outcome: tuple[FieldDifference, ...]
    """Of `$.outcome`, `$.error_type` and `$.status`."""
    text: TextDifference | None
    """None where the call says no text, or one log has no body of it."""
    thinking: TextDifference | None
    """None as `text`, and where neither thought."""
    structure: StructureDifference | None
    """None as `text`, and where the request has no `format`."""
    tools: tuple[FieldDifference, ...]
    """Of the list of `{"name", "arguments"}`; without bodies of the names alone."""
    measures: Mapping[Measure, BeforeAfter]
    notes: tuple[Note, ...]
    changed: frozenset[Aspect]
    """What changed, as far as it can be told."""

    @property
    def is_by_facts_only(self) -> bool:
        """Whether no text could be compared: nothing was said, or a log has no body of it."""
        return self.text is None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSummary:
    """A measure over all pairs of completed calls that have it before and after."""

    count: int
    """Pairs; without any the rest is None."""
    median_before: float | None = None
    median_after: float | None = None
    p95_before: float | None = None
    p95_after: float | None = None
    median_change: float | None = None
    """Median of the pairs' own changes, 0.2 being a fifth more; those from 0 are left out."""
    p_value: float | None = None
    """Of the two-sided exact sign test, pairs without a change left out."""

    @property
    def is_significant(self) -> bool:
        """Whether so uneven changes come by chance less than once in twenty times."""
        return self.p_value is not None and self.p_value < _SIGNIFICANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two logs compared; calls in the order in which they began."""

    pairs: tuple[ComparedPair, ...]
    only_before: tuple[RecordedCall, ...]
    only_after: tuple[RecordedCall, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs there are of each sort; one can have changed in more than one aspect."""
        changed = Counter(aspect for pair in self.pairs for aspect in pair.changed)
        return {
            "pairs": len(self.pairs),
            "identical": sum(not (pair.changed or pair.is_by_facts_only) for pair in self.pairs),
            **{f"{aspect}_changed": changed[aspect] for aspect in ASPECTS},
            "by_facts_only": sum(pair.is_by_facts_only for pair in self.pairs),
            "only_before": len(self.only_before),
            "only_after": len(self.only_after),
        }

    def summary(self) -> dict[Measure, MeasureSummary]:
        """Put the pairs of completed calls together: what was broken off says little of speed."""
        completed = [
            pair.measures
            for pair in self.pairs
            if _is_completed(pair.before) and _is_completed(pair.after)
        ]
        return {name: _summed_up([each[name] for each in completed]) for name in MEASURES}


def _is_completed(call: RecordedCall) -> bool:
    return call.record is not None and call.record.outcome == "completed"


def _summed_up(values: Iterable[BeforeAfter]) -> MeasureSummary:
    known = [(old, new) for old, new in values if old is not None and new is not None]
    if not known:
        return MeasureSummary(count=0)
    before, after = [old for old, _ in known], [new for _, new in known]
    changes = [new / old - 1 for old, new in known if old]
    return MeasureSummary(
        count=len(known),
        median_before=percentile(before, 0.5),
        median_after=percentile(after, 0.5),
        p95_before=percentile(before, 0.95),
        p95_after=percentile(after, 0.95),
        median_change=percentile(changes, 0.5) if changes else None,
        p_value=sign_test(new - old for old, new in known),
    )
