"""Turns estimated costs into metrics, and counts the use of budgets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter
from opentelemetry.metrics import Observation as Measurement

from ollama_otel import _names as names
from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._exchange.observers import CallFollower
from ollama_otel._prices.values import Budget, Machine, Prices
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.label_values import LONGEST_LABEL
from ollama_otel._wire.model_names import key_of, short_name
from ollama_otel.records import CallCost, CallRecord, CallStart

__all__ = ["BudgetObserver", "CostInstruments"]

_log = logger()

Labels = Mapping[str, str | int]

_MOST_VALUES: Final = 1_000
"""Values (such as users) with their own limit, per budget."""


class CostInstruments:
    """The instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        self._amount, self._energy, self._gpu_time, self._used = (
            meter.create_counter(row.name, unit=row.unit, description=row.description)
            for row in (rows.COST, rows.COST_ENERGY, rows.COST_GPU_TIME, rows.BUDGET_USED)
        )
        self._prices: Prices | None = None
        for row, read in (
            (rows.BUDGET_LIMIT, _limits),
            (rows.MACHINE_COST, _machine_costs),
            (rows.SERVER_SLOTS, _slots),
        ):
            self._observe(meter, row, read)

    def follow(self, prices: Prices) -> None:
        """Report these prices from now on."""
        self._prices = prices

    def record(self, cost: CallCost, labels: Labels) -> None:
        """Record the cost of a call; `labels` are those of the call."""
        if cost.estimate is not None:
            self._amount.add(cost.estimate, {**labels, names.COST_CURRENCY: str(cost.currency)})
        if cost.energy_estimate is not None:
            self._energy.add(cost.energy_estimate, labels)
        if cost.gpu_seconds_estimate is not None:
            self._gpu_time.add(cost.gpu_seconds_estimate, labels)

    def use(self, budget: Budget, of: str, amount: float) -> None:
        """Add a call's use of a budget."""
        self._used.add(amount, {**_budget_labels(budget), **({names.BUDGET_OF: of} if of else {})})

    def _observe(
        self, meter: Meter, row: Instrument, read: Callable[[Prices], Iterable[Measurement]]
    ) -> None:
        def callback(options: CallbackOptions) -> Iterable[Measurement]:  # noqa: ARG001
            return () if self._prices is None else list(read(self._prices))

        meter.create_observable_gauge(
            row.name, callbacks=[callback], unit=row.unit, description=row.description
        )


def _budget_labels(budget: Budget) -> Labels:
    return {
        names.BUDGET_NAME: budget.name,
        names.BUDGET_UNIT: budget.unit,
        names.BUDGET_PERIOD: budget.period,
    }


def _limits(prices: Prices) -> Iterator[Measurement]:
    return (Measurement(budget.limit, _budget_labels(budget)) for budget in prices.budget)


def _machine_costs(prices: Prices) -> Iterator[Measurement]:
    for machine in prices.machine:
        price = machine.price_now()
        if price is not None:
            yield Measurement(
                price.per_idle_hour,
                {names.MACHINE_NAME: machine.name, names.COST_CURRENCY: prices.currency},
            )


def _slots(prices: Prices) -> Iterator[Measurement]:
    for machine in prices.machine:
        if machine.slots is not None:
            yield from (Measurement(machine.slots, labels) for labels in _server_labels(machine))


def _server_labels(machine: Machine) -> Iterator[Labels]:
    for server in machine.servers:
        address, _, port = server.rpartition(":")
        yield {names.SERVER_ADDRESS: address, names.SERVER_PORT: int(port)}


class BudgetObserver:
    """Counts how much the calls of this process use of the budgets in a price file."""

    def __init__(self, instruments: CostInstruments, prices: Prices) -> None:
        self._instruments = instruments
        self._budgets = prices.budget
        self._values: dict[str, set[str]] = {budget.name: set() for budget in prices.budget}
        self._lock = threading.RLock()
        _process.at_fork(after_in_child=self._reset_after_fork)
        instruments.follow(prices)

    def begin(self, start: CallStart) -> CallFollower | None:
        meant = [
            (budget, of)
            for budget in self._budgets
            if start.endpoint.moves_model and _is_meant(budget, start)
            if (of := self._value(budget, start)) is not None
        ]
        return _BudgetFollower(partial(self._end, meant)) if meant else None

    def _end(self, meant: list[tuple[Budget, str]], record: CallRecord) -> None:
        for budget, of in meant:
            amount = _amount(budget, record)
            if amount:
                self._instruments.use(budget, of, amount)

    def _value(self, budget: Budget, start: CallStart) -> str | None:
        """Return the value that has its own limit; None if this call has none."""
        if budget.each is None:
            return ""
        value = _text_of(budget.each, start)
        if not value or len(value) > LONGEST_LABEL:
            return None
        with self._lock:
            known = self._values[budget.name]
            if value in known:
                return value
            if len(known) < _MOST_VALUES:
                known.add(value)
                if len(known) == _MOST_VALUES:
                    _log.warning(
                        "the budget %r has %d values of %s; the use of further ones is not "
                        "counted in metrics",
                        *(budget.name, _MOST_VALUES, budget.each),
                    )
                return value
        return None

    def _reset_after_fork(self) -> None:
        """Replace a lock that the parent may have held."""
        self._lock = threading.RLock()


class _BudgetFollower(CallFollower):
    __slots__ = ("_end",)

    def __init__(self, end: Callable[[CallRecord], None]) -> None:
        self._end = end

    def end(self, record: CallRecord) -> None:
        self._end(record)


def _is_meant(budget: Budget, start: CallStart) -> bool:
    """Whether a call counts towards the budget."""
    context, model = start.context, start.request.model
    if budget.model is not None and (model is None or key_of(model) != key_of(budget.model)):
        return False
    if budget.user is not None and context.user_id != budget.user:
        return False
    return all(context.tags.get(name) == text for name, text in budget.tags.items())


def _text_of(each: str, start: CallStart) -> str | None:
    context, model = start.context, start.request.model
    if each == "model":
        return None if model is None else short_name(key_of(model))
    if each == "user":
        return context.user_id
    if each == "conversation":
        return context.conversation_id
    return context.tags.get(each.removeprefix("tag:"))


def _amount(budget: Budget, record: CallRecord) -> float | None:
    """Return a call's use of a budget, in the budget's unit; None if unknown."""
    if budget.unit == "money":
        return record.cost.estimate
    if budget.unit == "gpu_seconds":
        return record.cost.gpu_seconds_estimate
    if record.is_hop:
        return None
    return (record.response.input_tokens or 0) + (record.response.output_tokens or 0)
