"""Latency: where the time of calls goes, by model and over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from ollama_otel.analysis._report.axis import along, over_time, series, times
from ollama_otel.analysis._report.tables import table, time_table
from ollama_otel.analysis._report.values import Figure, Period, Plot, Rows, Section, Unit

__all__ = ["QUERIES", "build"]

_PHASES: Final[Mapping[str, str]] = {
    **{
        name: f"CASE WHEN count({column}) > 0 THEN avg(coalesce({column}, 0)) END"
        for name, column in (
            ("resilience", "delay"),
            ("loading", "load_duration"),
            ("queue", "queue_estimate"),
            ("prefill", "prompt_eval_duration"),
            ("decode", "eval_duration"),
        )
    },
    "unaccounted": """avg(CASE WHEN queue_estimate IS NULL THEN greatest(0, total_duration
        - coalesce(load_duration, 0) - coalesce(prompt_eval_duration, 0)
        - coalesce(eval_duration, 0)) ELSE 0 END)""",
    "client": "avg(greatest(0, duration - total_duration - coalesce(delay, 0)))",
}
"""Means that add up; a phase that no call has is NULL."""
_NAMES: Final[Mapping[str, str]] = {
    "loading": "loading",
    "queue": "waiting for a slot (estimate)",
    "prefill": "prefill",
    "decode": "decode",
    "client": "client",
    "unaccounted": "unaccounted",
    "resilience": "retries",
}
"""The order of the stack; the two that are rare come last."""
_MEANS: Final = ", ".join(f"{sql} AS {name}" for name, sql in _PHASES.items())

QUERIES: Final[Mapping[str, str]] = {
    "phases_by_model": f"""
        SELECT model, count(*) AS calls, {_MEANS}
        FROM calls WHERE total_duration IS NOT NULL
        GROUP BY model ORDER BY calls DESC, model LIMIT 12
    """,
    "speed_by_model": """
        SELECT model, count(*) AS calls,
            exact_quantile(duration, 0.5) AS duration_p50,
            exact_quantile(duration, 0.95) AS duration_p95,
            exact_quantile(time_to_first_answer, 0.5) AS first_p50,
            exact_quantile(time_to_first_answer, 0.95) AS first_p95
        FROM calls WHERE total_duration IS NOT NULL
        GROUP BY model ORDER BY calls DESC, model LIMIT 12
    """,
    "rates_by_model": """
        SELECT model, count(*) AS calls, exact_quantile(decode_rate, 0.5) AS decode_p50,
            exact_quantile(prefill_rate_estimate, 0.5) AS prefill_p50,
            exact_quantile(queue_estimate, 0.95) AS queue_p95
        FROM calls WHERE total_duration IS NOT NULL
        GROUP BY model ORDER BY calls DESC, model LIMIT 12
    """,
    "phases_over_time": f"""
        SELECT time_bucket_of(started_at, $bucket) AS bucket, count(*) AS calls, {_MEANS}
        FROM calls WHERE total_duration IS NOT NULL GROUP BY bucket ORDER BY bucket
    """,
    "duration_over_time": """
        SELECT time_bucket_of(started_at, $bucket) AS bucket, count(*) AS calls,
            exact_quantile(duration, 0.5) AS p50, exact_quantile(duration, 0.95) AS p95
        FROM calls WHERE total_duration IS NOT NULL GROUP BY bucket ORDER BY bucket
    """,
    "decode_over_time": """
        WITH busiest AS (
            SELECT model FROM calls WHERE decode_rate IS NOT NULL
            GROUP BY model ORDER BY count(*) DESC, model LIMIT 4
        )
        SELECT time_bucket_of(started_at, $bucket) AS bucket, model,
            exact_quantile(decode_rate, 0.5) AS p50
        FROM calls WHERE decode_rate IS NOT NULL AND model IN (SELECT model FROM busiest)
        GROUP BY bucket, model ORDER BY bucket, model
    """,
    "first_answer_over_time": """
        SELECT time_bucket_of(started_at, $bucket) AS bucket, count(*) AS calls,
            exact_quantile(time_to_first_answer, 0.5) AS p50,
            exact_quantile(time_to_first_answer, 0.95) AS p95
        FROM calls WHERE time_to_first_answer IS NOT NULL GROUP BY bucket ORDER BY bucket
    """,
}


def build(rows: Rows, period: Period) -> Section:
    """Return the section."""
    if not rows["phases_by_model"]:
        lead = "No call has timings of the server: they come with the final message of an answer."
        return Section(name="latency", title="Latency", lead=lead)
    figures = [_phases_by_model(rows), _phases_over_time(rows, period)]
    figures += [
        _quantiles(name, rows, period)
        for name in ("duration_over_time", "first_answer_over_time")
        if rows[name]
    ]
    if rows["decode_over_time"]:
        figures.append(_decode_over_time(rows, period))
    return Section(name="latency", title="Latency", figures=(*figures, _speed(rows)))


def _used(rows: Rows) -> dict[str, str]:
    """Return the phases that took time at all."""
    return {
        phase: name
        for phase, name in _NAMES.items()
        if any(row[phase] for row in rows["phases_by_model"])
    }


def _phases_by_model(rows: Rows) -> Figure:
    found, used = rows["phases_by_model"], _used(rows)
    columns: dict[str, tuple[str, Unit]] = {
        phase: (name.partition(" (")[0], "seconds") for phase, name in used.items()
    }
    return Figure(
        name="phases_by_model",
        table=table(
            found,
            model="Model",
            calls=("Calls", "count"),
            **columns,
        ),
        plot=Plot(
            kind="bars",
            unit="seconds",
            places=tuple(row["model"] for row in found),
            series=series(found, **used),
        ),
    )


def _phases_over_time(rows: Rows, period: Period) -> Figure:
    places = times(period)
    found = series(along(rows["phases_over_time"], places), **_used(rows))
    return Figure(
        name="phases_over_time",
        table=time_table(places, found, "seconds"),
        plot=over_time("columns", "seconds", period, found),
    )


def _quantiles(name: str, rows: Rows, period: Period) -> Figure:
    places = times(period)
    found = series(along(rows[name], places), p95="p95", p50="p50")
    return Figure(
        name=name,
        table=time_table(places, found, "seconds"),
        plot=over_time("lines", "seconds", period, found),
    )


def _decode_over_time(rows: Rows, period: Period) -> Figure:
    places = times(period)
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows["decode_over_time"]:
        by_model.setdefault(row["model"], []).append(row)
    found = tuple(
        replace(series(along(of_model, places), p50="p50")[0], name=model)
        for model, of_model in by_model.items()
    )
    return Figure(
        name="decode_over_time",
        table=time_table(places, found, "per_second"),
        plot=over_time("lines", "per_second", period, found),
    )


def _speed(rows: Rows) -> Figure:
    rates = {row["model"]: row for row in rows["rates_by_model"]}
    return Figure(
        name="speed_by_model",
        table=table(
            [{**rates[row["model"]], **row} for row in rows["speed_by_model"]],
            model="Model",
            calls=("Calls", "count"),
            duration_p50=("Duration p50", "seconds"),
            duration_p95=("Duration p95", "seconds"),
            first_p50=("First token p50", "seconds"),
            first_p95=("First token p95", "seconds"),
            decode_p50=("Decode p50", "per_second"),
            prefill_p50=("Prefill p50", "per_second"),
            queue_p95=("Slot p95", "seconds"),
        ),
    )
