"""Verdicts: statements about the present state, each with the calls that prove it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Final, get_args

from ollama_otel._top.prefill import Prefill
from ollama_otel._top.slots import WAITED
from ollama_otel._top.view import CallRow, ModelRow, Verdict, VerdictKind

__all__ = ["WINDOW", "Evidence", "in_order", "verdicts_on"]

WINDOW: Final = 300.0
"""Seconds of ended calls that verdicts look at."""
_IN_A_ROW: Final = 3
_LOADS: Final = 3
_WAITS: Final = 3
_SLOW_LOAD: Final = 1.0
"""Seconds in flight from which a call that waits for its model is worth a verdict."""
_SAME: Final = 3
_MOSTLY: Final = 0.5
_SLOW_PREFILL: Final = 1.0
"""Seconds of prompt processing that are worth a verdict."""
_LEAST_TOKENS: Final = 64
_CHEAP: Final = 0.25
"""Share of the cost of an uncached token from which most of a prompt was cached."""
_FULL: Final = 0.5
"""Share from which most of it was not."""
_MOST_CALLS: Final = 20
"""Ids that a verdict lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence for verdicts on one model of one server."""

    model: ModelRow
    ended: Sequence[CallRow]
    """Calls that ended within the window, in the order of their ends."""
    window: float
    """Length of the window in seconds: shorter than `WINDOW` if less is known."""
    running: Sequence[CallRow]
    """Calls in flight, the oldest first."""
    prefill: Prefill
    digests: Mapping[str, str]
    """Hash of the prompt of a call, by its id: of calls in a log with bodies."""


def verdicts_on(evidence: Evidence) -> Iterator[Verdict]:
    """Yield the verdicts on one model."""
    for judge in _JUDGES:
        yield from judge(evidence)


def in_order(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return verdicts with the most urgent kind first, as `VerdictKind` lists them."""
    kinds = get_args(VerdictKind)
    return tuple(sorted(verdicts, key=lambda verdict: kinds.index(verdict.kind)))


def _verdict(
    kind: VerdictKind, evidence: Evidence, sentence: str, calls: Iterable[CallRow] = ()
) -> Verdict:
    model = evidence.model
    return Verdict(
        kind=kind,
        sentence=f"{model.model}: {sentence}",
        calls=tuple(call.id for call in calls)[-_MOST_CALLS:],
        server=model.server,
        model=model.model,
    )


def _span(evidence: Evidence) -> str:
    window = evidence.window
    return f"{window / 60:.0f} min" if window >= 119.5 else f"{window:.0f} s"  # noqa: PLR2004


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _latest(evidence: Evidence, is_one: Callable[[CallRow], bool]) -> list[CallRow]:
    """Return the latest calls in a row that are of one kind, the oldest first."""
    return [*takewhile(is_one, reversed(evidence.ended))][::-1]


def _errors_in_a_row(evidence: Evidence) -> Iterator[Verdict]:
    failed = _latest(evidence, lambda call: call.state == "failed")
    if len(failed) < _IN_A_ROW:
        return
    kinds = Counter(call.record.error_type or "_OTHER" for call in failed if call.record)
    named = ", ".join(kind for kind, _ in kinds.most_common(3))
    yield _verdict(
        "errors_in_a_row", evidence, f"the last {len(failed)} calls failed ({named})", failed
    )


def _cancels_in_a_row(evidence: Evidence) -> Iterator[Verdict]:
    left = _latest(evidence, lambda call: call.state in {"cancelled", "abandoned"})
    if len(left) >= _IN_A_ROW:
        after = median(call.elapsed for call in left)
        yield _verdict(
            "cancels_in_a_row",
            evidence,
            f"the last {len(left)} calls were cancelled or abandoned, after {after:.1f} s (median)",
            left,
        )


def _waiting_for_load(evidence: Evidence) -> Iterator[Verdict]:
    waiting = [call for call in evidence.running if call.elapsed >= _SLOW_LOAD]
    if evidence.model.is_loaded is False and waiting:
        yield _verdict(
            "waiting_for_load",
            evidence,
            f"/api/ps does not list it, {_calls(len(waiting))} in flight, "
            f"oldest {waiting[0].elapsed:.0f} s",
            waiting,
        )


def _cold_load_thrash(evidence: Evidence) -> Iterator[Verdict]:
    loads = evidence.model.loads or 0
    if loads < _LOADS:
        return
    cold = [call for call in evidence.ended if call.record and call.record.cold_start]
    causes = Counter(
        cause
        for call in cold
        if call.record and (cause := call.record.residency.reload_cause) not in {None, "unknown"}
    )
    why = ", ".join(f"{cause}: {count}" for cause, count in causes.most_common(3))
    lost = sum(call.phase("load") or 0.0 for call in cold)
    sentence = f"loaded {loads} times in {_span(evidence)}"
    if why:
        sentence += f" ({why})"
    if lost:
        sentence += f"; calls waited {lost:.1f} s"
    yield _verdict("cold_load_thrash", evidence, sentence, cold)


