"""Enrichers: each adds a section of facts to a record that the wire does not say."""
