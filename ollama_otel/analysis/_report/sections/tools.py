"""Tools: which ones the models called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ollama_otel.analysis._report.tables import table
from ollama_otel.analysis._report.values import Figure, Period, Rows, Section

__all__ = ["QUERIES", "build"]

_SHOWN: Final = 20

QUERIES: Final[Mapping[str, str]] = {
    "tools_called": """
        SELECT tool_call_names, count(*) AS answers
        FROM calls WHERE outcome IS NOT NULL
        GROUP BY tool_call_names ORDER BY answers DESC, tool_call_names LIMIT 1000
    """
}


def build(rows: Rows, period: Period) -> Section | None:  # noqa: ARG001 - as the other sections
    """Return the section; None if no model called a tool."""
    answers: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for row in rows["tools_called"]:
        names = Counter(row["tool_call_names"] or ())
        for name, number in names.items():
            answers[name] += row["answers"]
            calls[name] += number * row["answers"]
    if not calls:
        return None
    found = [
        {"tool": name, "calls": number, "answers": answers[name]}
        for name, number in sorted(calls.items(), key=lambda item: (-item[1], item[0]))
    ]
    figure = Figure(
        name="tools_called",
        table=table(
            found[:_SHOWN],
            f"The {_SHOWN} that were called most." if len(found) > _SHOWN else None,
            tool="Tool",
            calls=("Tool calls", "count"),
            answers=("Answers with it", "count"),
        ),
    )
    return Section(name="tools", title="Tools", figures=(figure,))
