"""Findings that need attention: significant changes against an earlier period, and high values.

The test of a change uses intervals of time, not single calls, as the calls of one burst are not
independent. A change of a quantile is tested as a change of the share of calls above the quantile
of both periods together (Mood's test).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ollama_otel.analysis._report.definitions import DEFINITIONS
from ollama_otel.analysis._report.quantities import change, quantity
from ollama_otel.analysis._report.values import Finding, Period, Rows, Unit

__all__ = ["QUERIES", "TEST", "findings", "is_comparable"]

MIN_CALLS: Final = 30
MIN_INTERVALS: Final = 6
MIN_SCORE: Final = 4.0
MIN_CHANGE: Final = 0.2
MIN_POINTS: Final = 0.005
MIN_TRAFFIC: Final = 1.5
_CONFIDENCE: Final = 1.96
_Row = Mapping[str, Any]

TEST: Final = (
    "A change is shown if it is at least 20 % (and half a percentage point), and the difference is "
    "at least 4 times its standard error. The standard error follows from the scatter between "
    "intervals of time, and is never less than that of independent calls. A quantile is tested by "
    "the part of the calls beyond the quantile of both periods together. Both periods need at "
    "least 30 calls in at least 6 intervals. A number is high if it is above its limit with 95 % "
    "confidence (Wilson)."
)
"""The page's explanation of the test."""

_NOW: Final = "CASE WHEN started_at >= $now THEN 1 ELSE 0 END AS is_now"
_TIME: Final = f"{_NOW}, time_bucket_of(started_at, $coarse) AS bucket"
_COUNTS: Final = """
    count(*) AS calls, count_if(outcome = 'failed') AS failed,
    count_if(outcome IN ('abandoned', 'cancelled')) AS given_up,
    count_if(outcome IS NULL) AS no_end,
    count_if(cold_start IS NOT NULL) AS cold_known, count_if(cold_start) AS cold,
    count_if(truncation_kind IS NOT NULL) AS cut,
    count_if(finish_reason IS NOT NULL) AS length_known,
    count_if(finish_reason = 'length') AS length,
    count_if(gpu_share IS NOT NULL) AS off_gpu_known, count_if(gpu_share < 0.99) AS off_gpu,
    coalesce(sum(queue_estimate), 0) AS queue,
    coalesce(sum(CASE WHEN queue_estimate IS NOT NULL THEN total_duration END), 0) AS queue_known
"""
_BUSIEST: Final = """
    busiest AS (
        SELECT model FROM calls WHERE total_duration IS NOT NULL
        GROUP BY model ORDER BY count(*) DESC, model LIMIT 8
    )
"""
_QUANTILES: Final[Mapping[str, str]] = {
    "duration_p50": "exact_quantile(duration, 0.5)",
    "duration_p95": "exact_quantile(duration, 0.95)",
    "first_answer_p95": "exact_quantile(time_to_first_answer, 0.95)",
    "decode_rate_p50": "exact_quantile(decode_rate, 0.5)",
}
_VALUES: Final[Mapping[str, str]] = {
    "duration_p50": "duration",
    "duration_p95": "duration",
    "first_answer_p95": "time_to_first_answer",
    "decode_rate_p50": "decode_rate",
}
_OF_THE_BUSIEST: Final = "total_duration IS NOT NULL AND model IN (SELECT model FROM busiest)"


def _quantiles_query(*names: str) -> str:
    """Return the query of quantiles in both periods, by model."""
    columns = ", ".join(f"{_QUANTILES[name]} AS {name}" for name in names)
    return f"""
        WITH {_BUSIEST}
        SELECT {_NOW}, model, {columns} FROM calls WHERE {_OF_THE_BUSIEST}
        GROUP BY is_now, model ORDER BY model, is_now
    """


