"""Pairs the calls of two logs: by the tag of a re-run, or by the request."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel.replay._canonical import canonical_request

__all__ = ["REPLAY_OF", "Pairing", "is_settled", "pair_calls"]

REPLAY_OF: Final = "ollama_otel.replay_of"
"""The tag of a repeated call: the id of the original call."""

Key = Callable[[RecordedCall], str | None]
Pair = tuple[RecordedCall, RecordedCall]


class Pairing(NamedTuple):
    """The paired calls of two logs, and the rest; each list in the order of starts."""

    pairs: Sequence[Pair]
    only_before: Sequence[RecordedCall]
    only_after: Sequence[RecordedCall]


def is_settled(call: RecordedCall) -> bool:
    """Whether the call reached a server and was not cancelled, so that it need not be repeated."""
    record = call.record
    if record is None or record.outcome == "cancelled":
        return False
    return record.error_type != "connect"


def pair_calls(
    before: Iterable[RecordedCall], after: Iterable[RecordedCall], *, ignore: Collection[str] = ()
) -> Pairing:
    """Pair by the tag that names the other call, then by equal requests; repeats in order.

    The model is ignored, and so are the request's fields in `ignore`, such as `options.seed`. If
    one log lacks a request's body, its facts are compared instead. Of several attempts to repeat
    a call, only the settled ones count, or else the last one.
    """

    def by_body(call: RecordedCall) -> str | None:
        return _body_key(call, ignore)

    stages: tuple[tuple[Key, Key], ...] = (
        (_id, _repeated),
        # Two re-runs of one log, or a re-run and the original log.
        (_origin, _origin),
        (by_body, by_body),
        (_facts_without_body, _facts),
        (_facts, _facts_without_body),
    )
    pairs: list[Pair] = []
    old, new = _by_start(_last_attempts(before)), _by_start(_last_attempts(after))
    for old_key, new_key in stages:
        found, old, new = _match(old, new, old_key, new_key)
        pairs += found
    return Pairing(sorted(pairs, key=lambda pair: pair[0].start.started_at), old, new)


def _by_start(calls: Iterable[RecordedCall]) -> list[RecordedCall]:
    return sorted(calls, key=lambda call: call.start.started_at)


def _last_attempts(calls: Iterable[RecordedCall]) -> list[RecordedCall]:
    kept: list[RecordedCall] = []
    attempts: dict[str, RecordedCall] = {}
    for call in calls:
        repeated = _repeated(call)
        if repeated is None or is_settled(call):
            kept.append(call)
        else:
            attempts[repeated] = call
    settled = {_repeated(call) for call in kept}
    return kept + [call for repeated, call in attempts.items() if repeated not in settled]


def _match(
    before: Sequence[RecordedCall], after: Sequence[RecordedCall], old_key: Key, new_key: Key
) -> tuple[list[Pair], list[RecordedCall], list[RecordedCall]]:
    """Pair calls with equal keys, in order; return the pairs, and the rest of both lists."""
    waiting: defaultdict[str, deque[RecordedCall]] = defaultdict(deque)
    for call in after:
        if (key := new_key(call)) is not None:
            waiting[key].append(call)
    pairs: list[Pair] = []
    alone: list[RecordedCall] = []
    for call in before:
        key = old_key(call)
        if key is not None and waiting.get(key):
            pairs.append((call, waiting[key].popleft()))
        else:
            alone.append(call)
    taken = {id(partner) for _, partner in pairs}
    return pairs, alone, [call for call in after if id(call) not in taken]


# --- keys: None matches nothing -----------------------------------------------------------


def _id(call: RecordedCall) -> str:
    return call.id


def _repeated(call: RecordedCall) -> str | None:
    return call.start.context.tags.get(REPLAY_OF)


def _origin(call: RecordedCall) -> str:
    return _repeated(call) or call.id


def _body_key(call: RecordedCall, ignore: Collection[str]) -> str | None:
    if call.request_body is None:
        return None
    endpoint = call.start.endpoint
    ignored = (dialect_of(endpoint).model_field, *ignore)
    return canonical_request(endpoint.method, call.path, call.request_body, ignore=ignored).key


def _facts(call: RecordedCall) -> str:
    request, endpoint = call.start.request, call.start.endpoint
    known = (request.stream, request.purpose, request.input_count, request.image_count)
    return json.dumps([endpoint.method, endpoint.path, *known, request.tools])


def _facts_without_body(call: RecordedCall) -> str | None:
    return _facts(call) if call.request_body is None else None
