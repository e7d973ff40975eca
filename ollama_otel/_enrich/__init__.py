"""Enrichers: each adds a section of facts to a record that the protocol does not carry."""
