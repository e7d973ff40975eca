"""Section on errors: how calls that did not complete ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ollama_otel.analysis._report.axis import along, over_time, series, times
from ollama_otel.analysis._report.tables import table, time_table
from ollama_otel.analysis._report.values import Figure, Period, Rows, Section

__all__ = ["QUERIES", "build"]

_ENDS: Final = {
    "failed": "failed",
    "abandoned": "abandoned",
    "cancelled": "cancelled",
    "no_end": "without an end",
}

QUERIES: Final[Mapping[str, str]] = {
    "outcomes_over_time": """
        SELECT time_bucket_of(started_at, $bucket) AS bucket,
            count_if(outcome = 'failed') AS failed, count_if(outcome = 'abandoned') AS abandoned,
            count_if(outcome = 'cancelled') AS cancelled, count_if(outcome IS NULL) AS no_end
        FROM calls GROUP BY bucket ORDER BY bucket
    """,
    "errors_by_type": """
        SELECT error_type, count(*) AS calls, count(DISTINCT model) AS models,
            max(model) AS a_model, max(http_status) AS status, min(started_at) AS first,
            max(started_at) AS last, avg(duration) AS mean
        FROM calls WHERE outcome = 'failed'
        GROUP BY error_type ORDER BY calls DESC, error_type LIMIT 20
    """,
    "errors_by_model": """
        SELECT model, count(*) AS calls, count_if(outcome = 'failed') AS failed,
            count_if(outcome IN ('abandoned', 'cancelled')) AS given_up,
            count_if(attempts > 1) AS retried
        FROM calls GROUP BY model ORDER BY failed DESC, calls DESC, model LIMIT 12
    """,
    "error_messages": """
        SELECT error_type, error_message, count(*) AS calls
        FROM calls WHERE outcome = 'failed' AND error_message IS NOT NULL
        GROUP BY error_type, error_message ORDER BY calls DESC, error_message LIMIT 200
    """,
}


def build(rows: Rows, period: Period) -> Section:
    """Return the section."""
    ends = [row for row in rows["outcomes_over_time"] if any(row[end] for end in _ENDS)]
    if not ends:
        return Section(name="errors", title="Errors", lead="Every call completed.")
    figures = [_over_time(rows, period), _by_model(rows)]
    if rows["errors_by_type"]:
        figures.append(_by_type(rows))
    return Section(name="errors", title="Errors", figures=tuple(figures))


def _over_time(rows: Rows, period: Period) -> Figure:
    places = times(period)
    used = {
        end: name
        for end, name in _ENDS.items()
        if any(row[end] for row in rows["outcomes_over_time"])
    }
    found = series(along(rows["outcomes_over_time"], places), **used)
    return Figure(
        name="outcomes_over_time",
        table=time_table(places, found, "count"),
        plot=over_time("columns", "count", period, found),
    )


def _by_type(rows: Rows) -> Figure:
    messages: dict[str | None, str] = {}
    for row in rows["error_messages"]:
        messages.setdefault(row["error_type"], row["error_message"])
    found = [
        {
            **row,
            "where": row["a_model"] if row["models"] == 1 else f"{row['models']} models",
            "message": messages.get(row["error_type"]),
        }
        for row in rows["errors_by_type"]
    ]
    return Figure(
        name="errors_by_type",
        table=table(
            found,
            error_type="Error type",
            calls=("Calls", "count"),
            where="Model",
            status=("HTTP status", "id"),
            mean=("Mean duration", "seconds"),
            first=("First (UTC)", "time"),
            last=("Last (UTC)", "time"),
            message="Most frequent message",
        ),
    )


def _by_model(rows: Rows) -> Figure:
    found = [{**row, "share": row["failed"] / row["calls"]} for row in rows["errors_by_model"]]
    return Figure(
        name="errors_by_model",
        table=table(
            found,
            model="Model",
            calls=("Calls", "count"),
            failed=("Failed", "count"),
            share=("Failed share", "share"),
            given_up=("Given up", "count"),
            retried=("Sent more than once", "count"),
        ),
    )
