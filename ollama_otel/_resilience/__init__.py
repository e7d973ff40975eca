"""Retries, limits, circuits and fallbacks without I/O: values, state machines and their order."""
