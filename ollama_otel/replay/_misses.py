"""The message for a request that no logged call answers: the nearest request and differences."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from heapq import nsmallest
from itertools import takewhile
from typing import Any, NamedTuple

from ollama_otel._log.call import RecordedCall
from ollama_otel._wire import media
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel.records import CallRecord
from ollama_otel.redaction import is_secret_key
from ollama_otel.replay._canonical import CanonicalRequest
from ollama_otel.replay._diff.json import FieldDifference, differing_fields

__all__ = ["Candidate", "exhausted", "obstacle_to", "unknown"]

_SHOWN = 60
"""Characters shown of a value."""
_BEFORE = 20
"""Characters shown before the first difference."""
_LISTED = 8
"""Differences listed of one request."""
_COMPARED = 200
"""Logged requests that a missed request is compared with."""
_MARK = re.compile(r"\[redacted: ([^\[\]]+)\]")
_BUILT_IN_KINDS = frozenset(
    {"private_key", "authorization", "password", "cookie", "bearer_token", "api_key", "secret"}
    | {"email", "iban", "card_number"}
)

_REASONS = {
    "queue_full": "its body was dropped, as the log's queue was full",
    "too_long": "its body was longer than the log's limit",
    "encoding": "its body had an encoding that the log cannot decode",
    "dialect": "the text fields of its body are unknown, so it could not be redacted",
}


class Candidate(NamedTuple):
    """A logged call and its request."""

    request: CanonicalRequest
    call: RecordedCall
    obstacle: str | None
    """Why it cannot be played; None if it can."""


def obstacle_to(call: RecordedCall) -> str | None:
    """Return why a call cannot be played; None if it can."""
    record = call.record
    if record is None:
        return "has no end in the log: its process was killed, or still runs"
    if (hop := _hop(record)) is not None:
        return hop
    if call.missing is not None:
        return f"cannot be played: {_REASONS.get(call.missing, call.missing)}"
    if _has_lost_a_body(call):
        return "was recorded without bodies; record with replay_bodies=True"
    if call.chunks is None:
        return None
    if "vectors" in call.changes:
        return "cannot be played, as its vectors were not kept; record with replay_media=True"
    if "images" in call.changes and any(media.MARK in chunk.data for chunk in call.chunks):
        return "cannot be played, as its images were not kept; record with replay_media=True"
    return None


def _hop(record: CallRecord) -> str | None:
    if record.has_redirect_status:
        return "is a redirect, and redirects are not played"
    if record.is_hop:
        return "is a round of the client's auth, and only the last round is played"
    return None


def _has_lost_a_body(call: RecordedCall) -> bool:
    was_answered = call.record is not None and call.record.http_status is not None
    if was_answered and call.chunks is None:
        return True
    had_body = bool(call.start.request.size) and not call.start.endpoint.path_names_body
    return had_body and call.request_body is None


def exhausted(request: CanonicalRequest, log: str, times: int) -> str:
    """Return the message for a request that is made more often than it was logged."""
    made = "once" if times == 1 else f"{times} times"
    return (
        f"{request} was made {made} in {log}, and is requested for the {_ordinal(times + 1)} time; "
        "pass repeat=True to start over"
    )


def _ordinal(number: int) -> str:
    teens = (11, 12, 13)
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in teens else endings.get(number % 10, 'th')}"


def unknown(request: CanonicalRequest, log: str, candidates: Sequence[Candidate]) -> str:
    """Return the message for a request that is not in the log, with the nearest logged one."""
    if not candidates:
        return f"{request} has no answer: {log} has no calls"
    count = f"{len(candidates)} call{'s' if len(candidates) > 1 else ''}"
    summary = f"{request} has no answer in {log}, which has {count}"
    alike = [
        candidate
        for candidate in candidates
        if (candidate.request.method, candidate.request.path) == (request.method, request.path)
    ]
    if not alike:
        routes = {f"{each.request.method} {each.request.path}" for each in candidates}
        return f"{summary}, none of this route: {', '.join(sorted(routes))}"
    nearest, found = min(
        (
            (each, [*differing_fields(each.request.body, request.body)])
            for each in _most_alike(request, alike)
        ),
        key=lambda pair: (len(pair[1]), pair[0].obstacle is not None),
    )
    call = nearest.call
    where = f"the nearest was logged in {call.file.name}, line {call.line}"
    if nearest.obstacle is not None and (not found or call.request_body is None):
        return f"{summary}; {where}, but {nearest.obstacle}"
    listed = "".join(f"\n  {_line(difference)}" for difference in found[:_LISTED])
    more = f"\n  and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return f"{summary}; {where}, and differs in:{listed}{more}{_advice(nearest, found)}"


def _most_alike(request: CanonicalRequest, alike: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates to compare; of many, those of the same model and the nearest size."""
    if len(alike) <= _COMPARED:
        return alike
    size = len(json.dumps(request.body))

    def distance(candidate: Candidate) -> tuple[bool, int]:
        logged = candidate.call.start.request.size or 0
        return candidate.request.model != request.model, abs(logged - size)

    return nsmallest(_COMPARED, alike, key=distance)


def _advice(nearest: Candidate, found: Sequence[FieldDifference]) -> str:
    names = sorted(_field(difference) for difference in found)
    is_setting = dialect_of(nearest.call.start.endpoint).setting_fields.match
    if nearest.obstacle is None and all(map(is_setting, names)):
        return f"\nIt would match with ignore={names!r}"
    if "redacted" in nearest.call.request_changes and _is_by_given_redactors(nearest, found):
        return "\nThe log was redacted: pass the redactors it was recorded with"
    return ""


def _is_by_given_redactors(nearest: Candidate, found: Sequence[FieldDifference]) -> bool:
    """Whether the requests may differ by custom redactors.

    The built-in ones always run, and each leaves a mark.
    """
    kinds = _marks([difference.before for difference in found])
    if not kinds:
        return not _marks(nearest.request.body)
    return any(kind not in _BUILT_IN_KINDS and not is_secret_key(kind) for kind in kinds)


def _marks(value: Any) -> set[str]:
    return set(_MARK.findall(json.dumps(value, ensure_ascii=False)))


# --- differences --------------------------------------------------------------------------


def _field(difference: FieldDifference) -> str:
    return difference.path.removeprefix("$").removeprefix(".") or "body"


def _line(difference: FieldDifference) -> str:
    logged, asked = _texts(difference.before, difference.after)
    if difference.kind == "missing":
        asked = "nothing"
    if difference.kind == "added":
        logged = "nothing"
    return f"{_field(difference)}: logged {logged}, asked {asked}"


def _texts(logged: Any, asked: Any) -> tuple[str, str]:
    """Return excerpts of two different values, around the first difference."""
    if not (isinstance(logged, str) and isinstance(asked, str)):
        return _shown(logged), _shown(asked)
    if max(len(logged), len(asked)) <= _SHOWN:
        return repr(logged), repr(asked)
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(logged, asked, strict=False))
    start = max(0, sum(1 for _ in alike) - _BEFORE)
    return _excerpt(logged, start), _excerpt(asked, start)


def _excerpt(text: str, start: int) -> str:
    before = "..." if start else ""
    after = "..." if len(text) > start + _SHOWN else ""
    return f"{before}{text[start : start + _SHOWN]!r}{after}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return _excerpt(value, 0)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
