"""Sends a sample of logged requests to another model, to see whether a smaller one is faster."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Final

import httpx

from ollama_otel._display import shell_command
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.reader import read
from ollama_otel._wire.model_names import short_name
from ollama_otel.analysis._advice.advice import Advice, Unchecked
from ollama_otel.errors import AnalysisError
from ollama_otel.replay._diff.pairing import REPLAY_OF
from ollama_otel.replay._rerun import RerunProgress, rerun
from ollama_otel.replay._rerun_plan import plan_rerun, reason_to_leave_out

__all__ = ["SAMPLE", "try_model"]

SAMPLE: Final = 20
"""Requests that are sent."""
_EVIDENCE: Final = 5


async def try_model(
    log: str | os.PathLike[str],
    model: str,
    *,
    host: str,
    out: str | os.PathLike[str],
    sample: int = SAMPLE,
    on_progress: Callable[[RerunProgress], object] = lambda _: None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Advice | Unchecked | None:
    """Send requests of the most used other model in the log to `model`, one at a time.

    They are sampled evenly from the log, and the new calls are written to the log `out`; requests
    that are already in `out` are not sent again. Returns None if the model was not faster. Raises
    `AnalysisError` if no request of another model has a body or if `model` only creates
    embeddings, and `ReplayError` if no server responds at `host`.
    """
    chosen = _sample(log, model, sample)
    plan = plan_rerun(chosen, out=out)
    if plan.calls:
        progress = await rerun(
            plan,
            host=host,
            model=model,
            concurrency=1,
            on_progress=on_progress,
            transport=transport,
        )
        if progress.unsuited:
            raise AnalysisError(
                f"expected a model that generates text, to answer requests of {log}, found "
                f"{model}, which only makes embeddings"
            )
    return _compared(chosen, list(read(out)), model, log, out)


def _sample(log: str | os.PathLike[str], model: str, sample: int) -> Sequence[RecordedCall]:
    """Choose calls that were answered and can be sent, evenly from those of one model."""
    calls = [
        call
        for call in read(log)
        if reason_to_leave_out(call, allows_redacted=False) is None
        and call.record is not None
        and call.record.outcome == "completed"
        and call.start.request.purpose == "call"
        and call.start.endpoint.response == "completion"
        and _name(call) != short_name(model)
    ]
    if not calls:
        raise AnalysisError(
            f"{log}: expected answered requests with bodies, to another model than {model}, found "
            "none: record with replay_bodies=True"
        )
    [(name, _)] = Counter(map(_name, calls)).most_common(1)
    of_one = [call for call in calls if _name(call) == name]
    step = max(1.0, len(of_one) / sample)
    return [of_one[int(number * step)] for number in range(min(sample, len(of_one)))]


def _name(call: RecordedCall) -> str:
    return short_name(call.start.request.model or "")


def _compared(
    before: Sequence[RecordedCall],
    after: Sequence[RecordedCall],
    model: str,
    log: str | os.PathLike[str],
    out: str | os.PathLike[str],
) -> Advice | Unchecked | None:
    again = {call.start.context.tags.get(REPLAY_OF): call for call in after}
    pairs = [(call, again[call.id]) for call in before if call.id in again]
    both = [(one, other) for one, other in pairs if _is_answered(other)]
    if not both:
        return Unchecked(
            kind="model_too_large",
            lacks=f"an answer of {model}: {len(pairs)} requests were sent, and all failed",
            turn_on=shell_command(["ollama-otel", "show", str(out), "--failed"]),
        )
    old = [_without_load(one) for one, _ in both]
    new = [_without_load(other) for _, other in both]
    if median(new) >= median(old):
        return None
    name = _name(both[0][0])
    return Advice(
        kind="model_too_large",
        model=name,
        server=None,
        seen=(
            f"{model} answered {len(both)} of {len(pairs)} requests that {name} had answered; its "
            f"answers have {_tokens(other for _, other in both)} tokens in the median, those of "
            f"{name} {_tokens(one for one, _ in both)}."
        ),
        change=(
            f"Use {model} if its answers are good enough: "
            f"{shell_command(['ollama-otel', 'diff', str(log), str(out)])}"
        ),
        setting="model",
        value=model,
        calls=len(both),
        median=median(old),
        median_after=median(new),
        saved_in_all=sum(old) - sum(new),
        computed=(
            "durations without load_duration: those in the log against those of the same requests "
            "now, sent one at a time"
        ),
        evidence=tuple(one.id for one, _ in both[:_EVIDENCE]),
    )


def _is_answered(call: RecordedCall) -> bool:
    return call.record is not None and call.record.outcome == "completed"


def _without_load(call: RecordedCall) -> float:
    if call.record is None:
        raise AssertionError("only answered calls are compared")
    return max(0.0, call.record.duration - (call.record.response.load_duration or 0.0))


def _tokens(calls: Iterable[RecordedCall]) -> str:
    known = [call.record.response.output_tokens for call in calls if call.record is not None]
    counted = [tokens for tokens in known if tokens is not None]
    return f"{median(counted):.0f}" if counted else "an unknown number of"
