"""The values of a price file: machines, cloud models and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from ollama_otel._frozen import FrozenDict
from ollama_otel._wire.model_names import key_of

__all__ = [
    "Budget",
    "BudgetPeriod",
    "BudgetUnit",
    "CloudModel",
    "CloudPrice",
    "Machine",
    "MachinePrice",
    "Prices",
    "start_of",
]

BudgetUnit = Literal["money", "gpu_seconds", "tokens"]
"""`gpu_seconds`: seconds of a machine's busy time; calls at the same time share each instant."""
BudgetPeriod = Literal["day", "month"]
"""Of the calendar, in UTC."""

_HOURS_PER_YEAR: Final = 8766.0
"""365.25 days."""
_JOULES_PER_KWH: Final = 3.6e6

_NOT_NEGATIVE: Final = Meta(ge=0, le=1e15)
"""TOML allows infinity, which is not a valid price."""
_POSITIVE: Final = Meta(gt=0, le=1e15)
_NOT_EMPTY: Final = Meta(min_length=1)


class MachinePrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a machine from a day on."""

    from_: date = field(name="from")
    """The first day, in UTC."""
    price_per_kwh: Annotated[float, _NOT_NEGATIVE]
    """Money for a kilowatt-hour."""
    idle_watts: Annotated[float, _NOT_NEGATIVE] | None = None
    """Power while no model is loaded."""
    busy_watts: Annotated[float, _NOT_NEGATIVE] | None = None
    """Power while calls are computed."""
    pue: Annotated[float, Meta(ge=1, le=100)] = 1.0
    """Power usage effectiveness: watts of the building per watt of the machine."""
    purchase_price: Annotated[float, _NOT_NEGATIVE] | None = None
    """Money; None if the machine is only rented."""
    purchase_years: Annotated[float, _POSITIVE] | None = None
    """Years over which the purchase price is spread."""
    rent_per_hour: Annotated[float, _NOT_NEGATIVE] | None = None
    """Money for an hour, used or not; None without rent."""

    @property
    def per_second(self) -> float:
        """Money for each second, busy or idle; without energy."""
        rent = (self.rent_per_hour or 0.0) / 3600
        if self.purchase_price is None or self.purchase_years is None:
            return rent
        return rent + self.purchase_price / (self.purchase_years * _HOURS_PER_YEAR * 3600)

    @property
    def per_idle_hour(self) -> float:
        """Money for an hour without calls; its energy included, if the power is known."""
        return 3600 * (self.per_second + (self.idle_watts or 0.0) * self.per_joule)

    @property
    def per_joule(self) -> float:
        """Money for each joule of the machine, with its share of the building's overhead."""
        return self.pue * self.price_per_kwh / _JOULES_PER_KWH


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine, and the addresses of its Ollama servers."""

    name: Annotated[str, _NOT_EMPTY]
    servers: Annotated[tuple[Annotated[str, _NOT_EMPTY], ...], _NOT_EMPTY]
    """`host:port` as recorded in calls; the default port is 11434."""
    price: Annotated[tuple[MachinePrice, ...], _NOT_EMPTY]
    """By day, the oldest first."""
    slots: Annotated[int, Meta(ge=1)] | None = None
    """Calls that it computes at the same time: `OLLAMA_NUM_PARALLEL`."""

    def price_now(self) -> MachinePrice | None:
        """Return the price of today."""
        return self.price_at(datetime.now(UTC).timestamp())

    def price_at(self, time: float) -> MachinePrice | None:
        """Return the price at a time, in seconds since the epoch; None before the first one."""
        found = None
        for price in self.price:
            if start_of(price.from_) <= time:
                found = price
        return found


class CloudPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a cloud model from a day on, in money per 1,000,000 tokens."""

    from_: date = field(name="from")
    """The first day, in UTC; `from` in the file."""
    input_per_million: Annotated[float, _NOT_NEGATIVE]
    output_per_million: Annotated[float, _NOT_NEGATIVE]
    cached_input_per_million: Annotated[float, _NOT_NEGATIVE] | None = None
    """None: cached tokens cost as much as other input."""

    @property
    def of_cached(self) -> float:
        """The price of cached input."""
        own = self.cached_input_per_million
        return self.input_per_million if own is None else own


class CloudModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cloud model that could replace models of Ollama."""

    models: Annotated[tuple[Annotated[str, _NOT_EMPTY], ...], _NOT_EMPTY]
    """Models of Ollama, with their tags."""
    provider: Annotated[str, _NOT_EMPTY] | None = None
    """Provider, as `genai-prices` names it; None: the prices stand in `price`."""
    model: Annotated[str, _NOT_EMPTY] | None = None
    """Model of the provider."""
    price: tuple[CloudPrice, ...] = ()
    """Your own prices by day, the oldest first."""

    @property
    def name(self) -> str:
        """Display name."""
        if self.provider is None:
            return self.model or "own price"
        return f"{self.provider}/{self.model}"


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit on the use of calls in a period."""

    name: Annotated[str, _NOT_EMPTY]
    limit: Annotated[float, _POSITIVE]
    """In the unit of the budget."""
    unit: BudgetUnit
    period: BudgetPeriod
    model: Annotated[str, _NOT_EMPTY] | None = None
    """Only the calls of this model."""
    user: Annotated[str, _NOT_EMPTY] | None = None
    """Only the calls of this user."""
    tags: Mapping[str, str] = FrozenDict()
    """Only calls with these tags."""
    each: Annotated[str, Meta(pattern=r"^(model|user|conversation|tag:.+)$")] | None = None
    """A limit for each value of `user`, `model`, `conversation` or `tag:NAME`."""


class Prices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a price file."""

    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    """Currency of all amounts, an ISO 4217 code."""
    usd: Annotated[float, _POSITIVE] | None = None
    """Price of 1 US dollar in the currency, as `genai-prices` has dollars."""
    machine: tuple[Machine, ...] = ()
    cloud: tuple[CloudModel, ...] = ()
    budget: tuple[Budget, ...] = ()

    def machine_of(self, server: str) -> Machine | None:
        """Return the machine with a server at `host:port`; None if the file has none."""
        return next((each for each in self.machine if server in each.servers), None)

    def cloud_of(self, model: str) -> CloudModel | None:
        """Return the cloud model for a model of Ollama; None if the file names none."""
        key = key_of(model)
        return next((each for each in self.cloud if key in map(key_of, each.models)), None)


def start_of(day: date) -> float:
    """Return the start of a day in UTC, in seconds since the epoch."""
    return datetime.combine(day, time(), UTC).timestamp()