def _queueing(evidence: Evidence) -> Iterator[Verdict]:
    waited = [call for call in evidence.ended if (call.phase("queue_estimate") or 0.0) >= WAITED]
    if len(waited) < _WAITS:
        return
    wait = median(call.phase("queue_estimate") or 0.0 for call in waited)
    sentence = (
        f"{len(waited)} of {len(evidence.ended)} calls waited for a slot, "
        f"about {wait:.1f} s (median)"
    )
    if evidence.model.waiting:
        sentence += f"; {evidence.model.waiting} wait now"
    yield _verdict("queueing", evidence, sentence, waited)


def _waiting_for_prefill(evidence: Evidence) -> Iterator[Verdict]:
    now = [call for call in evidence.running if (call.prefill_eta or 0.0) >= _SLOW_PREFILL]
    if now:
        longest = max(call.prefill_eta or 0.0 for call in now)
        yield _verdict(
            "waiting_for_prefill",
            evidence,
            f"{_calls(len(now))} in flight with a long prompt, by estimate {longest:.0f} s to go",
            now,
        )
        return
    slow = [call for call in evidence.ended if _is_mostly_prefill(call)]
    if len(slow) >= _IN_A_ROW and len(slow) >= _MOSTLY * len(evidence.ended):
        yield _verdict(
            "waiting_for_prefill",
            evidence,
            f"{len(slow)} of {len(evidence.ended)} calls spent most of their time on the prompt",
            slow,
        )


def _is_mostly_prefill(call: CallRow) -> bool:
    prompt = call.phase("prompt_eval") or 0.0
    return prompt >= _SLOW_PREFILL and prompt >= _MOSTLY * call.elapsed


def _cache_lost(evidence: Evidence) -> Iterator[Verdict]:
    """Yield a verdict if the prompt of a conversation was cached before, but the latest was not."""
    rate = evidence.prefill.rate
    if not rate:
        return
    lost = [
        calls[-1]
        for calls in _conversations(evidence.ended)
        if _has_lost_cache(calls, cost_of_new=1 / rate)
    ]
    if lost:
        took = sum(call.phase("prompt_eval") or 0.0 for call in lost)
        what = "a conversation" if len(lost) == 1 else f"{len(lost)} conversations"
        yield _verdict(
            "cache_lost",
            evidence,
            f"the cached prompt of {what} is gone: {took:.1f} s to process it again",
            lost,
        )


def _conversations(calls: Iterable[CallRow]) -> Iterable[list[CallRow]]:
    found: dict[str, list[CallRow]] = {}
    for call in calls:
        conversation = call.start.context.conversation_id
        if conversation is not None and (call.input_tokens or 0) >= _LEAST_TOKENS:
            found.setdefault(conversation, []).append(call)
    return found.values()


def _has_lost_cache(calls: Sequence[CallRow], *, cost_of_new: float) -> bool:
    """Whether the last call processed tokens again that the previous call had in the cache.

    The prompt has to have grown: a shorter one may be another one.
    """
    if len(calls) < 2:  # noqa: PLR2004 - one before, and the last
        return False
    before, last = calls[-2], calls[-1]
    earlier, later = _cost(before), _cost(last)
    return (
        earlier is not None
        and later is not None
        and (last.input_tokens or 0) >= (before.input_tokens or 0)
        # New tokens are not lost ones: at least half of the prompt existed before.
        and (last.input_tokens or 0) <= 2 * (before.input_tokens or 0)
        and earlier <= _CHEAP * cost_of_new
        and later >= _FULL * cost_of_new
    )


def _cost(call: CallRow) -> float | None:
    """Return the seconds of prompt processing per token of the prompt, cached ones included."""
    seconds, tokens = call.phase("prompt_eval"), call.input_tokens
    return None if seconds is None or not tokens else seconds / tokens


def _same_prompt(evidence: Evidence) -> Iterator[Verdict]:
    calls = [*evidence.ended, *evidence.running]
    counts = Counter(evidence.digests[call.id] for call in calls if call.id in evidence.digests)
    for digest, count in counts.most_common(1):
        if count >= _SAME:
            same = [call for call in calls if evidence.digests.get(call.id) == digest]
            yield _verdict(
                "same_prompt",
                evidence,
                f"the same prompt {count} times in {_span(evidence)}",
                same,
            )


_JUDGES: Final = (
    _errors_in_a_row,
    _cancels_in_a_row,
    _waiting_for_load,
    _cold_load_thrash,
    _queueing,
    _waiting_for_prefill,
    _cache_lost,
    _same_prompt,
)
