"""The table of notable calls: the first ones of each saved view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ollama_otel.analysis._report.values import CallRow, CallTable, CallView

__all__ = ["COLUMNS", "LIMIT", "VIEWS", "call_table", "view_query"]

LIMIT: Final = 25
"""Calls of each view."""
COLUMNS: Final = (
    *("call_id", "trace_id", "span_id", "started_at", "operation", "model", "user_id", "outcome"),
    *("error_type", "duration", "time_to_first_answer", "load_duration", "queue_estimate"),
    *("prompt_eval_duration", "eval_duration", "input_tokens", "output_tokens", "cold_start"),
    *("truncation_kind", "attempts", "http_status", "concurrency"),
)

VIEWS: Final[Mapping[str, CallView]] = {
    view.name: view
    for view in (
        CallView(
            name="slowest",
            title="Slowest",
            text="the longest durations",
            condition="duration IS NOT NULL",
            order="duration DESC",
        ),
        CallView(
            name="failed",
            title="Failed",
            text="the newest that failed",
            condition="outcome = 'failed'",
            order="started_at DESC",
        ),
        CallView(
            name="given_up",
            title="Given up",
            text="the newest that their caller left",
            condition="outcome IN ('abandoned', 'cancelled')",
            order="started_at DESC",
        ),
        CallView(
            name="cold",
            title="Cold",
            text="the longest loads of models",
            condition="cold_start",
            order="load_duration DESC",
        ),
        CallView(
            name="queued",
            title="Waited for a slot",
            text="the longest estimated waits",
            condition="queue_estimate > 0.1",
            order="queue_estimate DESC",
        ),
        CallView(
            name="cut",
            title="Cut",
            text="those that lost most tokens",
            condition="truncation_kind IS NOT NULL",
            order="truncation_lost_tokens DESC NULLS LAST",
        ),
        CallView(
            name="retried",
            title="Retried",
            text="those with most attempts",
            condition="attempts > 1",
            order="attempts DESC",
        ),
        CallView(
            name="expensive",
            title="Most server time",
            text="the most time in prefill and decode",
            condition="eval_duration IS NOT NULL",
            order="coalesce(prompt_eval_duration, 0) + eval_duration DESC",
        ),
        CallView(
            name="no_end",
            title="Without an end",
            text="the newest that the log has no end of",
            condition="outcome IS NULL",
            order="started_at DESC",
        ),
        CallView(
            name="newest",
            title="Newest",
            text="the last ones",
            condition="true",
            order="started_at DESC",
        ),
    )
}


def view_query(view: CallView, columns: Sequence[str] = COLUMNS) -> str:
    """Return the query of a view."""
    return (
        f"SELECT {', '.join(columns)} FROM calls WHERE {view.condition} "
        f"ORDER BY {view.order}, started_at DESC LIMIT {LIMIT}"
    )


def call_table(found: Mapping[str, Sequence[Mapping[str, Any]]], total: int) -> CallTable:
    """Return the calls of all views, each once, in the order of the views."""
    ranks: dict[str, dict[str, int]] = {}
    rows: dict[str, Mapping[str, Any]] = {}
    for name, calls in found.items():
        for rank, call in enumerate(calls):
            rows.setdefault(call["call_id"], call)
            ranks.setdefault(call["call_id"], {})[name] = rank
    return CallTable(
        views=tuple(VIEWS[name] for name, calls in found.items() if calls),
        rows=tuple(CallRow(values=row, ranks=ranks[call_id]) for call_id, row in rows.items()),
        total=total,
    )
