"""Computes the use of each budget."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from ollama_otel._prices.values import Budget, BudgetPeriod
from ollama_otel._wire.model_names import key_of, short_name
from ollama_otel.analysis._cost.calls import CostedCalls
from ollama_otel.analysis._cost.columns import Codes, codes_of
from ollama_otel.analysis._cost.grouping import group_codes, months_of
from ollama_otel.analysis._cost.results import BudgetState, BudgetUse
from ollama_otel.analysis._cost.sharing import Array

__all__ = ["budget_uses", "groups_of"]


def groups_of(budget: Budget) -> tuple[str, ...]:
    """Return the groups that the budgets need; each is a column to read."""
    user = () if budget.user is None else ("user",)
    each = () if budget.each in {None, "model"} else (str(budget.each),)
    return (*user, *(f"tag:{name}" for name in budget.tags), *each)


def budget_uses(budget: Budget, calls: CostedCalls, columns: dict[str, str]) -> Iterator[BudgetUse]:
    """Yield the use of a budget in the last period of the calls, the highest first.

    `columns` has the names of the columns of groups.
    """
    periods = calls.days if budget.period == "day" else months_of(calls.days)
    each = _each(budget, calls, columns)
    amounts, numbers = _amounts(budget, calls), each.numbers
    is_meant = _is_meant(budget, calls, columns) & (numbers >= 0)
    if not is_meant.all():
        amounts, numbers = amounts[is_meant], numbers[is_meant]
        periods = Codes(periods.numbers[is_meant], periods.texts)
    shape = (len(periods.texts), len(each.texts))
    places = periods.numbers * shape[1] + numbers
    used = np.bincount(places, amounts, shape[0] * shape[1]).reshape(shape)
    last = datetime.fromtimestamp(calls.end, UTC)
    period = last.strftime("%Y-%m-%d" if budget.period == "day" else "%Y-%m")
    is_last = np.array([text == period for text in periods.texts])
    current = used[is_last].sum(axis=0)
    for number in np.argsort(-current, kind="stable"):
        projected = float(current[number]) / _elapsed(budget.period, last)
        yield BudgetUse(
            budget=budget,
            of=None if budget.each is None else each.texts[number],
            period=period,
            used=float(current[number]),
            projected=projected,
            state=_state(budget, float(current[number]), projected),
            used_up_before=int((used[~is_last, number] >= budget.limit).sum()),
        )


def _state(budget: Budget, used: float, projected: float) -> BudgetState:
    if used >= budget.limit:
        return "used_up"
    return "burning" if projected > budget.limit else "within"


def _elapsed(period: BudgetPeriod, last: datetime) -> float:
    """Return the fraction of the period that has passed at the end of the report."""
    start = last.replace(hour=0, minute=0, second=0, microsecond=0)
    length = timedelta(days=1)
    if period == "month":
        start = start.replace(day=1)
        length *= monthrange(last.year, last.month)[1]
    return max((last - start) / length, 1e-6)


def _each(budget: Budget, calls: CostedCalls, columns: dict[str, str]) -> Codes:
    if budget.each is None:
        return Codes(np.zeros(len(calls.started_at), dtype=int), ("",))
    if budget.each == "model":
        return calls.models
    return group_codes(calls.table, columns[budget.each], budget.each)


def _is_meant(budget: Budget, calls: CostedCalls, columns: dict[str, str]) -> Array:
    """Return for each call whether the budget is for it."""
    is_meant: Array = np.ones(len(calls.started_at), dtype=bool)
    if budget.model is not None:
        is_meant &= calls.models.of(short_name(key_of(budget.model)))
    texts: dict[str, str] = {f"tag:{name}": text for name, text in budget.tags.items()}
    if budget.user is not None:
        texts["user"] = budget.user
    for group, text in texts.items():
        is_meant &= codes_of(calls.table, columns[group]).of(text)
    return is_meant


def _amounts(budget: Budget, calls: CostedCalls) -> Array:
    """Return what each call uses of a budget, in its unit."""
    if budget.unit == "money":
        return calls.cost
    if budget.unit == "gpu_seconds":
        return calls.gpu_seconds
    tokens: Array = np.nan_to_num(calls.input_tokens) + np.nan_to_num(calls.output_tokens)
    return tokens
