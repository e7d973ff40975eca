"""Streams to consumers: parts go from a background thread or task to a queue or a handler."""
