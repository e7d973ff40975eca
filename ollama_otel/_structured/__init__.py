"""Structured output: schemas from types, answers as values of them, and asking again."""
