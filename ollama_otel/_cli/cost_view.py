"""A cost report as tables, sentences and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import floor, log10
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from ollama_otel._cli.table import ContinuedTable
from ollama_otel._cli.terminal import plural
from ollama_otel._cli.units import seconds

if TYPE_CHECKING:
    from ollama_otel.analysis import BreakEven, BudgetUse, CostLine, CostReport

__all__ = ["as_json", "rendered"]

_JOULES_PER_KWH = 3.6e6
_DAY, _HOUR = 86_400.0, 3600.0
_STATES = {"within": "green", "burning": "yellow", "used_up": "red"}
_WHOLE = 0.9995
"""Share from which 100 % is shown."""
_SHOWN = 5
"""Entries of a budget with one limit for each value."""


def as_json(report: CostReport) -> dict[str, Any]:
    """Return the report as one JSON object, including derived values."""
    made: dict[str, Any] = to_builtins(report)
    for shown, line in zip(
        (*made["lines"], made["total"]), (*report.lines, report.total), strict=True
    ):
        shown["cost"] = line.cost
    for shown, machine in zip(made["machines"], report.machines, strict=True):
        shown["utilisation"] = machine.utilisation
    for shown, even in zip(made["break_even"], report.break_even, strict=True):
        shown["is_reachable"] = even.is_reachable
    return made


def rendered(report: CostReport, *, limit: int) -> Iterator[RenderableType]:
    """Yield the parts of the report."""
    money = _Money(report)
    yield Text(
        f"{plural(report.total.calls, 'call')} from {report.start:%Y-%m-%d %H:%M} to "
        f"{report.end:%Y-%m-%d %H:%M} UTC ({_length(report)}) cost "
        f"{money(report.total.cost)} {report.currency}{_for_tokens(report)}",
        style="bold",
    )
    yield _lines(report, money, limit)
    if len(report.lines) > limit:
        yield Text(f"and {len(report.lines) - limit:,} more; --limit shows them", style="dim")
    yield Text("\nMachines", style="bold")
    yield _machines(report, money)
    yield Text("\nThe same calls in the cloud", style="bold")
    yield from _cloud(report, money)
    if report.budgets:
        yield Text("\nBudgets", style="bold")
        yield from _budgets(report, money)
    yield Text("\nHow to read it", style="bold")
    yield from (Padding(Text(note), (0, 0, 0, 2)) for note in _notes(report))


def _for_tokens(report: CostReport) -> str:
    tokens = report.total.input_tokens + report.total.output_tokens
    if not tokens:
        return ""
    each = report.total.cost / tokens * 1e6
    return f": {_known(each)} {report.currency} for 1,000,000 tokens, in and out together"


def _lines(report: CostReport, money: _Money, limit: int) -> ContinuedTable:
    table = ContinuedTable(
        report.by.removeprefix("tag:"),
        *("calls", "busy share", "machine", "energy", "idle", "cost", "share"),
        *("tokens in", "out", "per 1M in", "per 1M out", "kWh", "in the cloud"),
    )
    for line in report.lines[:limit]:
        table.add_row(*_cells(line, report, money))
    table.add_row(*_cells(report.total, report, money), style="bold")
    return table


def _cells(line: CostLine, report: CostReport, money: _Money) -> tuple[str, ...]:
    all_cost = report.total.cost
    return (
        "(none)" if line.name is None else line.name,
        f"{line.calls:,}",
        seconds(line.gpu_seconds),
        *(money(amount) for amount in (line.machine, line.energy, line.idle, line.cost)),
        f"{line.cost / all_cost:.0%}" if all_cost else "",
        f"{line.input_tokens:,}",
        f"{line.output_tokens:,}",
        _known(line.per_million_input),
        _known(line.per_million_output),
        "unknown" if line.joules is None else f"{line.joules / _JOULES_PER_KWH:.3g}",
        "missing" if line.cloud is None else money(line.cloud),
    )


def _machines(report: CostReport, money: _Money) -> ContinuedTable:
    table = ContinuedTable(
        "machine", "cost", "busy", "of the time", "kWh", "measured", "unallocated"
    )
    for machine in report.machines:
        table.add_row(
            machine.name,
            money(machine.total),
            seconds(machine.busy),
            f"{machine.utilisation:.1%}",
            "unknown" if machine.joules is None else f"{machine.joules / _JOULES_PER_KWH:.3g}",
            f"{machine.measured / machine.period:.0%}" if machine.period else "",
            money(machine.unallocated),
        )
    return table


def _cloud(report: CostReport, money: _Money) -> Iterator[RenderableType]:
    if report.cloud:
        headings = ("model", "cloud model", "calls", "here", "there", "without tokens")
        table = ContinuedTable(*headings, names=2)
        for use in report.cloud:
            table.add_row(
                use.model,
                use.cloud,
                f"{use.calls:,}",
                money(use.own),
                money(use.amount),
                f"{use.without_tokens:,}",
            )
        yield table
    if report.unmapped:
        yield Text(
            f"Missing: {', '.join(report.unmapped)}. Add a [[cloud]] entry to the price file.",
            style="yellow",
        )
    for even in report.break_even:
        yield Text(_break_even(even, report.currency))


def _break_even(even: BreakEven, currency: str) -> str:
    machine = f"Break-even of {even.machine}"
    if even.priced_share < _WHOLE:
        machine += f", for the calls with a cloud price ({even.priced_share:.0%} of its busy time)"
    costs = (
        f"an idle month costs {_known(even.own_per_month)} {currency}, a busy hour's calls "
        f"{_known(even.cloud_per_busy_hour)} {currency} in the cloud"
    )
    if even.utilisation is None:
        return f"{machine}: never, the cloud costs less than the energy of these calls; {costs}."
    if not even.is_reachable:
        return (
            f"{machine}: not with calls such as these, as it would have to be busy "
            f"{even.utilisation:.0%} of the time; {costs}."
        )
    return (
        f"{machine}: busy {even.utilisation:.0%} of the time, or "
        f"{_count(even.tokens_per_month or 0.0)} tokens a month; {costs}."
    )


def _budgets(report: CostReport, money: _Money) -> Iterator[RenderableType]:
    headings = ("budget", "of", "period", "used", "limit", "", "at its end", "state")
    table = ContinuedTable(*headings, names=2)
    shown: dict[str, int] = {}
    for use in report.budgets:
        shown[use.budget.name] = shown.get(use.budget.name, 0) + 1
        if shown[use.budget.name] <= _SHOWN:
            table.add_row(*_budget_cells(use, report.currency, money))
    yield table
    for name, count in shown.items():
        if count > _SHOWN:
            yield Text(f"and {count - _SHOWN:,} more of {name}", style="dim")


def _budget_cells(use: BudgetUse, currency: str, money: _Money) -> tuple[str | Text, ...]:
    budget = use.budget
    unit = {"money": currency, "gpu_seconds": "s busy", "tokens": "tokens"}[budget.unit]
    write: Callable[[float], str] = money if budget.unit == "money" else _count
    state = Text(use.state.replace("_", " "), style=_STATES[use.state])
    if use.used_up_before:
        state.append(f" ({plural(use.used_up_before, budget.period)} before)", style="dim")
    return (
        budget.name,
        use.of or "",
        use.period,
        write(use.used),
        f"{write(budget.limit)} {unit}",
        f"{use.used / budget.limit:.0%}",
        write(use.projected),
        state,
    )


def _notes(report: CostReport) -> Iterator[str]:
    yield (
        "busy share: calls at the same time share each instant equally. machine: purchase and "
        "rent of that time. energy: of that time. idle: the machine's idle time, shared by busy "
        "share. All costs, and the unallocated cost, add up to the cost of the machines."
    )
    left_out = (
        f"; {plural(report.without_timings, 'call')} without them count in neither"
        if report.without_timings
        else ""
    )
    yield (
        "per 1M in and out: the cost of a call is divided by the server's times for its prompt "
        f"and for its answer{left_out}."
    )
    if report.estimated_queues:
        yield (
            f"the time on the machine of {plural(report.estimated_queues, 'call')} begins after "
            "an estimated wait for a slot."
        )
    if report.cloud and not report.knows_cached_tokens:
        yield (
            "in the cloud: the log does not know which input was cached, so all input is at the "
            "price of new input."
        )
    for reason, count in report.left_out.items():
        yield f"{plural(count, 'call')} {reason}: no cost here."


def _length(report: CostReport) -> str:
    length = (report.end - report.start).total_seconds()
    if length > 2 * _DAY:
        return f"{length / _DAY:.1f} days"
    return f"{length / _HOUR:.1f} hours" if length > 2 * _HOUR else seconds(length)


def _known(value: float | None) -> str:
    """Format a price of tokens, which may be of any size."""
    if value is None:
        return "unknown"
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"


class _Money:
    """Writes all amounts of a report with the same decimals: four digits of the total, or more."""

    def __init__(self, report: CostReport) -> None:
        total = report.total.cost
        size = floor(log10(total)) if total > 0 else 0
        self._decimals = max(2, 3 - size)

    def __call__(self, amount: float) -> str:
        least = 10**-self._decimals
        if 0 < amount < least / 2:
            return f"<{least:.{self._decimals}f}"
        return f"{amount:,.{self._decimals}f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.3g}"  # noqa: PLR2004
