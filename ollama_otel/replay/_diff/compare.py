"""Compares two logs call by call."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from ollama_otel._facts import FACTS
from ollama_otel._log.call import RecordedCall
from ollama_otel.records import Message, Text, Thinking
from ollama_otel.replay._diff.json import FieldDifference, differing_fields, plain
from ollama_otel.replay._diff.pairing import pair_calls
from ollama_otel.replay._diff.text import TextDifference, differing_text
from ollama_otel.replay._diff.values import (
    MEASURES,
    Aspect,
    BeforeAfter,
    ComparedPair,
    Comparison,
    Measure,
    Note,
    Side,
    StructureDifference,
)
from ollama_otel.replay._ignored import ignored_fields

__all__ = ["compare"]

_RESIDENCY: Final = {
    row.column or row.path: attrgetter(row.path) for row in FACTS.rows if row.source == "residency"
}


def compare(
    before: Iterable[RecordedCall], after: Iterable[RecordedCall], *, ignore: Collection[str] = ()
) -> Comparison:
    """Pair the calls of two logs and compare each pair.

    `ignore` names fields to ignore: of requests when they are paired, such as `options.seed`,
    and of structured answers, such as `$.created`, with all fields below it.

    Raises `SettingsError` if `ignore` is a string.
    """
    names = ignored_fields(ignore)
    pairing = pair_calls(before, after, ignore=[name for name in names if not name.startswith("$")])
    ignored = tuple(name for name in names if name.startswith("$"))
    return Comparison(
        pairs=tuple(_compared(old, new, ignored) for old, new in pairing.pairs),
        only_before=tuple(pairing.only_before),
        only_after=tuple(pairing.only_after),
    )


# --- one pair -----------------------------------------------------------------------------


def _compared(before: RecordedCall, after: RecordedCall, ignored: Sequence[str]) -> ComparedPair:
    old, new = _answer(before), _answer(after)
    left = _left_early(before, after)
    if left is not None and old is not None and new is not None:
        old, new = (old, _shortened(new, old)) if left == "before" else (_shortened(old, new), new)
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
    outcome = () if left else tuple(differing_fields(_outcome(before), _outcome(after)))
    measures = _measures(before, after)
    changes: dict[Aspect, bool] = {
        "outcome": bool(outcome),
        "text": _differs(text),
        "thinking": _differs(thinking),
        "structure": _differs(structure),
        "tools": bool(tools),
        "tokens": _tokens_differ(measures),
    }
    return ComparedPair(
        before=before,
        after=after,
        outcome=outcome,
        text=text,
        thinking=thinking,
        structure=structure,
        tools=tools,
        residency=_residency(before, after),
        measures=measures,
        notes=(
            *([] if left is None else [Note(left, "left_early")]),
            *_notes(before, "before"),
            *_notes(after, "after"),
        ),
        changed=frozenset(aspect for aspect, is_changed in changes.items() if is_changed),
    )


def _differs(difference: TextDifference | StructureDifference | None) -> bool:
    return difference is not None and not difference.is_identical


def _tokens_differ(measures: Mapping[Measure, BeforeAfter]) -> bool:
    tokens = (measures["input_tokens"], measures["output_tokens"])
    return any(each.is_known and each.before != each.after for each in tokens)


def _left_early(before: RecordedCall, after: RecordedCall) -> Side | None:
    """Return which of two streams was closed early by its caller, if the other one completed."""
    outcomes = [call.record.outcome if call.record else None for call in (before, after)]
    match outcomes:
        case ["abandoned" | "cancelled", "completed"]:
            return "before"
        case ["completed", "abandoned" | "cancelled"]:
            return "after"
    return None


def _shortened(whole: Message, begun: Message) -> Message:
    """Return one answer, shortened to the length of the other."""
    return Message(
        role=whole.role,
        parts=(
            Thinking(whole.thinking[: len(begun.thinking)]),
            Text(whole.text[: len(begun.text)]),
            *whole.tool_calls[: len(begun.tool_calls)],
        ),
    )


def _answer(call: RecordedCall) -> Message | None:
    """Return the answer of a completion; None for an error."""
    status = call.record.http_status if call.record else None
    if status is None or status >= 300 or call.start.endpoint.response != "completion":  # noqa: PLR2004 - HTTP's successes are the 200s
        return None
    return call.answer()


def _outcome(call: RecordedCall) -> dict[str, Any]:
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
        return True, plain(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return False, None


def _refuse(constant: str) -> None:
    raise ValueError(f"expected JSON, found {constant}")


def _is_within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


def _calls_of(answer: Message) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": plain(call.arguments)} for call in answer.tool_calls]


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


def _residency(before: RecordedCall, after: RecordedCall) -> tuple[FieldDifference, ...]:
    old, new = _residency_of(before), _residency_of(after)
    return () if old is None or new is None else tuple(differing_fields(old, new))


def _residency_of(call: RecordedCall) -> dict[str, Any] | None:
    """Return the residency of the model, by column; None if it is unknown."""
    if call.record is None:
        return None
    values = {column: get(call.record) for column, get in _RESIDENCY.items()}
    return values if any(value is not None for value in values.values()) else None


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
