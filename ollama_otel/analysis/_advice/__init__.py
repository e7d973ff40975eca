"""Advice: rules that read the table `calls`, and what each says to change."""
