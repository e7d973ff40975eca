"""Turns records into spans, metrics, log events and log lines."""
