"""What calls cost: shares of a machine's time and energy, cloud prices, break-even, budgets."""
