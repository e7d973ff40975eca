"""The result of a comparison of two logs: for each pair of calls, and in total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from ollama_otel._log.call import RecordedCall
from ollama_otel.replay._diff.json import FieldDifference
from ollama_otel.replay._diff.statistics import percentile, sign_test
from ollama_otel.replay._diff.text import TextDifference

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
"""Aspects of a call that can change; times are not included, as they always differ."""
ASPECTS: Final[tuple[Aspect, ...]] = get_args(Aspect)

Measure = Literal["duration", "time_to_first_chunk", "decode_rate", "input_tokens", "output_tokens"]
"""Measures of a call, in seconds, tokens per second or tokens."""
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)

_SIGNIFICANT: Final = 0.05


class BeforeAfter(NamedTuple):
    """A measure of both calls of a pair; None is unknown."""

    before: float | None
    after: float | None

    @property
    def is_known(self) -> bool:
        """Whether both are known."""
        return self.before is not None and self.after is not None


Side = Literal["before", "after"]
"""One of the two logs of a comparison: the first or the second."""


class Note(NamedTuple):
    """The reason why a comparison is incomplete."""

    side: Side
    why: Literal["no_body", "redacted", "not_ended", "left_early"]
    """`left_early`: its caller closed the stream early; the answers are compared up to there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureDifference:
    """The difference between two answers that were requested as JSON."""

    before_is_json: bool
    after_is_json: bool
    fields: tuple[FieldDifference, ...] = ()
    """Empty if one of them is not JSON."""

    @property
    def is_identical(self) -> bool:
        """Whether both are equal, or neither is JSON: then compare their texts."""
        return self.before_is_json is self.after_is_json and not self.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPair:
    """One call and the call that it is compared with."""

    before: RecordedCall
    after: RecordedCall
    outcome: tuple[FieldDifference, ...]
    """Differences of `$.outcome`, `$.error_type` and `$.status`."""
    text: TextDifference | None
    """None if the call is not a completion, or one log lacks its body."""
    thinking: TextDifference | None
    """None as `text`, and if neither has thinking."""
    structure: StructureDifference | None
    """None as `text`, and if the request does not ask for JSON."""
    tools: tuple[FieldDifference, ...]
    """Differences of the list of `{"name", "arguments"}`; without bodies, of the names only."""
    residency: tuple[FieldDifference, ...]
    """Differences of residency, by column: `$.gpu_share`; empty if either log lacks it.

    They explain a change and are not a change of the answer, so they are not an aspect.
    """
    measures: Mapping[Measure, BeforeAfter]
    notes: tuple[Note, ...]
    changed: frozenset[Aspect]
    """The aspects that changed, as far as known."""

    @property
    def is_by_facts_only(self) -> bool:
        """Whether no text could be compared: see `text`."""
        return self.text is None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSummary:
    """A measure over all pairs of completed calls that both have it."""

    count: int
    """Number of pairs; if it is 0, the other fields are None."""
    median_before: float | None = None
    """In the unit of the measure, as the next three."""
    median_after: float | None = None
    p95_before: float | None = None
    p95_after: float | None = None
    median_change: float | None = None
    """Median of the relative changes of the pairs, such as 0.2; changes from 0 are left out."""
    p_value: float | None = None
    """p-value of the two-sided exact sign test, without the pairs that did not change."""

    @property
    def is_significant(self) -> bool:
        """Whether the p-value is below 0.05."""
        return self.p_value is not None and self.p_value < _SIGNIFICANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of two logs; calls in the order of their starts."""

    pairs: tuple[ComparedPair, ...]
    only_before: tuple[RecordedCall, ...]
    only_after: tuple[RecordedCall, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The number of pairs of each kind; a pair can change in several aspects."""
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
        """Summarise the measures over the pairs of completed calls."""
        completed = [
            pair.measures
            for pair in self.pairs
            if _is_completed(pair.before) and _is_completed(pair.after)
        ]
        return {name: _summary([each[name] for each in completed]) for name in MEASURES}


def _is_completed(call: RecordedCall) -> bool:
    return call.record is not None and call.record.outcome == "completed"


def _summary(values: Iterable[BeforeAfter]) -> MeasureSummary:
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