def _beyond_query(*names: str) -> str:
    """Return the query of the calls beyond the quantiles of both periods together."""
    limits = ", ".join(f"{_QUANTILES[name]} AS limit_{name}" for name in names)
    columns = ", ".join(
        f"count({_VALUES[name]}) AS {name}_known, "
        f"count_if({_VALUES[name]} > limit_{name}) AS {name}"
        for name in names
    )
    return f"""
        WITH {_BUSIEST}, limits AS (
            SELECT model, {limits} FROM calls WHERE {_OF_THE_BUSIEST} GROUP BY model
        )
        SELECT {_TIME}, calls.model AS model, {columns}
        FROM calls JOIN limits ON calls.model = limits.model
        WHERE total_duration IS NOT NULL
        GROUP BY is_now, bucket, calls.model ORDER BY bucket, is_now, model
    """


QUERIES: Final[Mapping[str, str]] = {
    "shares": f"""
        SELECT {_TIME}, {_COUNTS} FROM calls GROUP BY is_now, bucket ORDER BY bucket, is_now
    """,
    "shares_by_model": f"""
        WITH {_BUSIEST}
        SELECT {_NOW}, model, {_COUNTS} FROM calls WHERE model IN (SELECT model FROM busiest)
        GROUP BY is_now, model ORDER BY model, is_now
    """,
    "quantiles": _quantiles_query("duration_p50", "duration_p95"),
    "quantiles_of_rates": _quantiles_query("first_answer_p95", "decode_rate_p50"),
    "beyond_duration": _beyond_query("duration_p50", "duration_p95"),
    "beyond_first_answer": _beyond_query("first_answer_p95"),
    "beyond_decode_rate": _beyond_query("decode_rate_p50"),
}


class _Share(NamedTuple):
    """A part of the calls, or of their time."""

    name: str
    section: str
    high: float
    of: str = "calls"
    is_count: bool = True


class _Quantile(NamedTuple):
    name: str
    beyond: str
    """The query that has the calls beyond it."""
    unit: Unit
    is_less_worse: bool = False


_SHARES: Final = (
    _Share("failed", "errors", 0.05),
    _Share("cut", "cuts", 0.01),
    _Share("no_end", "errors", 0.05),
    _Share("cold", "cold_starts", 0.2, of="cold_known"),
    _Share("queue", "latency", 0.2, of="queue_known", is_count=False),
    _Share("off_gpu", "cold_starts", 0.1, of="off_gpu_known"),
    _Share("length", "cuts", 0.2, of="length_known"),
    _Share("given_up", "errors", 0.2),
)
_QUANTILE_MEASURES: Final = (
    _Quantile("duration_p50", "beyond_duration", "seconds"),
    _Quantile("duration_p95", "beyond_duration", "seconds"),
    _Quantile("first_answer_p95", "beyond_first_answer", "seconds"),
    _Quantile("decode_rate_p50", "beyond_decode_rate", "per_second", is_less_worse=True),
)
_ORDER: Final = ("worse", "high", "better", "changed")


def findings(rows: Rows, period: Period) -> tuple[Finding, ...]:
    """Return findings that need attention, and then other changes."""
    found = [
        *_shares(rows, period),
        *_quantiles(rows),
        *_traffic(rows["shares"], period),
    ]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.kind)))


def is_comparable(rows: Rows) -> bool:
    """Whether both periods have enough calls for the test."""
    before, now = _parts(rows["shares"], "calls", "calls")
    return _is_enough(before) and _is_enough(now)


# --- the test -----------------------------------------------------------------------------

_Pairs = Sequence[tuple[float, float]]
"""Of each interval: all, and those that count."""


def score(before: _Pairs, now: _Pairs, *, is_count: bool = True) -> float | None:
    """Return the growth of the ratio of sums in standard errors; None with too little data.

    Each pair is an interval: all calls (or seconds) in it, and those that count.
    """
    if not (_is_enough(before, is_count=is_count) and _is_enough(now, is_count=is_count)):
        return None
    variance = _scatter(before) + _scatter(now)
    if is_count:
        all_before, all_now = (sum(n for n, _ in pairs) for pairs in (before, now))
        pooled = sum(k for _, k in (*before, *now)) / (all_before + all_now)
        variance = max(variance, pooled * (1 - pooled) * (1 / all_before + 1 / all_now))
    return (_ratio(now) - _ratio(before)) / math.sqrt(variance) if variance else None


