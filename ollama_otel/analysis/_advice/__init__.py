"""Advice: rules that read the table `calls` and recommend changes."""
