"""Cold starts: calls that waited for their model to be loaded, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ollama_otel.analysis._report.axis import along, over_time, series, times
from ollama_otel.analysis._report.tables import table, time_table
from ollama_otel.analysis._report.values import Figure, Period, Rows, Section

__all__ = ["QUERIES", "build"]

QUERIES: Final[Mapping[str, str]] = {
    "cold_over_time": """
        SELECT time_bucket_of(started_at, $bucket) AS bucket, sum(load_duration) AS waited,
            count(*) AS cold
        FROM calls WHERE cold_start GROUP BY bucket ORDER BY bucket
    """,
    "cold_by_model": """
        SELECT model, count_if(cold_start IS NOT NULL) AS calls, count_if(cold_start) AS cold,
            exact_quantile(CASE WHEN cold_start THEN load_duration END, 0.5) AS load_p50,
            exact_quantile(CASE WHEN cold_start THEN load_duration END, 0.95) AS load_p95,
            sum(CASE WHEN cold_start THEN load_duration END) AS waited,
            min(gpu_share) AS gpu_share
        FROM calls WHERE cold_start IS NOT NULL
        GROUP BY model ORDER BY cold DESC, calls DESC, model LIMIT 12
    """,
    "cold_causes": """
        SELECT model, reload_cause, reload_before, reload_after, evicted_by, count(*) AS calls,
            sum(load_duration) AS waited
        FROM calls WHERE reload_cause IS NOT NULL
        GROUP BY model, reload_cause, reload_before, reload_after, evicted_by
        ORDER BY waited DESC NULLS LAST, calls DESC, model NULLS LAST, reload_cause LIMIT 20
    """,
}


def build(rows: Rows, period: Period) -> Section:
    """Return the section."""
    title = "Cold starts"
    if not rows["cold_by_model"]:
        lead = "Unknown: no call has a time of loading."
        return Section(name="cold_starts", title=title, lead=lead)
    if not rows["cold_over_time"]:
        return Section(name="cold_starts", title=title, lead="No call waited for a load.")
    over, by_model = _over_time(rows, period), _by_model(rows)
    if rows["cold_causes"]:
        figures = (over, _causes(rows), by_model)
        return Section(name="cold_starts", title=title, figures=figures)
    lead = "No causes are known: they need configure(residency=True) while calls are made."
    return Section(name="cold_starts", title=title, lead=lead, figures=(over, by_model))


def _over_time(rows: Rows, period: Period) -> Figure:
    places = times(period)
    found = series(along(rows["cold_over_time"], places), waited="loading time of cold calls")
    return Figure(
        name="cold_over_time",
        table=time_table(places, found, "seconds"),
        plot=over_time("columns", "seconds", period, found),
    )


def _by_model(rows: Rows) -> Figure:
    found = [{**row, "share": row["cold"] / row["calls"]} for row in rows["cold_by_model"]]
    return Figure(
        name="cold_by_model",
        table=table(
            found,
            model="Model",
            calls=("Calls", "count"),
            cold=("Cold", "count"),
            share=("Cold share", "share"),
            load_p50=("Load p50", "seconds"),
            load_p95=("Load p95", "seconds"),
            waited=("Waited", "seconds"),
            gpu_share=("Least GPU share", "share"),
        ),
    )


def _causes(rows: Rows) -> Figure:
    return Figure(
        name="cold_causes",
        table=table(
            rows["cold_causes"],
            model="Model",
            reload_cause="Cause",
            reload_before="Before",
            reload_after="After",
            evicted_by="Evicted by",
            calls=("Calls", "count"),
            waited=("Waited", "seconds"),
        ),
    )
