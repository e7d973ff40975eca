"""`advise`: applies the rules to recorded calls."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from ollama_otel.analysis._advice.advice import Advice, AdviceKind, Advisory, Unchecked
from ollama_otel.analysis._advice.rule import IS_REQUEST, Need, Row, Rule, Suggestion
from ollama_otel.analysis._advice.same_prompt import same_prompts
from ollama_otel.analysis._advice.table import RULES
from ollama_otel.analysis._store.calls import Calls

__all__ = ["COVERAGE", "advise", "with_trial"]

_EVIDENCE: Final = 5
"""Most call ids per piece of advice."""

_KINDS: Final[tuple[AdviceKind, ...]] = (
    *(rule.kind for rule in RULES),
    "same_prompt",
    "model_too_large",
)
"""The rules."""

COVERAGE: Final = f"""
SELECT
    count(*) AS calls,
    exact_quantile(CASE WHEN {IS_REQUEST} THEN duration END, 0.5) AS median,
    count(context_length) AS residency,
    coalesce(count(context_length) + max(CASE WHEN option_number(options, 'num_ctx') IS NOT NULL
        THEN 1 ELSE 0 END), 0) AS contexts,
    count(truncation_certainty) AS truncation,
    count(conversation_id) AS conversations
FROM calls
"""
"""Which facts were recorded at all."""

_LACKS: Final[Mapping[Need, tuple[str, str]]] = {
    "residency": (
        "the models in the server's memory",
        "configure(residency=True) or OLLAMA_OTEL_RESIDENCY=true",
    ),
    "contexts": (
        "the context of a request, as no call sends num_ctx",
        "configure(residency=True) or OLLAMA_OTEL_RESIDENCY=true",
    ),
    "truncation": (
        "cut prompts; there were none, or they were not recorded",
        "configure(truncation='confirm') or OLLAMA_OTEL_TRUNCATION=confirm",
    ),
    "conversations": (
        "the conversations of the calls",
        "call_context(conversation_id=...) around the calls",
    ),
}


_NOT_TRIED: Final = Unchecked(
    kind="model_too_large",
    lacks="the results of a smaller model",
    turn_on="ollama-otel advise LOG --try-model NAME",
)


def advise(calls: Calls, *, log: str | os.PathLike[str] | None = None) -> Advisory:
    """Return settings to change, with the evidence and the estimated saving.

    `log` is the log of the calls, for rules that need the bodies of requests. Nothing is sent
    anywhere. Raises `AnalysisError` if a query fails, and `ReplayLogError` if `log` cannot be read.
    """
    coverage = calls.rows(COVERAGE)[0]
    advice: list[Advice] = []
    unchecked: list[Unchecked] = []
    for rule in RULES:
        lacking = next((need for need in rule.needs if not coverage[need]), None)
        if lacking is not None:
            lacks, turn_on = _LACKS[lacking]
            unchecked.append(Unchecked(kind=rule.kind, lacks=lacks, turn_on=turn_on))
            continue
        advice += _applied(rule, calls)
    for found in same_prompts(calls, log, evidence=_EVIDENCE):
        if isinstance(found, Advice):
            advice.append(found)
        else:
            unchecked.append(found)
    unchecked.append(_NOT_TRIED)
    advice = list(_consistent(advice))
    done = {given.kind for given in advice} | {entry.kind for entry in unchecked}
    return Advisory(
        calls=coverage["calls"],
        median=coverage["median"],
        advice=tuple(sorted(advice, key=_order)),
        unchecked=tuple(unchecked),
        nothing_found=tuple(kind for kind in _KINDS if kind not in done),
    )


def _consistent(found: Sequence[Advice]) -> Iterator[Advice]:
    """Leave out advice that contradicts other advice for the same model.

    Calls with different `num_ctx` cause the same reloads as calls of other programs. Once all send
    the same value, the remaining reloads show whether other programs cause some.
    """
    mixed = {(each.server, each.model) for each in found if each.kind == "mixed_num_ctx"}
    for each in found:
        if each.kind != "other_num_ctx" or (each.server, each.model) not in mixed:
            yield each


def with_trial(advisory: Advisory, tried: Advice | Unchecked | None) -> Advisory:
    """Add the result of `try_model`."""
    unchecked = tuple(entry for entry in advisory.unchecked if entry is not _NOT_TRIED)
    if isinstance(tried, Advice):
        advice = tuple(sorted((*advisory.advice, tried), key=_order))
        return replace(advisory, advice=advice, unchecked=unchecked)
    if tried is not None:
        return replace(advisory, unchecked=(*unchecked, tried))
    found = (*advisory.nothing_found, _NOT_TRIED.kind)
    return replace(advisory, unchecked=unchecked, nothing_found=found)


def _applied(rule: Rule, calls: Calls) -> Iterator[Advice]:
    parameters = rule.parameters(calls)
    for row in calls.rows(rule.summary, **parameters):
        suggestion = rule.judge(row)
        if suggestion is not None:
            yield _advice(rule, row, suggestion, _evidence(rule, calls, row, parameters))


def _evidence(rule: Rule, calls: Calls, row: Row, parameters: dict[str, Any]) -> tuple[str, ...]:
    chosen = {"host": row["host"], "model_name": row["model_name"], "most": _EVIDENCE}
    rows = calls.rows(rule.evidence, **parameters, **chosen)
    return tuple(found["call_id"] for found in rows)


def _advice(rule: Rule, row: Row, suggestion: Suggestion, evidence: tuple[str, ...]) -> Advice:
    saved = row["saved"]
    is_known = saved is not None and saved > 0
    return Advice(
        kind=rule.kind,
        model=row["model_name"],
        server=row["host"] or None,
        seen=suggestion.seen,
        change=suggestion.change,
        setting=suggestion.setting,
        value=suggestion.value,
        calls=row["calls"],
        median=row["median"] if is_known else None,
        median_after=row["median_after"] if is_known else None,
        saved_in_all=saved if is_known else None,
        computed=suggestion.computed if is_known else None,
        evidence=evidence,
    )


def _order(advice: Advice) -> tuple[float, int, int]:
    return -(advice.saved_in_all or 0.0), _KINDS.index(advice.kind), -advice.calls
