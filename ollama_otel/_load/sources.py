"""Creates plans from prompts, or from the calls of a log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ollama_otel._load.arrivals import Arrivals, arrival_times
from ollama_otel._load.request import TimedRequest
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel._wire.prompt_requests import CHAT, prompt_request
from ollama_otel.errors import LoadError
from ollama_otel.replay._rerun_plan import LeftOut, reason_to_leave_out

__all__ = [
    "NUMBER",
    "Recording",
    "at_rate",
    "prompt_requests",
    "recorded_requests",
]

_NO_ARRIVAL: Final = frozenset[LeftOut]({"not_inference", "redirected", "auth_round"})
"""Reasons for which a call is not an arrival either."""
NUMBER: Final = "{n}"
"""Stands in a prompt for the number of its request."""


def prompt_requests(
    prompts: Sequence[str], count: int, *, model: str, most_tokens: int | None = None
) -> list[TimedRequest]:
    """Return `count` chats with the prompts in turn, each at offset 0.

    `{n}` in a prompt becomes the number of the request, which makes prompts distinct; otherwise the
    server takes the beginning of a repeated prompt from its cache.
    """
    return [
        TimedRequest(
            body=prompt_request(
                model,
                prompts[number % len(prompts)].replace(NUMBER, str(number + 1)),
                most_tokens=most_tokens,
            ),
            path=CHAT,
        )
        for number in range(count)
    ]


def at_rate(
    requests: Sequence[TimedRequest],
    rate: float,
    duration: float,
    *,
    arrivals: Arrivals = "poisson",
    seed: int = 0,
) -> list[TimedRequest]:
    """Return a plan that sends requests at a rate, in turn, each independent of the others.

    Raises `SettingsError` as `arrival_times` does.
    """
    times = arrival_times(rate, duration, arrivals=arrivals, seed=seed)
    return [
        replace(requests[number % len(requests)], offset=offset, after=None)
        for number, offset in enumerate(times)
    ]


# --- recorded calls -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A plan that repeats the calls of a log."""

    plan: tuple[TimedRequest, ...]
    """The calls with their recorded times; those of a session wait for the call before them."""
    sessions: int
    """Number of sessions with more than one call."""
    left_out: Mapping[LeftOut, int]
    """Number of calls that are not in the plan, by reason."""


def recorded_requests(
    calls: Iterable[RecordedCall],
    *,
    speed: float = 1.0,
    model: str | None = None,
    others: Sequence[TimedRequest] = (),
    redacted: bool = False,
) -> Recording:
    """Return the plan of the calls of a log.

    A session is all calls with one conversation id, or else with one trace, such as the run of an
    agent. A call of a session waits for the call that ended last before it in the log, and then for
    the recorded time between the two: the think time of a user, or the time that a tool took. Calls
    of a session that overlapped still overlap. All other calls are sent at their recorded times.
    `speed` divides all times; `model` replaces the recorded models. With `others`, these requests
    are sent in turn at the recorded times, so the log needs no bodies. Requests with redacted text
    are sent only with `redacted`.

    Raises `LoadError` if no call of the log can be sent.
    """
    everything = sorted(calls, key=lambda call: call.start.started_at)
    reasons = [reason_to_leave_out(call, allows_redacted=redacted) for call in everything]
    if others:
        reasons = [reason if reason in _NO_ARRIVAL else None for reason in reasons]
    kept = [call for call, reason in zip(everything, reasons, strict=True) if reason is None]
    left_out = Counter(reason for reason in reasons if reason is not None)
    if not kept:
        raise LoadError(_nothing_to_send(left_out))
    places = list(_places(kept))
    begin = kept[0].start.started_at
    plan = []
    for position, (call, after) in enumerate(zip(kept, places, strict=True)):
        since = begin if after is None else _ended_at(kept[after])
        source = others[position % len(others)] if others else _request_of(call, model)
        plan.append(
            replace(
                source,
                offset=max(0, call.start.started_at - since) / 1e9 / speed,
                after=after,
                conversation_id=call.start.context.conversation_id,
            )
        )
    sessions = Counter(filter(None, map(_session, kept)))
    return Recording(
        plan=tuple(plan),
        sessions=sum(count > 1 for count in sessions.values()),
        left_out=left_out,
    )


def _nothing_to_send(left_out: Mapping[LeftOut, int]) -> str:
    if bodies := left_out.get("no_body"):
        return (
            f"no call of the log can be sent ({bodies} without a body): record with "
            "replay_bodies=True, or give prompts, and only the times are taken from the log"
        )
    found = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no call"
    return f"no call of the log can be sent: found {found}"


def _request_of(call: RecordedCall, model: str | None) -> TimedRequest:
    endpoint, body = call.start.endpoint, call.request_body
    if model is not None:
        body = dialect_of(endpoint).with_model(body, model)
    return TimedRequest(body=body, path=endpoint.path)


def _session(call: RecordedCall) -> str | None:
    return call.start.context.conversation_id or call.trace_id


def _ended_at(call: RecordedCall) -> int:
    duration = 0.0 if call.record is None else call.record.duration
    return call.start.started_at + round(duration * 1e9)


def _places(calls: Sequence[RecordedCall]) -> Iterator[int | None]:
    """Yield for each call the position of the one that it waits for; None if it waits for none."""
    earlier: defaultdict[str, list[int]] = defaultdict(list)
    for position, call in enumerate(calls):
        session = _session(call)
        if session is None:
            yield None
            continue
        ended = [
            (_ended_at(calls[each]), each)
            for each in earlier[session]
            if calls[each].record is not None and _ended_at(calls[each]) <= call.start.started_at
        ]
        yield max(ended)[1] if ended else None
        earlier[session].append(position)
