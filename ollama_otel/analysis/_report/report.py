"""Makes a report: runs the queries, and lets each section build its figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from msgspec.structs import replace

from ollama_otel._prices.values import Prices
from ollama_otel.analysis._report import attention
from ollama_otel.analysis._report.answers import computed
from ollama_otel.analysis._report.call_table import VIEWS, call_table, view_query
from ollama_otel.analysis._report.period import period_of
from ollama_otel.analysis._report.sections import (
    cold_starts,
    cuts,
    errors,
    latency,
    tokens,
    tools,
)
from ollama_otel.analysis._report.totals import TOTALS, totals
from ollama_otel.analysis._report.values import Period, Report, Rows, Section
from ollama_otel.analysis._store.calls import Calls
from ollama_otel.errors import AnalysisError

__all__ = ["SECTIONS", "report"]


class _SectionModule(Protocol):
    QUERIES: Mapping[str, str]

    def build(self, rows: Rows, period: Period) -> Section | None: ...


SECTIONS: Final[tuple[_SectionModule, ...]] = (latency, tokens, errors, cold_starts, cuts, tools)
_PARAMETER: Final = re.compile(r"\$(\w+)")


def report(
    calls: Calls,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    prices: Prices | None = None,
    is_quick: bool = False,
) -> Report:
    """Return the report on the calls that began from `since` on, and before `until`.

    They are compared to an equally long period before `since`, if `calls` covers it; otherwise the
    second half is compared to the first. Times without a zone are in UTC. Costs need `prices`;
    `is_quick` leaves out capacity and advice, which take most of the time. Raises `AnalysisError`
    if there are no calls, and `PriceError` if `prices` lack an entry.
    """
    known = calls.period()
    since, until = _in_utc(since), _in_utc(until)
    shown = calls.between(since, until)
    if known is None or not (total := len(shown)):
        raise AnalysisError(f"{calls.source} has no calls to report on")
    period = period_of(*known, since, until)
    compared = calls.between(period.before, until)
    earlier = calls.between(period.before, period.now)
    rows = _answers(compared, attention.QUERIES, period)
    period = replace(period, is_comparable=attention.is_comparable(rows))
    views = {name: shown.rows(view_query(view)) for name, view in VIEWS.items()}
    built = (module.build(_answers(shown, module.QUERIES, period), period) for module in SECTIONS)
    return Report(
        source=calls.source,
        period=period,
        totals=totals(
            shown.rows(TOTALS)[0],
            earlier.rows(TOTALS)[0] if period.compares == "period_before" else None,
        ),
        findings=attention.findings(rows, period),
        calls=call_table(views, total),
        sections=(
            *(section for section in built if section is not None),
            *computed(calls, shown, prices, period.start, period.end, is_quick=is_quick),
        ),
        skipped=len(calls.skipped),
    )


def parameters(sql: str, period: Period) -> dict[str, Any]:
    """Return the values of the parameters that a query has."""
    values = {
        "bucket": period.bucket,
        "coarse": period.coarse,
        "now": period.now.astimezone(UTC).replace(tzinfo=None),
    }
    return {name: values[name] for name in _PARAMETER.findall(sql)}


def _answers(calls: Calls, queries: Mapping[str, str], period: Period) -> Rows:
    return {name: calls.rows(sql, **parameters(sql, period)) for name, sql in queries.items()}


def _in_utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
