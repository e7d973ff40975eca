"""The cost report: cost of the calls of a log by group, compared to the cloud and to budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np

from ollama_otel._prices.values import Prices
from ollama_otel.analysis._cost.budgets import budget_uses, groups_of
from ollama_otel.analysis._cost.calls import CostedCalls, MachineShare, costed_calls, left_out
from ollama_otel.analysis._cost.cloud import Tokens, cloud_amounts
from ollama_otel.analysis._cost.columns import Codes
from ollama_otel.analysis._cost.grouping import group_codes
from ollama_otel.analysis._cost.lines import Lines, known
from ollama_otel.analysis._cost.power import Measured
from ollama_otel.analysis._cost.results import (
    BreakEven,
    CloudUse,
    CostReport,
    MachineCost,
)
from ollama_otel.analysis._cost.sharing import Array
from ollama_otel.analysis._store.calls import Calls

__all__ = ["cost"]

_MONTH: Final = 730.5 * 3600
"""Seconds: a twelfth of 365.25 days."""


def cost(
    calls: Calls,
    prices: Prices,
    *,
    by: str = "model",
    start: datetime | None = None,
    end: datetime | None = None,
    measured: Mapping[str, Measured] | None = None,
) -> CostReport:
    """Return the cost of the calls of a log.

    `by` is `model`, `user`, `conversation`, `day`, `server` or `tag:NAME`. `start` and `end` bound
    the period whose idle time is shared out; by default it is that of the first to the last call.
    `measured` has the measured energy of machines, by their names in the price file.

    Raises `PriceError` if the price file lacks a price or a machine, `AnalysisError` if no call
    has a cost, and `MissingExtraError` if a cloud model needs `genai-prices`, which is missing.
    """
    wanted = [each for budget in prices.budget for each in groups_of(budget)]
    groups = list(dict.fromkeys([*wanted, *(() if by in {"day", "model"} else (by,))]))
    columns = {group: f"group_{number}" for number, group in enumerate(groups)}
    found = costed_calls(calls, prices, groups=groups, period=(start, end), measured=measured)
    cloud, uses, unmapped = _cloud(found, prices)
    left, estimated_queues = left_out(calls, (start, end))
    lines = Lines(found, _codes(found, by, columns), cloud)
    return CostReport(
        currency=prices.currency,
        start=datetime.fromtimestamp(found.start, UTC),
        end=datetime.fromtimestamp(found.end, UTC),
        by=by,
        lines=tuple(lines.each(is_in_order=by == "day")),
        total=lines.total(),
        machines=tuple(map(_machine, found.machines)),
        cloud=uses,
        unmapped=unmapped,
        knows_cached_tokens=found.cached_tokens is not None,
        break_even=tuple(_break_evens(found, cloud)),
        budgets=tuple(use for each in prices.budget for use in budget_uses(each, found, columns)),
        without_timings=int(np.isnan(found.to_input).sum()),
        estimated_queues=estimated_queues,
        left_out=left,
    )


def _codes(calls: CostedCalls, by: str, columns: Mapping[str, str]) -> Codes:
    if by == "day":
        return calls.days
    if by == "model":
        return calls.models
    return group_codes(calls.table, columns[by], by)


# --- the cloud ----------------------------------------------------------------------------


def _cloud(
    calls: CostedCalls, prices: Prices
) -> tuple[Array, tuple[CloudUse, ...], tuple[str, ...]]:
    """Return the cloud price of each call, and the comparison of each model.

    NaN: its tokens are unknown. Infinity: its model has no cloud model.
    """
    amounts = np.full(len(calls.started_at), np.inf)
    uses, unmapped = [], []
    for model in calls.models.texts:
        cloud = prices.cloud_of(model)
        if cloud is None:
            unmapped.append(model)
            continue
        chosen = calls.models.of(model)
        cached = calls.cached_tokens
        found = amounts[chosen] = cloud_amounts(
            cloud,
            Tokens(
                at=calls.started_at[chosen],
                input=calls.input_tokens[chosen],
                output=calls.output_tokens[chosen],
                cached=None if cached is None else cached[chosen],
            ),
            prices,
        )
        uses.append(
            CloudUse(
                model=model,
                cloud=cloud.name,
                calls=int(chosen.sum()),
                own=float(calls.cost[chosen].sum()),
                amount=float(np.nansum(found)),
                without_tokens=int(np.isnan(found).sum()),
            )
        )
    return amounts, tuple(uses), tuple(sorted(unmapped))


def _machine(machine: MachineShare) -> MachineCost:
    shared = machine.shared
    return MachineCost(
        name=machine.name,
        total=float(shared.total),
        unallocated=float(shared.unallocated),
        period=float(shared.period),
        busy=float(shared.busy),
        joules=known(shared.joules.sum() + shared.idle_joules),
        measured=machine.measured,
    )


def _break_evens(calls: CostedCalls, cloud: Array) -> Iterator[BreakEven]:
    """Yield the break-even of each machine with calls that have a price in the cloud."""
    for machine in calls.machines:
        amounts = cloud[machine.calls]
        is_known = np.isfinite(amounts)
        seconds = float(machine.shared.seconds[is_known].sum())
        if not seconds:
            continue
        tokens = (calls.input_tokens + np.nan_to_num(calls.output_tokens))[machine.calls][is_known]
        idle, busy = machine.shared.rates(machine.segments)
        in_cloud = float(amounts[is_known].sum()) / seconds
        saved = in_cloud - (busy - idle)
        utilisation = idle / saved if saved > 0 else None
        yield BreakEven(
            machine=machine.name,
            priced_share=seconds / float(machine.shared.seconds.sum()),
            utilisation=utilisation,
            tokens_per_month=(
                None
                if utilisation is None
                else utilisation * _MONTH * float(np.nansum(tokens)) / seconds
            ),
            own_per_month=idle * _MONTH,
            cloud_per_busy_hour=in_cloud * 3600,
        )
