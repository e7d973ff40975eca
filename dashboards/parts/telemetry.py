"""What is no inference, and whether what we tell arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.panels import Panel, Target, Text, bars, graph, stat
from dashboards.promql import BOARD as Q
from dashboards.vocabulary import FAILED, RANGE, REFUSED, legend
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names

__all__ = ["MANAGING", "TELEMETRY"]

_MANAGEMENT: Final = (names.OLLAMA_OPERATION_NAME,)
_COMPONENT: Final = (names.COMPONENT_TYPE, names.ERROR_TYPE)
_NO_MANAGEMENT: Final = "no management in this time"

MANAGING: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Management operations",
            means="What is no inference: listing, pulling, creating, loading and unloading.",
            do="Failures are in the table of spans in Jaeger: search for the operation.",
            no_value=_NO_MANAGEMENT,
        ),
        Target(
            query=Q.count(rows.MANAGEMENT_DURATION, by=(*_MANAGEMENT, names.OUTCOME)),
            legend=legend(*_MANAGEMENT, names.OUTCOME),
        ),
        unit="suffix:calls/s",
        decimals=3,
        width=8,
    ),
    graph(
        Text(
            title="Duration of management operations, p90",
            means="Nine of ten took no longer; exact to the bucket.",
            do="A slow pull is the network or the disk; a slow list is a busy server.",
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
            means="Bytes of models moved by pulls and pushes, per second.",
            do="Slow: the network, or the registry; a pull that stands still can be repeated, it "
            "goes on where it was.",
            no_value="no transfers in this time",
        ),
        Target(
            query=Q.rate(rows.TRANSFER_SIZE, by=_MANAGEMENT),
            legend=legend(*_MANAGEMENT),
        ),
        unit="Bps",
        decimals=1,
        width=8,
    ),
)

TELEMETRY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Spans exported",
            means="Spans whose export ended, per second; with an error those that were lost.",
            do="Lost ones: the collector is down, refuses them or is too slow. Boards of metrics "
            "stay right, traces are missing.",
            no_value="nothing is sent, or the SDK tells nothing of itself",
        ),
        Target(
            query=Q.rate(rows.SDK_SPANS_EXPORTED, by=_COMPONENT),
            legend=legend(*_COMPONENT),
        ),
        unit="suffix:spans/s",
        decimals=2,
        width=8,
    ),
    graph(
        Text(
            title="Data points exported",
            means="Data points of metrics whose export ended, per second; with an error those that "
            "were lost.",
            do="Lost ones make gaps in all boards: check the address and the limits of what takes "
            "them.",
            no_value="metrics are fetched, or the SDK tells nothing of itself",
        ),
        Target(
            query=Q.rate(rows.SDK_POINTS_EXPORTED, by=_COMPONENT),
            legend=legend(*_COMPONENT),
        ),
        unit="suffix:points/s",
        decimals=2,
        width=8,
    ),
    graph(
        Text(
            title="Time of exports, p90",
            means="Nine of ten exports, of spans or of metrics, took no longer; failed ones with "
            "their error or HTTP status.",
            do="Near the time-out (10 s): the collector is slow or far; spans pile up meanwhile "
            "and are dropped when the queue is full.",
            no_value="nothing is sent, or the SDK tells nothing of itself",
        ),
        Target(
            query=Q.quantile(0.9, rows.SDK_EXPORT_DURATION, by=(*_COMPONENT, names.HTTP_STATUS)),
            legend=legend(*_COMPONENT, names.HTTP_STATUS),
        ),
        unit="s",
        width=8,
    ),
    stat(
        Text(
            title="Spans dropped before export",
            means="Spans in the time shown that found the SDK's queue full, or its end.",
            do="Above 0: raise OTEL_BSP_MAX_QUEUE_SIZE, or make the collector faster.",
            no_value="0",
        ),
        Target(query=RANGE.total(rows.SDK_SPANS_PROCESSED, where=FAILED)),
        unit="short",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        width=8,
        height=6,
    ),
    bars(
        Text(
            title="Failed exports",
            means="Exports in the time shown that failed, by exporter and error or HTTP status. "
            "What an answer of 400 or 503 refuses, the SDK counts as exported on the panels "
            "above; here it is a failure.",
            do="400: the receiver does not know the data. 401, 403: keys. 413: smaller batches. "
            "503 or no connection: the receiver is down or full.",
            no_value="no export failed",
        ),
        Target(
            query=RANGE.count_total(rows.SDK_EXPORT_DURATION, by=_COMPONENT, where=FAILED),
            legend=legend(*_COMPONENT),
        ),
        Target(
            query=RANGE.count_total(
                rows.SDK_EXPORT_DURATION,
                by=(names.COMPONENT_TYPE, names.HTTP_STATUS),
                where=REFUSED,
            ),
            legend=legend(names.COMPONENT_TYPE, names.HTTP_STATUS),
        ),
        unit="short",
        decimals=0,
        steps=((None, "red"),),
        width=8,
        height=6,
    ),
    bars(
        Text(
            title="Left out of the replay log",
            means="Bodies and lines that the replay log had to leave out in the time shown.",
            do="Above 0: the disk is full or slow, or bodies are larger than the log's limit.",
            no_value="no replay log",
        ),
        Target(
            query=RANGE.total(rows.LOG_DROPPED, by=(names.LOG_ITEM,)),
            legend=legend(names.LOG_ITEM),
        ),
        unit="short",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        width=8,
        height=6,
    ),
)
