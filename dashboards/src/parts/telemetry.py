"""Panels on model management and on the health of the telemetry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.panels import Panel, Target, Text, bars, graph, stat
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB, or_zero, per_minute
from dashboards.src.vocabulary import FAILED, RANGE, REFUSED, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

__all__ = ["MANAGING", "TELEMETRY"]

_MANAGEMENT: Final = (names.OLLAMA_OPERATION_NAME,)
_COMPONENT: Final = (names.COMPONENT_TYPE, names.ERROR_TYPE)
_EXPORTS: Final = (*_COMPONENT, names.HTTP_STATUS)
_REFUSED: Final = RANGE.count_total(
    rows.SDK_EXPORT_DURATION, by=(names.COMPONENT_TYPE, names.HTTP_STATUS), where=REFUSED
)
_NO_MANAGEMENT: Final = "no management calls in this time"

MANAGING: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Management operations",
            means="Model-management calls per minute: list, pull, create, load, unload, ...",
            do="For failures, search Jaeger for the operation.",
            no_value=_NO_MANAGEMENT,
        ),
        Target(
            query=per_minute(Q.count(rows.MANAGEMENT_DURATION, by=(*_MANAGEMENT, names.OUTCOME))),
            legend=legend(*_MANAGEMENT, names.OUTCOME),
        ),
        unit="suffix:/min",
        width=8,
    ),
    graph(
        Text(
            title="Duration of management operations, p90",
            means="90 % of the calls took at most this long, interpolated within a histogram "
            "bucket.",
            do="Slow pulls: the network or the disk. Slow lists: a busy server.",
            no_value=_NO_MANAGEMENT,
        ),
        Target(
            query=Q.quantile(0.9, rows.MANAGEMENT_DURATION, by=_MANAGEMENT),
            legend=legend(*_MANAGEMENT),
        ),
        unit="s",
        width=8,
    ),
    graph(
        Text(
            title="Transfers",
            means="Bytes transferred by pulling and pushing models, per second.",
            do="Slow: the network or the registry. Repeat a pull that hangs; it resumes.",
            no_value="no transfers in this time",
        ),
        Target(
            query=Q.rate(rows.TRANSFER_SIZE, by=_MANAGEMENT),
            legend=legend(*_MANAGEMENT),
        ),
        unit="Bps",
        width=8,
    ),
)

TELEMETRY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Spans exported",
            means="Spans whose export finished, per minute; with an error if it failed.",
            do="Failed: the collector is down, rejects spans or is too slow. Metrics stay "
            "correct, traces are missing.",
            no_value="no exports, or no self-metrics of the SDK",
        ),
        Target(
            query=per_minute(Q.rate(rows.SDK_SPANS_EXPORTED, by=_COMPONENT)),
            legend=legend(*_COMPONENT),
        ),
        unit="suffix:/min",
        width=8,
    ),
    graph(
        Text(
            title="Data points exported",
            means="Metric data points whose export finished, per minute; with an error if it "
            "failed.",
            do="Failed exports leave gaps on all boards: check address and limits of the receiver.",
            no_value="metrics are scraped, or no self-metrics of the SDK",
        ),
        Target(
            query=per_minute(Q.rate(rows.SDK_POINTS_EXPORTED, by=_COMPONENT)),
            legend=legend(*_COMPONENT),
        ),
        unit="suffix:/min",
        width=8,
    ),
    graph(
        Text(
            title="Mean duration of exports",
            means="Mean time of the exports of spans or metrics; failed ones with their error or "
            "HTTP status. A mean, as the first bucket of the SDK ends at 5 s.",
            do="Near the timeout (10 s): the collector is slow or far away; spans are dropped "
            "once the queue is full.",
            no_value="no exports, or no self-metrics of the SDK",
        ),
        Target(
            query=Q.mean(rows.SDK_EXPORT_DURATION, by=_EXPORTS),
            legend=legend(*_EXPORTS),
        ),
        unit="s",
        width=8,
    ),
    stat(
        Text(
            title="Spans dropped before export",
            means="Spans dropped in the time range, as the queue of the SDK was full or shut down.",
            do="Above 0: raise OTEL_BSP_MAX_QUEUE_SIZE, or make the collector faster.",
            no_value="unknown",
        ),
        Target(
            query=or_zero(
                RANGE.total(rows.SDK_SPANS_PROCESSED, where=FAILED),
                RANGE.total(rows.SDK_SPANS_PROCESSED),
            )
        ),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        width=8,
        height=6,
    ),
    bars(
        Text(
            title="Failed exports",
            means="Failed exports in the time range, by exporter and error or HTTP status. The "
            "panels above count exports answered with 400 or 503 as exported, as the SDK does; "
            "this one does not.",
            do="400: the receiver does not understand the data. 401, 403: credentials. 413: use "
            "smaller batches. 503 or no connection: the receiver is down or overloaded.",
            no_value="none seen",
        ),
        Target(
            query="sort_desc("
            f"{RANGE.count_total(rows.SDK_EXPORT_DURATION, by=_COMPONENT, where=FAILED)} > 0)",
            legend=legend(*_COMPONENT),
        ),
        Target(
            query=f"sort_desc({_REFUSED} > 0)",
            legend=legend(names.COMPONENT_TYPE, names.HTTP_STATUS),
        ),
        unit="locale",
        decimals=0,
        steps=((None, "red"),),
        width=8,
        height=6,
    ),
    bars(
        Text(
            title="Dropped from the replay log",
            means="Bodies and lines dropped from the replay log in the time range.",
            do="Above 0: the disk is full or slow, or bodies exceed the limit of the log.",
            no_value="no log",
        ),
        Target(
            query=RANGE.total(rows.LOG_DROPPED, by=(names.LOG_ITEM,)),
            legend=legend(names.LOG_ITEM),
        ),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        width=8,
        height=6,
    ),
    graph(
        Text(
            title="Lines waiting for the replay log",
            means="Lines that are not yet in the file, by app; a few are normal.",
            do="Rising: the disk is full, read-only, slow or gone. From 20,000 lines on, further "
            "ones are dropped; bodies earlier.",
            no_value="no replay log",
        ),
        Target(query=Q.gauge(rows.LOG_PENDING, by=(JOB,)), legend=f"{{{{{JOB}}}}}"),
        unit="locale",
        width=12,
    ),
    graph(
        Text(
            title="Failed writes of the replay log",
            means="Failed attempts to write the replay log per minute, by app. Each is repeated, "
            "at the latest after 5 s.",
            do="Above 0: read the warning of ollama_otel in the log of the app; it has the error "
            "of the operating system.",
            no_value="no replay log",
        ),
        Target(
            query=per_minute(Q.rate(rows.LOG_FAILED_WRITES, by=(JOB,))), legend=f"{{{{{JOB}}}}}"
        ),
        unit="suffix:/min",
        width=12,
    ),
)
