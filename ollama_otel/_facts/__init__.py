"""The table of facts: one row for each fact of a call.

Span attributes, lines of the replay log and their validation, `--json` outputs, the reference
page and the columns for analysis are generated from it. To add a fact, give a record a field
or a property and add a row.
"""

from __future__ import annotations

from typing import Final

from ollama_otel._facts.fact import Column, Fact, Line
from ollama_otel._facts.rows import ROWS
from ollama_otel._facts.table import FactTable

__all__ = ["FACTS", "Column", "Fact", "FactTable", "Line"]

FACTS: Final = FactTable(ROWS)
