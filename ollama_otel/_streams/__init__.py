"""Streams to consumers: a background thread or task delivers parts to a queue or a handler."""
