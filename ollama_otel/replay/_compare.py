"""Compares two logs call by call: what changed in each, and what in all of them together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, get_args

from ollama_otel._answer import AnswerText
from ollama_otel._replay_log.call import RecordedCall
from ollama_otel.replay._difference import (
    FieldDifference,
    TextDifference,
    differing_fields,
    differing_text,
    without_depths,
)
from ollama_otel.replay._pairing import pair_calls
from ollama_otel.replay._statistics import percentile, sign_test

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
    "StructureDifference",
    "compare",
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

    @property
    def changed(self) -> frozenset[Aspect]:
        """What changed, as far as it can be told."""
        tokens = (self.measures["input_tokens"], self.measures["output_tokens"])
        found: dict[Aspect, bool] = {
            "outcome": bool(self.outcome),
            "text": self.text is not None and not self.text.is_identical,
            "thinking": self.thinking is not None and not self.thinking.is_identical,
            "structure": self.structure is not None and not self.structure.is_identical,
            "tools": bool(self.tools),
            "tokens": any(each.is_known and each.before != each.after for each in tokens),
        }
        return frozenset(aspect for aspect, is_changed in found.items() if is_changed)

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


def compare(
    before: Iterable[RecordedCall], after: Iterable[RecordedCall], *, ignore: Collection[str] = ()
) -> Comparison:
    """Pair the calls of two logs and compare each pair.

    `ignore` names fields that make no difference: of requests when they are paired, such
    as `options.seed`, and of structured answers, such as `$.created`, with all that is below.
    """
    pairing = pair_calls(
        before, after, ignore=[name for name in ignore if not name.startswith("$")]
    )
    ignored = tuple(name for name in ignore if name.startswith("$"))
    return Comparison(
        pairs=tuple(_compared(old, new, ignored) for old, new in pairing.pairs),
        only_before=tuple(pairing.only_before),
        only_after=tuple(pairing.only_after),
    )


# --- one pair -----------------------------------------------------------------------------


def _compared(before: RecordedCall, after: RecordedCall, ignored: Sequence[str]) -> ComparedPair:
    old, new = _said(before), _said(after)
    left = _left_early(before, after)
    if left is not None and old is not None and new is not None:
        old, new = (old, _as_far_as(new, old)) if left == "before" else (_as_far_as(old, new), new)
    text = thinking = structure = None
    if old is not None and new is not None:
        text = differing_text(old.text, new.text)
        if old.thinking or new.thinking:
            thinking = differing_text(old.thinking, new.thinking)
        if before.start.request.asks_for_json and left is None:
            structure = _structure(old.text, new.text, ignored)
        tools = _tools(_calls_of(old), _calls_of(new))
    else:
        tools = _tools(_names_of(before), _names_of(after))
    return ComparedPair(
        before=before,
        after=after,
        outcome=()
        if left is not None
        else tuple(differing_fields(_ending(before), _ending(after))),
        text=text,
        thinking=thinking,
        structure=structure,
        tools=tools,
        measures=_measures(before, after),
        notes=(
            *([] if left is None else [Note(left, "left_early")]),
            *_notes(before, "before"),
            *_notes(after, "after"),
        ),
    )


def _left_early(before: RecordedCall, after: RecordedCall) -> Side | None:
    """Return which of the two its caller left before the end that the other one came to."""
    outcomes = [call.record.outcome if call.record else None for call in (before, after)]
    match outcomes:
        case ["abandoned" | "cancelled", "completed"]:
            return "before"
        case ["completed", "abandoned" | "cancelled"]:
            return "after"
    return None


def _as_far_as(whole: AnswerText, begun: AnswerText) -> AnswerText:
    """Return what was said of one answer when the other was left."""
    return replace(
        whole,
        text=whole.text[: len(begun.text)],
        thinking=whole.thinking[: len(begun.thinking)],
        tool_calls=whole.tool_calls[: len(begun.tool_calls)],
    )


def _said(call: RecordedCall) -> AnswerText | None:
    """Return what a completion said; a refusal says nothing."""
    status = call.record.http_status if call.record else None
    if status is None or status >= 300 or call.start.endpoint.answer != "completion":  # noqa: PLR2004 - HTTP's successes are the 200s
        return None
    return call.answer()


def _is_completed(call: RecordedCall) -> bool:
    return call.record is not None and call.record.outcome == "completed"


def _ending(call: RecordedCall) -> dict[str, Any]:
    record = call.record
    if record is None:
        return {"outcome": "not ended", "error_type": None, "status": None}
    return {
        "outcome": record.outcome,
        "error_type": record.error_type,
        "status": record.http_status,
    }


def _notes(call: RecordedCall, side: Side) -> Iterable[Note]:
    if call.record is None:
        yield Note(side, "not_ended")
    elif call.chunks is None:
        yield Note(side, "no_body")
    if "redacted" in call.changes:
        yield Note(side, "redacted")


def _structure(before: str, after: str, ignored: Sequence[str]) -> StructureDifference:
    (before_is_json, old), (after_is_json, new) = _parsed(before), _parsed(after)
    fields = differing_fields(old, new) if before_is_json and after_is_json else ()
    return StructureDifference(
        before_is_json=before_is_json,
        after_is_json=after_is_json,
        fields=tuple(field for field in fields if not _is_within(field.path, ignored)),
    )


def _parsed(text: str) -> tuple[bool, Any]:
    try:
        return True, without_depths(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return False, None


def _refuse(constant: str) -> None:
    raise ValueError(f"expected JSON, found {constant}")


def _is_within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


def _calls_of(said: AnswerText) -> list[dict[str, Any]]:
    functions = [call.get("function") or {} for call in said.tool_calls]
    return [
        {"name": each.get("name"), "arguments": without_depths(each.get("arguments"))}
        for each in functions
    ]


def _names_of(call: RecordedCall) -> list[dict[str, Any]]:
    names = call.record.response.tool_calls if call.record else ()
    return [{"name": name} for name in names]


def _tools(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[FieldDifference, ...]:
    old, new = ([json.dumps(call, sort_keys=True) for call in side] for side in (before, after))
    if old != new and sorted(old) == sorted(new):
        names = [[call["name"] for call in side] for side in (before, after)]
        return (FieldDifference(path="$", kind="reordered", before=names[0], after=names[1]),)
    return tuple(differing_fields(before, after))


def _measures(before: RecordedCall, after: RecordedCall) -> dict[Measure, BeforeAfter]:
    old, new = _measured(before), _measured(after)
    return {name: BeforeAfter(old.get(name), new.get(name)) for name in MEASURES}


def _measured(call: RecordedCall) -> dict[Measure, float | None]:
    record = call.record
    if record is None:
        return {}
    return {
        "duration": record.duration,
        "time_to_first_chunk": record.time_to_first_chunk,
        "decode_rate": record.decode_rate,
        "input_tokens": record.response.input_tokens,
        "output_tokens": record.response.output_tokens,
    }


# --- all pairs ----------------------------------------------------------------------------


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
