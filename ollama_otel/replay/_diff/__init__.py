"""Compares calls: pairing, values, text differences, statistics."""
