"""Enrichers: each adds a section of facts that the protocol does not carry to a record."""
