"""Cuts: prompts that the server cut, and answers that ended at a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ollama_otel.analysis._report.tables import table
from ollama_otel.analysis._report.values import Figure, Period, Rows, Section

__all__ = ["QUERIES", "build"]

QUERIES: Final[Mapping[str, str]] = {
    "cuts_by_model": """
        SELECT model, truncation_kind, truncation_certainty, count(*) AS calls,
            sum(truncation_lost_tokens) AS lost, max(truncation_prompt_tokens) AS longest,
            min(truncation_context_length) AS context, sum(truncation_dropped_messages) AS dropped
        FROM calls WHERE truncation_kind IS NOT NULL
        GROUP BY model, truncation_kind, truncation_certainty
        ORDER BY calls DESC, model, truncation_kind, truncation_certainty LIMIT 20
    """,
    "limits_by_model": """
        SELECT model, count(*) AS calls, count_if(finish_reason = 'length') AS at_limit,
            exact_quantile(CASE WHEN finish_reason = 'length' THEN output_tokens END, 0.5) AS tokens
        FROM calls WHERE finish_reason IS NOT NULL
        GROUP BY model ORDER BY at_limit DESC, calls DESC, model LIMIT 12
    """,
}


def build(rows: Rows, period: Period) -> Section:  # noqa: ARG001 - as the other sections
    """Return the section."""
    figures = []
    if rows["cuts_by_model"]:
        figures.append(_cuts(rows))
    if any(row["at_limit"] for row in rows["limits_by_model"]):
        figures.append(_limits(rows))
    lead = (
        ""
        if rows["cuts_by_model"]
        else ('No cut prompts are known: they are looked for with configure(truncation="confirm").')
    )
    return Section(name="cuts", title="Cuts", lead=lead, figures=tuple(figures))


def _cuts(rows: Rows) -> Figure:
    return Figure(
        name="cuts_by_model",
        table=table(
            rows["cuts_by_model"],
            model="Model",
            truncation_kind="Kind",
            truncation_certainty="Certainty",
            calls=("Calls", "count"),
            lost=("Tokens lost", "count"),
            longest=("Longest prompt", "count"),
            context=("Smallest context", "count"),
            dropped=("Messages dropped", "count"),
        ),
    )


def _limits(rows: Rows) -> Figure:
    found = [{**row, "share": row["at_limit"] / row["calls"]} for row in rows["limits_by_model"]]
    return Figure(
        name="limits_by_model",
        table=table(
            found,
            model="Model",
            calls=("Answers", "count"),
            at_limit=("At a limit", "count"),
            share=("Share", "share"),
            tokens=("Their median length", "count"),
        ),
    )
