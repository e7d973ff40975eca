"""Price files: what machines and cloud models cost, and budgets."""

from ollama_otel._prices.reading import read_prices
from ollama_otel._prices.values import (
    Budget,
    BudgetPeriod,
    BudgetUnit,
    CloudModel,
    CloudPrice,
    Machine,
    MachinePrice,
    Prices,
)

__all__ = [
    "Budget",
    "BudgetPeriod",
    "BudgetUnit",
    "CloudModel",
    "CloudPrice",
    "Machine",
    "MachinePrice",
    "Prices",
    "read_prices",
]
