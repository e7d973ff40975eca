"""Panels on errors, outcomes and finish reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.colors import (
    FINISH_REASONS,
    SHARE_OF_FAILURES,
)
from dashboards.src.links import cell, to_traces
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, table
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB, per_minute, share
from dashboards.src.vocabulary import (
    FAILED,
    GENAI,
    RANGE,
    TOKENS,
    legend,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["OUTCOME_PANELS"]

_DURATION: Final = GENAI.inference_duration
_START: Final = GENAI.time_to_first_chunk
_CALLS_BY_APP: Final = f"({RANGE.count_total(_DURATION, by=(JOB,))} > 0)"

OUTCOME_PANELS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Errors by type",
            means="Failed calls per minute, by `error.type`. The first error of a type in a "
            "process appears in the table only, as a rate needs two samples.",
            do="connect: the server is down or the address is wrong. model_not_found: pull the "
            "model. The runbook of OllamaErrorRate explains the others.",
            no_value="no errors in this time",
        ),
        Target(
            query=per_minute(Q.count(_DURATION, by=(names.ERROR_TYPE,), where=FAILED)),
            legend=legend(names.ERROR_TYPE),
        ),
        unit="suffix:/min",
        is_stacked=True,
        is_bars=True,
    ),
    table(
        Text(
            title="Errors by app and type",
            means="Failed calls in the time range.",
            do="Start with the first row; a click on it searches Jaeger for the traces.",
            no_value="no errors in this time",
        ),
        {
            JOB: Column(title="App"),
            label_name(names.ERROR_TYPE): Column(
                title="Error",
                links=[
                    to_traces(
                        "Traces of these calls",
                        app=cell("App"),
                        tags={names.ERROR_TYPE: cell("Error")},
                    )
                ],
            ),
            "calls": Column(
                title="Calls",
                query=f"{RANGE.count_total(_DURATION, by=(JOB, names.ERROR_TYPE), where=FAILED)}"
                " > 0",
                unit="locale",
                decimals=0,
                width=90,
            ),
        },
        sort="Calls",
        width=12,
    ),
    graph(
        Text(
            title="Finish reasons",
            means="Completed calls of chat and generate per minute, by finish reason. stop: the "
            "model ended its answer. length: the answer was cut at `num_predict` or at the end of "
            "the context. tool_call: the model called tools.",
            do="Many with length: raise `num_predict` or `num_ctx`, or ask for shorter answers.",
        ),
        Target(
            query=per_minute(
                Q.rate(
                    rows.FINISH_REASONS,
                    by=(names.FINISH_REASON,),
                    where={names.FINISH_REASON: '!=""'},
                )
            ),
            legend=legend(names.FINISH_REASON),
        ),
        Target(
            query=per_minute(Q.rate(rows.FINISH_REASONS, where={names.FINISH_REASON: '=""'})),
            legend="none reported",
        ),
        unit="suffix:/min",
        colors={**FINISH_REASONS, "none reported": "text"},
        is_stacked=True,
        width=10,
    ),
    bars(
        Text(
            title="Outcomes",
            means="Calls in the time range, by outcome.",
            do="Compare with the usual numbers of the app; a chat app always has some abandoned "
            "calls.",
            no_value="no calls",
        ),
        Target(
            query=f"sort_desc({RANGE.count_total(_DURATION, by=(names.OUTCOME,))} > 0)",
            legend=legend(names.OUTCOME),
        ),
        unit="locale",
        decimals=0,
    ),
    table(
        Text(
            title="By app",
            means="Calls of each app in the time range, the share that failed, and tokens.",
            do="An app with far more calls or tokens than expected may repeat its calls.",
        ),
        {
            JOB: Column(title="App"),
            "calls": Column(
                title="Calls", query=_CALLS_BY_APP, unit="locale", decimals=0, width=75
            ),
            "failed": Column(
                title="Failed",
                query=share(RANGE.count_total(_DURATION, by=(JOB,), where=FAILED), _CALLS_BY_APP),
                unit="percentunit",
                decimals=1,
                steps=SHARE_OF_FAILURES,
                width=70,
            ),
            "tokens": Column(
                title="Tokens",
                query=f"{RANGE.sum_total(TOKENS, by=(JOB,))} > 0",
                unit="locale",
                decimals=0,
                width=100,
            ),
        },
        sort="Calls",
        width=8,
    ),
)
