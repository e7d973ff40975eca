"""Panels on limiters, retries, breakers and fallbacks of the apps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.panels import Panel, Target, Text, graph
from dashboards.src.parts.models import of_busiest
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import per_minute
from dashboards.src.vocabulary import BY_MODEL, BY_SERVER, SERVER_LEGEND, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

__all__ = ["RESILIENCE"]

_NONE: Final = "no client has resilience="

RESILIENCE: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Wait in the limiter by model, p90",
            means="p90 of the calls that waited in the queue of the app's limiter; the eight "
            "models with most calls.",
            do="Long: more calls arrive than the limiter lets through. Raise its limits if the "
            "server has slots free, or add servers.",
            no_value=_NONE,
        ),
        of_busiest(Q.quantile(0.9, rows.LIMITER_WAIT, by=BY_MODEL)),
        unit="s",
        width=8,
    ),
    graph(
        Text(
            title="Calls in limiters",
            means="Calls that have a slot (lines), and calls that wait for one (dashed).",
            do="Many wait while few have a slot: the limit is a rate, not the concurrency.",
            no_value=_NONE,
        ),
        Target(query=Q.gauge(rows.LIMITER_ACTIVE, by=BY_SERVER), legend=SERVER_LEGEND),
        Target(
            query=Q.gauge(rows.LIMITER_WAITING, by=BY_SERVER),
            legend=f"waiting {SERVER_LEGEND}",
            is_limit=True,
        ),
        unit="locale",
        width=8,
    ),
    graph(
        Text(
            title="Open circuits",
            means="Circuits of the apps that are open or half-open: the server gets no calls, or "
            "only probes.",
            do="See the errors of the calls before: the server is down or overloaded.",
            no_value=_NONE,
        ),
        Target(query=Q.gauge(rows.OPEN_CIRCUITS, by=BY_SERVER), legend=SERVER_LEGEND),
        unit="locale",
        width=8,
    ),
    graph(
        Text(
            title="Repeated attempts by error",
            means="Failed attempts per minute that were followed by another attempt.",
            do="The calls may have succeeded all the same; look for the cause of the error.",
            no_value="no attempt was repeated",
        ),
        Target(
            query=per_minute(Q.rate(rows.RETRIES, by=(names.ERROR_TYPE,))),
            legend=legend(names.ERROR_TYPE),
        ),
        unit="suffix:/min",
        width=8,
    ),
    graph(
        Text(
            title="Rejected calls by reason",
            means="Calls per minute that were not sent.",
            do="queue_full, queue_timeout: the limiter. circuit_open: the server fails. deadline: "
            "the time had run out before the call was sent.",
            no_value="no call was rejected",
        ),
        Target(
            query=per_minute(Q.rate(rows.REJECTIONS, by=(names.REJECTION,))),
            legend=legend(names.REJECTION),
        ),
        unit="suffix:/min",
        width=8,
    ),
    graph(
        Text(
            title="Calls served by a fallback",
            means="Calls per minute that another server or model served, by that server.",
            do="The requested server or model fails: see its errors.",
            no_value="no call fell back",
        ),
        Target(query=per_minute(Q.rate(rows.FALLBACKS, by=BY_SERVER)), legend=SERVER_LEGEND),
        unit="suffix:/min",
        width=8,
    ),
)
