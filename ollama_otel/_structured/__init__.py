"""Structured output: schemas from types, answers as typed values, and repeated requests."""
