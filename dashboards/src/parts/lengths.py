"""Panels on the lengths of prompts and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.busiest import busiest
from dashboards.src.panels import Column, Panel, Target, Text, graph, heat_map, table
from dashboards.src.parts.latencies import (
    OF_ROW,
    PLAIN_MODEL,
    bounds,
)
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import MODEL, by_plain_model, highest, not_nan, per_minute
from dashboards.src.vocabulary import (
    BY_MODEL,
    INPUT,
    OUTPUT,
    RANGE,
    TOKENS,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

__all__ = ["LENGTHS"]

_PROMPT_MEAN: Final = highest(
    by_plain_model(busiest(Q.mean(TOKENS, by=BY_MODEL, where=INPUT)), names.REQUEST_MODEL)
)
# Servers may give a model different contexts; the shortest one cuts prompts first.
_CONTEXT: Final = highest(
    by_plain_model(
        Q.gauge(rows.CONTEXT_LENGTH, by=(names.MODEL_NAME,), how="min"), names.MODEL_NAME
    )
)
_PROMPT_P99_TOTAL: Final = highest(
    by_plain_model(
        not_nan(RANGE.quantile_total(0.99, TOKENS, by=BY_MODEL, where=INPUT)), names.REQUEST_MODEL
    )
)
_PROMPT_MEAN_TOTAL: Final = highest(
    by_plain_model(not_nan(RANGE.mean_total(TOKENS, by=BY_MODEL, where=INPUT)), names.REQUEST_MODEL)
)
_SHORTEST: Final = "shortest context"
_LONGEST_PROMPT: Final = 4.0**10
_LONGEST_OUTPUT: Final = 4.0**8


LENGTHS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Prompt tokens per call by model",
            means="Mean prompt tokens of a call, as counted by the server; the eight models with "
            "most calls. Dashed: the shortest context length of these models, if residency is on; "
            "the table has each.",
            do="Above half of the dashed line: the server cuts the longest prompts silently. Raise "
            "`num_ctx`, or shorten the history. The context also holds the response.",
        ),
        Target(query=_PROMPT_MEAN, legend=PLAIN_MODEL),
        Target(
            query=f"min({_CONTEXT} and on ({MODEL}) {_PROMPT_MEAN})",
            legend=_SHORTEST,
            is_limit=True,
        ),
        unit="locale",
        colors={_SHORTEST: "text"},
        width=8,
    ),
    table(
        Text(
            title="Prompts against the context",
            means="Tokens of the prompts of each model in the time range: their mean, which is "
            "exact, and p99, which is rough, as each bucket is four times as long as the one "
            "before. The context length is that of the model in memory now. `:latest` is omitted "
            "from names.",
            do="A mean above half of the context, or p99 near it: the server cuts long prompts "
            "silently. Raise `num_ctx`, or shorten the history.",
        ),
        {
            MODEL: Column(title="Model", links=OF_ROW, is_name=True),
            "mean": Column(
                title="Mean", query=_PROMPT_MEAN_TOTAL, unit="locale", decimals=0, width=90
            ),
            "p99": Column(
                title="p99", query=_PROMPT_P99_TOTAL, unit="locale", decimals=0, width=90
            ),
            "context": Column(title="Context", query=_CONTEXT, unit="locale", decimals=0, width=90),
            "filled": Column(
                title="Mean of context",
                query=f"{_PROMPT_MEAN_TOTAL} / on ({MODEL}) {_CONTEXT}",
                unit="percentunit",
                decimals=0,
                steps=((None, "green"), (0.5, "orange"), (0.9, "red")),
                width=145,
            ),
        },
        sort="p99",
        width=16,
    ),
    heat_map(
        Text(
            title="Prompt lengths",
            means="Calls per minute, by prompt tokens as counted by the server.",
            do="A band that moves up: histories or documents became longer; each prompt takes "
            "longer to evaluate.",
        ),
        per_minute(
            f"({Q.heat_map(TOKENS, where=INPUT, bounds=bounds(TOKENS, 4, _LONGEST_PROMPT))})"
        ),
        unit="locale",
    ),
    heat_map(
        Text(
            title="Output lengths",
            means="Calls per minute, by generated tokens.",
            do="Much longer than needed: set `num_predict`, or ask for shorter responses; time "
            "grows in proportion to tokens.",
        ),
        per_minute(
            f"({Q.heat_map(TOKENS, where=OUTPUT, bounds=bounds(TOKENS, 1, _LONGEST_OUTPUT))})"
        ),
        unit="locale",
    ),
)
