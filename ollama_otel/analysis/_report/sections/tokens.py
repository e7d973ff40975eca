"""Section on tokens: by model, user and tag, and calls in flight."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ollama_otel.analysis._report.axis import along, over_time, series, times
from ollama_otel.analysis._report.tables import table, time_table
from ollama_otel.analysis._report.values import Figure, Period, Plot, Rows, Section, Series

__all__ = ["QUERIES", "build", "by_tag"]

_SHOWN: Final = 15
_BUSY: Final = """CASE WHEN count(prompt_eval_duration) + count(eval_duration) > 0
    THEN sum(coalesce(prompt_eval_duration, 0) + coalesce(eval_duration, 0)) END"""

QUERIES: Final[Mapping[str, str]] = {
    "tokens_over_time": """
        SELECT time_bucket_of(started_at, $bucket) AS bucket, sum(input_tokens) AS input_tokens,
            sum(output_tokens) AS output_tokens
        FROM calls GROUP BY bucket ORDER BY bucket
    """,
    "load_over_time": """
        SELECT time_bucket_of(started_at, $bucket) AS bucket, count(*) AS calls,
            avg(concurrency) AS mean, max(concurrency) AS most
        FROM calls GROUP BY bucket ORDER BY bucket
    """,
    "tokens_by_model": f"""
        SELECT model, count(*) AS calls, sum(input_tokens) AS input_tokens,
            sum(output_tokens) AS output_tokens,
            exact_quantile(input_tokens, 0.5) AS input_p50,
            exact_quantile(output_tokens, 0.5) AS output_p50, {_BUSY} AS busy
        FROM calls WHERE input_tokens IS NOT NULL
        GROUP BY model ORDER BY calls DESC, model LIMIT 12
    """,
    "users": f"""
        SELECT user_id, count(*) AS calls, count_if(outcome = 'failed') AS failed,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, {_BUSY} AS busy
        FROM calls WHERE user_id IS NOT NULL
        GROUP BY user_id ORDER BY busy DESC NULLS LAST, user_id LIMIT 16
    """,
    "tags": f"""
        SELECT tags, count(*) AS calls, count_if(outcome = 'failed') AS failed,
            coalesce(sum(input_tokens), 0) AS input_tokens,
            coalesce(sum(output_tokens), 0) AS output_tokens, {_BUSY} AS busy
        FROM calls WHERE tags IS NOT NULL
        GROUP BY tags ORDER BY calls DESC, busy DESC NULLS LAST LIMIT 2000
    """,
}


def build(rows: Rows, period: Period) -> Section:
    """Return the section."""
    figures = [_tokens(rows, period), _load(rows, period)]
    if rows["tokens_by_model"]:
        figures.append(_by_model(rows))
    if rows["users"]:
        figures.append(_users(rows["users"]))
    if tags := list(by_tag(rows["tags"])):
        figures.append(_tags(tags))
    return Section(name="tokens", title="Tokens and load", figures=tuple(figures))


def _tokens(rows: Rows, period: Period) -> Figure:
    places = times(period)
    found = series(
        along(rows["tokens_over_time"], places), input_tokens="input", output_tokens="output"
    )
    return Figure(
        name="tokens_over_time",
        table=time_table(places, found, "count"),
        plot=over_time("columns", "count", period, found),
    )


def _load(rows: Rows, period: Period) -> Figure:
    places = times(period)
    found = along(rows["load_over_time"], places)
    lines = series(found, most="highest", mean="mean")
    calls = series(found, calls="calls that began")
    return Figure(
        name="load_over_time",
        table=time_table(places, (*calls, *lines), "number"),
        plot=over_time("lines", "number", period, lines),
    )


def _by_model(rows: Rows) -> Figure:
    return Figure(
        name="tokens_by_model",
        table=table(
            rows["tokens_by_model"],
            model="Model",
            calls=("Calls", "count"),
            input_tokens=("Input", "count"),
            output_tokens=("Output", "count"),
            input_p50=("Input p50", "count"),
            output_p50=("Output p50", "count"),
            busy=("Busy", "seconds"),
        ),
    )


def _users(found: Sequence[Mapping[str, Any]]) -> Figure:
    shown = found[:_SHOWN]
    note = f"The {_SHOWN} users with the most server time." if len(found) > _SHOWN else None
    return Figure(
        name="tokens_by_user",
        table=table(
            shown,
            note,
            user_id="User",
            calls=("Calls", "count"),
            failed=("Failed", "count"),
            input_tokens=("Input", "count"),
            output_tokens=("Output", "count"),
            busy=("Server time", "seconds"),
        ),
        plot=_busy_bars(shown, "user_id"),
    )


def _tags(found: Sequence[Mapping[str, Any]]) -> Figure:
    shown = found[:_SHOWN]
    note = f"The {_SHOWN} tags with the most server time." if len(found) > _SHOWN else None
    return Figure(
        name="tokens_by_tag",
        table=table(
            shown,
            note,
            tag="Tag",
            calls=("Calls", "count"),
            failed=("Failed", "count"),
            input_tokens=("Input", "count"),
            output_tokens=("Output", "count"),
            busy=("Server time", "seconds"),
        ),
        plot=_busy_bars(shown, "tag"),
    )


def _busy_bars(rows: Sequence[Mapping[str, Any]], name: str) -> Plot:
    return Plot(
        kind="bars",
        unit="seconds",
        places=tuple(row[name] for row in rows),
        series=(Series(name="server time", values=tuple(row["busy"] for row in rows)),),
    )


def by_tag(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the sums of each tag, those with the most server time first."""
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        for tag in _tag_texts(json.loads(row["tags"])):
            sums.setdefault(tag, Counter()).update(
                {name: value or 0 for name, value in row.items() if name != "tags"}
            )
    for tag, counts in sorted(sums.items(), key=lambda item: (-item[1]["busy"], item[0])):
        yield {"tag": tag, **counts}


def _tag_texts(tags: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tags.items():
        if isinstance(value, Mapping):
            # ClickHouse's JSON has an object for each part of a dotted name.
            yield from _tag_texts(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} = {value}"
