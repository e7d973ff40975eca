"""The results of a cost report: typed values. Amounts are in the report's currency."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from ollama_otel._prices.values import Budget

__all__ = [
    "BreakEven",
    "BudgetState",
    "BudgetUse",
    "CloudUse",
    "CostLine",
    "CostReport",
    "MachineCost",
]

BudgetState = Literal["within", "burning", "used_up"]
"""`burning`: it will be used up before its period ends, at the pace so far."""


class CostLine(Struct, frozen=True, kw_only=True):
    """The cost of some calls, and its parts."""

    name: str | None
    """Value of the group, such as a model; None for calls without a value."""
    calls: int
    gpu_seconds: float
    """Their share of the busy time of machines, seconds."""
    machine: float
    """Money for that time: purchase and rent."""
    energy: float
    """Money for the energy of that time."""
    idle: float
    """Money for a share of the idle time, by their share of the busy time."""
    joules: float | None
    """Energy of the busy time; None if the power is unknown."""
    input_tokens: int
    output_tokens: int
    per_million_input: float | None
    """Cost of 1,000,000 tokens of input; None if no call has tokens and timings.

    The cost of a call is divided by the server's times for its prompt and for its answer.
    """
    per_million_output: float | None
    """Cost of 1,000,000 tokens of output; None as for the input."""
    cloud: float | None
    """Cost of the same calls in the cloud; None if a model has no cloud model."""

    @property
    def cost(self) -> float:
        """Machine, energy and idle share."""
        return self.machine + self.energy + self.idle


class MachineCost(Struct, frozen=True, kw_only=True):
    """Cost of a machine in the period."""

    name: str
    total: float
    """Cost of its calls, plus the unallocated cost."""
    unallocated: float
    """Cost of idle time that is not allocated, as no call was computed."""
    period: float
    """Seconds."""
    busy: float
    """Seconds with at least one call."""
    joules: float | None
    """Energy of the whole period; None if the power is unknown."""
    measured: float
    """Seconds of the period with measured energy; for the rest, power times time is used."""

    @property
    def utilisation(self) -> float:
        """Fraction of the period with at least one call."""
        return self.busy / self.period if self.period else 0.0


class CloudUse(Struct, frozen=True, kw_only=True):
    """A model of Ollama, and the cloud model that the report compares it with."""

    model: str
    cloud: str
    calls: int
    own: float
    """Cost of the calls on your machines."""
    amount: float
    """Cost of the calls in the cloud."""
    without_tokens: int
    """Calls without known tokens, whose cloud cost is unknown and not in `amount`."""


class BreakEven(Struct, frozen=True, kw_only=True):
    """The load at which a machine costs as much as the cloud, for similar calls."""

    machine: str
    """Its name in the price file."""
    priced_share: float
    """Fraction of the machine's busy time whose calls have a cloud price; only these count in the
    other values.
    """
    utilisation: float | None
    """Fraction of the time that the machine has to be busy; None if the cloud always costs less.

    Above 1 the machine cannot reach it.
    """
    tokens_per_month: float | None
    """Input and output tokens in a month at that load."""
    own_per_month: float
    """Money for an idle month."""
    cloud_per_busy_hour: float
    """Cloud price of the work of a busy hour."""

    @property
    def is_reachable(self) -> bool:
        """Whether the machine can reach that load."""
        return self.utilisation is not None and self.utilisation <= 1


class BudgetUse(Struct, frozen=True, kw_only=True):
    """How much of a budget is used in the last day or month of the report."""

    budget: Budget
    """The budget, as in the price file."""
    of: str | None
    """The value of `each`; None if the budget is one for all."""
    period: str
    """`2026-11-28` or `2026-11`."""
    used: float
    """In the unit of the budget."""
    projected: float
    """Projected use at the end of the period, at the pace so far."""
    state: BudgetState
    used_up_before: int
    """Earlier periods in which more than the limit was used."""


class CostReport(Struct, frozen=True, kw_only=True):
    """What the calls of a log cost."""

    currency: str
    """Of all money, as ISO 4217 names it."""
    start: datetime
    """The period: of the first to the last call, if no other is given."""
    end: datetime
    by: str
    """What the lines stand for, such as `model`."""
    lines: tuple[CostLine, ...]
    """The most expensive first; days in their order."""
    total: CostLine
    machines: tuple[MachineCost, ...]
    cloud: tuple[CloudUse, ...]
    unmapped: tuple[str, ...]
    """Models without a cloud model in the price file."""
    knows_cached_tokens: bool
    """Whether cached input is priced as such; if not, all input is at the price of new input."""
    break_even: tuple[BreakEven, ...]
    budgets: tuple[BudgetUse, ...]
    without_timings: int
    """Calls whose cost is not divided among input and output, as their timings are unknown."""
    estimated_queues: int
    """Calls whose time on the machine begins after an estimated wait for a slot."""
    left_out: Mapping[str, int]
    """Calls for inference that cost nothing here, by reason."""
