"""Prices of machines and cloud models, and budgets: values, and reading of the price file."""