def _is_enough(pairs: _Pairs, *, is_count: bool = True) -> bool:
    intervals = sum(n > 0 for n, _ in pairs)
    total = sum(n for n, _ in pairs)
    return intervals >= MIN_INTERVALS and total >= (MIN_CALLS if is_count else 0)


def _ratio(pairs: _Pairs) -> float:
    return sum(k for _, k in pairs) / sum(n for n, _ in pairs)


def _scatter(pairs: _Pairs) -> float:
    """Return the variance of a ratio of sums, from its variation between the intervals."""
    used = [pair for pair in pairs if pair[0]]
    ratio, total = _ratio(used), sum(n for n, _ in used)
    squares = sum((k - ratio * n) ** 2 for n, k in used)
    return squares * len(used) / (len(used) - 1) / total**2


def _lowest(part: float, total: float) -> float:
    """Return the lower end of Wilson's interval of 95 % for a part of a total."""
    z, share = _CONFIDENCE, part / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (middle - half) / (1 + z * z / total)


def _parts(rows: Iterable[_Row], of: str, name: str) -> tuple[_Pairs, _Pairs]:
    before: list[tuple[float, float]] = []
    now: list[tuple[float, float]] = []
    for row in rows:
        (now if row["is_now"] else before).append((row[of], row[name]))
    return before, now


# --- parts of the calls -------------------------------------------------------------------


def _shares(rows: Rows, period: Period) -> Iterator[Finding]:
    for share in _SHARES:
        before, now = _parts(rows["shares"], share.of, share.name)
        found = _change_of_share(share, before, now, rows)
        if found is None or found.kind == "better":
            shown = now if period.compares == "period_before" else (*before, *now)
            found = _high(share, shown, rows) or found
        if found is not None:
            yield found


def _change_of_share(share: _Share, before: _Pairs, now: _Pairs, rows: Rows) -> Finding | None:
    value = score(before, now, is_count=share.is_count)
    if value is None or abs(value) < MIN_SCORE:
        return None
    earlier, later = _ratio(before), _ratio(now)
    if abs(later - earlier) < max(MIN_POINTS, MIN_CHANGE * earlier):
        return None
    title = DEFINITIONS[share.name].title
    grown = f" ({change(earlier, later)})" if earlier else ""
    return Finding(
        kind="worse" if later > earlier else "better",
        measure=share.name,
        subject=None,
        value=later,
        before=earlier,
        unit="share",
        section=share.section,
        text=f"{title}: {quantity(later, 'share')}, before {quantity(earlier, 'share')}{grown}."
        + (_most_in(share, rows) if later > earlier else ""),
        evidence=f"{_counts(share, now)} now, {_counts(share, before)} before; "
        f"{abs(value):.1f} standard errors",
    )


def _high(share: _Share, shown: _Pairs, rows: Rows) -> Finding | None:
    total, part = sum(n for n, _ in shown), sum(k for _, k in shown)
    if not total:
        return None
    calls = sum(row["calls"] for row in rows["shares"])
    is_sure = _lowest(part, total) >= share.high if share.is_count else calls >= MIN_CALLS
    if part / total < share.high or not is_sure:
        return None
    title = DEFINITIONS[share.name].title
    return Finding(
        kind="high",
        measure=share.name,
        subject=None,
        value=part / total,
        unit="share",
        section=share.section,
        text=f"{title}: {quantity(part / total, 'share')}, above {quantity(share.high, 'share')}."
        + _most_in(share, rows),
        evidence=_counts(share, shown),
    )


def _counts(share: _Share, pairs: _Pairs) -> str:
    total, part = sum(n for n, _ in pairs), sum(k for _, k in pairs)
    if not share.is_count:
        return f"{quantity(part, 'seconds')} of {quantity(total, 'seconds')}"
    return f"{part:,} of {total:,} calls"


def _most_in(share: _Share, rows: Rows) -> str:
    """Name the model in which the part is largest, if there are several."""
    found = [row for row in rows["shares_by_model"] if row["is_now"] and row[share.of]]
    if len(found) < 2:  # noqa: PLR2004
        return ""
    worst = max(found, key=lambda row: row[share.name])
    if not worst[share.name]:
        return ""
    name = quantity(worst["model"], "text")
    return f" Most with {name}: {quantity(worst[share.name] / worst[share.of], 'share')}."


