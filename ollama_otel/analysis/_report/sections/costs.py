"""Section on costs: by a price file, and compared to the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from ollama_otel.analysis._cost.results import CostReport
from ollama_otel.analysis._report.quantities import quantity
from ollama_otel.analysis._report.tables import table
from ollama_otel.analysis._report.values import Figure, Plot, Section, Series

__all__ = ["build", "missing"]

_TITLE: Final = "Cost"
_SHOWN: Final = 15
_WHOLE: Final = 0.9995
"""A share that is shown as all."""
_MOST_DAYS: Final = 120
_KWH: Final = 3.6e6
_STATES: Final = {
    "within": "within the limit",
    "burning": "will be used up before its end",
    "used_up": "used up",
}


def missing(reason: str | None = None) -> Section:
    """Return the section without costs: there is no price file, or it has a reason."""
    lead = reason or (
        "Unknown without prices: `ollama-otel report LOG --prices prices.toml` shows what the "
        "calls cost; `ollama-otel cost --example` prints such a file to start from."
    )
    return Section(name="costs", title=_TITLE, lead=lead)


def build(by_model: CostReport, by_day: CostReport) -> Section:
    """Return the section of the same costs, by model and by day."""
    figures = [_by_model(by_model), _by_day(by_day), _machines(by_model)]
    if by_model.cloud:
        figures.append(_cloud(by_model))
    if by_model.budgets:
        figures.append(_budgets(by_model))
    return Section(name="costs", title=_TITLE, lead=_lead(by_model), figures=tuple(figures))


def _lead(found: CostReport) -> str:
    total, currency = found.total, found.currency
    sentences = [
        (
            f"{total.calls:,} calls cost {quantity(total.cost, 'money')} {currency}: "
            f"{quantity(total.machine, 'money')} for the machine, "
            f"{quantity(total.energy, 'money')} for energy, and {quantity(total.idle, 'money')} "
            "as their share of idle time."
        )
    ]
    if total.per_million_input is not None and total.per_million_output is not None:
        sentences.append(
            f"1,000,000 tokens of input cost {quantity(total.per_million_input, 'money')}, of "
            f"output {quantity(total.per_million_output, 'money')} {currency}."
        )
    if found.unmapped:
        names = ", ".join(quantity(name, "text") for name in found.unmapped[:_SHOWN])
        sentences.append(f"The price file has no cloud model for {names}.")
    for even in found.break_even:
        if even.utilisation is not None:
            machine = quantity(even.machine, "text")
            if even.priced_share < _WHOLE:
                machine = (
                    f"For the calls with a cloud price ({quantity(even.priced_share, 'share')} of "
                    f"its busy time), {machine}"
                )
            sentences.append(
                f"{machine} costs as much as the cloud if it is busy "
                f"{quantity(even.utilisation, 'share')} of the time"
                + ("." if even.is_reachable else ", which is impossible.")
            )
    return " ".join(sentences)


def _by_model(found: CostReport) -> Figure:
    shown = found.lines[:_SHOWN]
    rows = [
        {
            "name": line.name,
            "calls": line.calls,
            "busy": line.gpu_seconds,
            "machine": line.machine,
            "energy": line.energy,
            "idle": line.idle,
            "cost": line.cost,
            "input": line.per_million_input,
            "output": line.per_million_output,
            "cloud": line.cloud,
        }
        for line in shown
    ]
    return Figure(
        name="cost_by_model",
        table=table(
            rows,
            f"The {_SHOWN} most expensive models." if len(found.lines) > _SHOWN else None,
            name="Model",
            calls=("Calls", "count"),
            busy=("Busy share", "seconds"),
            machine=("Machine", "money"),
            energy=("Energy", "money"),
            idle=("Idle", "money"),
            cost=(f"Cost ({found.currency})", "money"),
            input=("Per 1M in", "money"),
            output=("Per 1M out", "money"),
            cloud=("In the cloud", "money"),
        ),
        plot=Plot(
            kind="bars",
            unit="money",
            places=tuple(line.name for line in shown),
            series=_parts(shown),
        ),
    )


def _parts(lines: Sequence[Any]) -> tuple[Series, ...]:
    return tuple(
        Series(name=name, values=tuple(getattr(line, name) for line in lines))
        for name in ("machine", "energy", "idle")
    )


def _by_day(found: CostReport) -> Figure:
    shown = [line for line in found.lines if line.name is not None][-_MOST_DAYS:]
    days = tuple(datetime.fromisoformat(f"{line.name}T00:00:00+00:00") for line in shown)
    rows = [
        {"day": line.name, "calls": line.calls, "cost": line.cost, "busy": line.gpu_seconds}
        for line in shown
    ]
    return Figure(
        name="cost_by_day",
        table=table(
            rows,
            f"The last {_MOST_DAYS} days." if len(found.lines) > _MOST_DAYS else None,
            day="Day (UTC)",
            calls=("Calls", "count"),
            busy=("Busy share", "seconds"),
            cost=(f"Cost ({found.currency})", "money"),
        ),
        plot=Plot(kind="columns", unit="money", places=days, series=_parts(shown)),
    )


def _machines(found: CostReport) -> Figure:
    rows = [
        {
            "name": machine.name,
            "total": machine.total,
            "busy": machine.busy,
            "share": machine.utilisation,
            "energy": None if machine.joules is None else machine.joules / _KWH,
            "measured": machine.measured / machine.period if machine.period else None,
            "unallocated": machine.unallocated,
        }
        for machine in found.machines
    ]
    return Figure(
        name="cost_machines",
        table=table(
            rows,
            name="Machine",
            total=(f"Cost ({found.currency})", "money"),
            busy=("Busy", "seconds"),
            share=("Of the time", "share"),
            energy=("kWh", "number"),
            measured=("Measured", "share"),
            unallocated=("Unallocated", "money"),
        ),
    )


def _cloud(found: CostReport) -> Figure:
    rows = [
        {
            "model": use.model,
            "cloud": use.cloud,
            "calls": use.calls,
            "own": use.own,
            "amount": use.amount,
            "without": use.without_tokens,
        }
        for use in found.cloud[:_SHOWN]
    ]
    return Figure(
        name="cost_cloud",
        table=table(
            rows,
            model="Model",
            cloud="Cloud model",
            calls=("Calls", "count"),
            own=(f"Here ({found.currency})", "money"),
            amount=(f"There ({found.currency})", "money"),
            without=("Without tokens", "count"),
        ),
    )


def _budgets(found: CostReport) -> Figure:
    rows = [
        {
            "name": use.budget.name if use.of is None else f"{use.budget.name}: {use.of}",
            "period": use.period,
            "unit": use.budget.unit,
            "limit": use.budget.limit,
            "used": use.used,
            "projected": use.projected,
            "state": _STATES[use.state],
        }
        for use in sorted(found.budgets, key=lambda use: -use.used / use.budget.limit)[:_SHOWN]
    ]
    return Figure(
        name="cost_budgets",
        table=table(
            rows,
            f"The {_SHOWN} that are used most." if len(found.budgets) > _SHOWN else None,
            name="Budget",
            period="Period",
            unit="Unit",
            limit=("Limit", "number"),
            used=("Used", "number"),
            projected=("At its end", "number"),
            state="State",
        ),
    )
