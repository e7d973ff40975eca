"""Rule about requests that are sent again and again: it needs a log with bodies."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from statistics import median
from typing import Final, NamedTuple

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.reader import read
from ollama_otel.analysis._advice.advice import Advice, Unchecked
from ollama_otel.analysis._advice.rule import IS_REQUEST, OF_SUBJECT, SUBJECT
from ollama_otel.analysis._store.calls import Calls
from ollama_otel.replay._canonical import canonical_request

__all__ = ["CANDIDATES", "same_prompts"]

_LEAST: Final = 5
"""Equal requests."""
_MOST: Final = 20_000
"""Calls that are compared."""
_BEGINNING: Final = 1000
"""Calls of a log among which one has a body if bodies were logged."""

CANDIDATES: Final = f"""
WITH groups AS (
    SELECT {SUBJECT}, operation, options, request_size, input_tokens, count(*) AS alike
    FROM calls WHERE {IS_REQUEST} AND outcome = 'completed' AND request_size IS NOT NULL
        AND input_tokens IS NOT NULL
    GROUP BY {OF_SUBJECT}, operation, options, request_size, input_tokens
    HAVING count(*) >= {_LEAST}
),
requests AS (
    SELECT
        {SUBJECT}, operation, options, request_size, input_tokens, call_id, started_at, duration
    FROM calls WHERE {IS_REQUEST} AND outcome = 'completed'
)
SELECT r.host AS host, r.model_name AS model_name, call_id, duration
FROM requests r JOIN groups g ON r.host = g.host AND r.model_name = g.model_name
    AND r.operation = g.operation AND r.options = g.options
    AND r.request_size = g.request_size AND r.input_tokens = g.input_tokens
ORDER BY alike DESC, started_at, call_id LIMIT {_MOST}
"""
"""Calls that may be equal, to be compared by their bodies."""


class _Candidate(NamedTuple):
    host: str
    name: str
    duration: float


def same_prompts(
    calls: Calls, log: str | os.PathLike[str] | None, *, evidence: int
) -> Iterator[Advice | Unchecked]:
    """Yield advice for each model that gets equal requests; `log` has the bodies."""
    if log is None or not _has_bodies(read(log, report=_ignore)):
        yield Unchecked(
            kind="same_prompt",
            lacks="the requests themselves",
            turn_on="configure(replay_log=..., replay_bodies=True)",
        )
        return
    candidates = {
        row["call_id"]: _Candidate(row["host"], row["model_name"], row["duration"])
        for row in calls.rows(CANDIDATES)
    }
    groups = _equal(read(log, report=_ignore), candidates) if candidates else {}
    of_models: defaultdict[tuple[str, str], list[list[str]]] = defaultdict(list)
    for (host, name, _), ids in groups.items():
        if len(ids) >= _LEAST:
            of_models[host, name].append(ids)
    for (host, name), equal in of_models.items():
        yield _advice(host, name, equal, candidates, evidence)


def _ignore(skipped: object) -> None:
    """Do not report skipped parts of a log, which were reported when the calls were opened."""


def _has_bodies(calls: Iterable[RecordedCall]) -> bool:
    return any(call.request_body is not None for call in islice(calls, _BEGINNING))


def _equal(
    calls: Iterable[RecordedCall], candidates: dict[str, _Candidate]
) -> dict[tuple[str, str, str], list[str]]:
    """Return the ids of the candidates, by server, model and request."""
    found: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    left = len(candidates)
    for call in calls:
        candidate = candidates.get(call.id)
        if candidate is None:
            continue
        # Texts that differ may be equal after redaction.
        if call.request_body is not None and "redacted" not in call.request_changes:
            request = canonical_request(
                call.start.endpoint.method,
                call.path,
                call.request_body,
                ignore=("stream", "keep_alive"),
            )
            found[candidate.host, candidate.name, request.key].append(call.id)
        left -= 1
        if not left:
            break
    return found


def _advice(
    host: str,
    name: str,
    groups: list[list[str]],
    candidates: dict[str, _Candidate],
    evidence: int,
) -> Advice:
    groups.sort(key=len, reverse=True)
    repeated = [candidates[call].duration for ids in groups for call in ids[1:]]
    most = len(groups[0])
    often = (
        f"one request {most} times"
        if len(groups) == 1
        else f"{len(groups)} requests again and again, one of them {most} times"
    )
    return Advice(
        kind="same_prompt",
        model=name,
        server=host or None,
        seen=(
            f"{name} was sent {often}: text, options and images were the same. "
            f"{len(repeated)} calls repeat an earlier one."
        ),
        change=(
            "Keep the answers in the program, by request. With a temperature above 0 the model "
            "answers differently each time: if that is wanted, leave it as it is."
        ),
        setting="the program",
        calls=len(repeated),
        median=median(repeated),
        median_after=0.0,
        saved_in_all=sum(repeated),
        computed="a cached answer takes no time",
        evidence=tuple(groups[0][:evidence]),
    )