# --- quantiles ----------------------------------------------------------------------------


def _quantiles(rows: Rows) -> Iterator[Finding]:
    values: dict[tuple[str, int], dict[str, Any]] = {}
    for row in (*rows["quantiles"], *rows["quantiles_of_rates"]):
        values.setdefault((row["model"], row["is_now"]), {}).update(row)
    for model in dict.fromkeys(model for model, _ in values):
        before, now = values.get((model, 0)), values.get((model, 1))
        if before is None or now is None:
            continue
        found = []
        for measure in _QUANTILE_MEASURES:
            beyond = [row for row in rows[measure.beyond] if row["model"] == model]
            found.append(_change_of_quantile(measure, before, now, beyond))
        yield from _without_repetition([finding for finding in found if finding is not None])


def _change_of_quantile(
    measure: _Quantile, before: _Row, now: _Row, beyond: Sequence[_Row]
) -> Finding | None:
    earlier, later = before[measure.name], now[measure.name]
    if not earlier or later is None or abs(later / earlier - 1) < MIN_CHANGE:
        return None
    pairs = _parts(beyond, f"{measure.name}_known", measure.name)
    value = score(*pairs)
    if value is None or abs(value) < MIN_SCORE or (value > 0) != (later > earlier):
        return None
    counts = [f"{sum(n for n, _ in part):,}" for part in pairs]
    title, name = DEFINITIONS[measure.name].title, quantity(now["model"], "text")
    return Finding(
        kind="worse" if (later > earlier) != measure.is_less_worse else "better",
        measure=measure.name,
        subject=now["model"],
        value=later,
        before=earlier,
        unit=measure.unit,
        section="latency",
        text=f"{title}, {name}: {quantity(later, measure.unit)}, "
        f"before {quantity(earlier, measure.unit)} ({change(earlier, later)}).",
        evidence=f"{counts[1]} calls now, {counts[0]} before; {abs(value):.1f} standard errors",
    )


def _without_repetition(found: Sequence[Finding]) -> Iterator[Finding]:
    """Leave out the p95 of the duration if the median changed the same way."""
    medians = {finding.kind for finding in found if finding.measure == "duration_p50"}
    for finding in found:
        if finding.measure != "duration_p95" or finding.kind not in medians:
            yield finding


# --- traffic ------------------------------------------------------------------------------


def _traffic(rows: Sequence[_Row], period: Period) -> Iterator[Finding]:
    before, now = _parts(rows, "calls", "calls")
    lengths = (
        (period.now - period.before).total_seconds(),
        (period.end - period.now).total_seconds(),
    )
    if not (_is_enough(before) and _is_enough(now)):
        return
    (earlier, error), (later, other) = (
        _per_interval([n for n, _ in part], max(1.0, length / period.coarse))
        for part, length in zip((before, now), lengths, strict=True)
    )
    ratio = later / earlier
    value = (later - earlier) / math.sqrt(error + other) if error + other else math.inf
    if max(ratio, 1 / ratio) < MIN_TRAFFIC or abs(value) < MIN_SCORE:
        return
    hourly = [number * 3600 / period.coarse for number in (earlier, later)]
    yield Finding(
        kind="changed",
        measure="calls",
        subject=None,
        value=hourly[1],
        before=hourly[0],
        unit="number",
        section="tokens",
        text=f"Calls per hour: {quantity(hourly[1], 'number')}, before "
        f"{quantity(hourly[0], 'number')} ({change(*hourly)}).",
        evidence=f"{abs(value):.1f} standard errors",
    )


def _per_interval(counts: Sequence[float], intervals: float) -> tuple[float, float]:
    """Return the mean of counts, intervals without any included, and its variance."""
    mean = sum(counts) / intervals
    squares = sum((count - mean) ** 2 for count in counts)
    squares += max(0.0, intervals - len(counts)) * mean**2
    return mean, squares / max(1.0, intervals - 1) / intervals
