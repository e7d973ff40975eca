"""What machines and cloud models cost, and budgets: values, and the file that has them."""
