"""Panels on models in memory, and on their loads and unloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.busiest import MOST_LOADED, longest_loaded
from dashboards.src.colors import GPU_SHARE, GPU_SHARE_BOUNDS, GPU_SHARE_LEVELS
from dashboards.src.links import CLICKED, LATENCY, SERVER, cell, to_board
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, states, table
from dashboards.src.parts.servers import of_row, server_columns
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import MODEL, at_server, by_plain_model, level, top_by
from dashboards.src.vocabulary import BY_LISTED_MODEL, BY_SERVER, RANGE, RANK, SERVER_LEGEND, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["CHANGES", "COURSE", "EVICTIONS", "HELD", "SHARE"]

_MODEL: Final = legend(names.MODEL_NAME)
_ON_SERVER: Final = f"{_MODEL} on {SERVER_LEGEND}"
_NAME: Final = label_name(names.MODEL_NAME)
_EVICTED_BY: Final = label_name(names.EVICTED_BY)
_CAUSE: Final = label_name(names.RELOAD_CAUSE)
_NO_MODEL: Final = "no model in memory, or no server watched"
_NO_CHANGE: Final = "none in this time, or no server watched"
_WATCHED: Final = "Highest count of any process; too low after that process was restarted."
_MOST_LINES: Final = 8

_EVICTED: Final = RANGE.watched_total(rows.EVICTIONS, by=(*BY_LISTED_MODEL, names.EVICTED_BY))
_LOADS: Final = RANGE.watched_total(rows.LOADS, by=BY_LISTED_MODEL)
_RELOADED: Final = RANGE.watched_total(rows.RELOADS, by=(*BY_LISTED_MODEL, names.RELOAD_CAUSE))
SHARE: Final = Q.gauge(rows.GPU_SHARE, by=BY_LISTED_MODEL, how="max")


_OF_MODEL: Final = to_board(
    LATENCY,
    "Latency of this model",
    model=f"{CLICKED}&var-model={cell('Name in calls')}",
)
"""Calls may name a model with or without `:latest`; the board shows those of both names."""


_SERVER_COLUMNS: Final = server_columns(of_row(SERVER, "Only this server"))


def _model_column(title: str = "Model") -> dict[str, Column]:
    """Return the column with the model of a row, and the hidden one that its link needs."""
    return {
        _NAME: Column(title=title, is_name=True, links=[_OF_MODEL]),
        MODEL: Column(title="Name in calls", is_hidden=True),
    }


def _named(query: str) -> str:
    """Add the labels that the columns of server and model need."""
    return at_server(by_plain_model(query, names.MODEL_NAME))


_MEMORY: Final = "sum by ({}) ({})".format(
    ", ".join(map(label_name, BY_LISTED_MODEL)),
    Q.gauge(rows.MEMORY_USAGE, by=(*BY_LISTED_MODEL, names.MEMORY_TYPE), how="max"),
)
"""On GPU and CPU together."""

HELD: Final = table(
    Text(
        title="In memory now",
        means="The models in memory of each server: share on the GPU, memory on GPU and CPU "
        "together, context length per request, and time until an idle model is unloaded.",
        do="A GPU share below 100 % is slow, and below 10 % the model runs on the CPU: lower "
        "`num_ctx`, use a smaller quantization or free GPU memory. No time to unload: the model "
        "stays until it is unloaded on request. A click opens the latency of that model.",
        no_value=_NO_MODEL,
    ),
    {
        **_model_column(),
        **_SERVER_COLUMNS,
        "share": Column(
            title="On GPU",
            query=_named(SHARE),
            unit="percentunit",
            decimals=0,
            steps=GPU_SHARE,
            width=85,
        ),
        "memory": Column(title="Memory", query=_named(_MEMORY), unit="bytes", decimals=1, width=95),
        "context": Column(
            title="Context",
            query=_named(Q.gauge(rows.CONTEXT_LENGTH, by=BY_LISTED_MODEL, how="max")),
            unit="locale",
            decimals=0,
            width=85,
        ),
        "expiry": Column(
            title="Unloaded in",
            query=_named(Q.gauge(rows.EXPIRY, by=BY_LISTED_MODEL, how="max")),
            unit="s",
            decimals=0,
            width=115,
        ),
    },
    sort="Memory",
    width=14,
)

EVICTIONS: Final = table(
    Text(
        title="Evictions by model",
        means=f"Models that were unloaded to make room for another one, in the time range. "
        f"{_WATCHED}",
        do="Two models that evict each other need two servers, or more memory.",
        no_value=_NO_CHANGE,
    ),
    {
        **_model_column("Evicted"),
        _EVICTED_BY: Column(title="Evicted by", is_name=True),
        **_SERVER_COLUMNS,
        "times": Column(
            title="Times",
            query=_named(f"({_EVICTED} > 0)"),
            unit="locale",
            decimals=0,
            width=65,
        ),
    },
    sort="Times",
    width=10,
)

COURSE: Final[Sequence[Panel]] = (
    states(
        Text(
            title="Models in memory, by share on the GPU",
            means=f"When each model was in memory, and how much of it was on the GPU: the "
            f"{MOST_LOADED} models that were in memory longest. CPU: nothing of the model is on a "
            "GPU. Under 10 % the model runs on the CPU, as only buffers are on the GPU.",
            do="A model that leaves the GPU lost its place to another model or to a longer "
            "context; see evictions and reloads. Short stays: raise `keep_alive`.",
            no_value=_NO_MODEL,
        ),
        Target(query=longest_loaded(level(SHARE, GPU_SHARE_BOUNDS)), legend=_ON_SERVER),
        words=GPU_SHARE_LEVELS,
        width=24,
        height=10,
    ),
    graph(
        Text(
            title="Memory of models by server",
            means="Memory used by the models of each server, on GPU and CPU.",
            do="A growing CPU share on a machine with a GPU: GPU memory is full.",
            no_value=_NO_MODEL,
        ),
        Target(
            query="sum by ({}) ({})".format(
                ", ".join(map(label_name, (*BY_SERVER, names.MEMORY_TYPE))),
                Q.gauge(rows.MEMORY_USAGE, by=(*BY_LISTED_MODEL, names.MEMORY_TYPE), how="max"),
            ),
            legend=f"{legend(names.MEMORY_TYPE)} {SERVER_LEGEND}",
        ),
        unit="bytes",
        is_stacked=True,
    ),
    graph(
        Text(
            title="Number of models in memory",
            means="Number of models in the memory of each server.",
            do="At `OLLAMA_MAX_LOADED_MODELS`, the next model evicts another one.",
            no_value="no server is watched",
        ),
        Target(query=Q.gauge(rows.MODELS_LOADED, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        unit="locale",
    ),
)

_MOST_RELOADED: Final = top_by(
    _MOST_LINES,
    Q.over("15m").watched_total(rows.RELOADS, by=(names.MODEL_NAME,)),
    rank=RANK.watched_total(rows.RELOADS, by=(names.MODEL_NAME,)),
    by=(names.MODEL_NAME,),
)

CHANGES: Final[Sequence[Panel]] = (
    table(
        Text(
            title="Loads by model",
            means=f"Number of loads of each model in the time range. {_WATCHED}",
            do="More than a few per hour: raise `keep_alive`, or see the causes in the other "
            "panels.",
            no_value=_NO_CHANGE,
        ),
        {
            **_model_column(),
            **_SERVER_COLUMNS,
            "times": Column(
                title="Times",
                query=_named(f"({_LOADS} > 0)"),
                unit="locale",
                decimals=0,
                width=65,
            ),
        },
        sort="Times",
        width=9,
    ),
    bars(
        Text(
            title="Unloads by reason",
            means=f"Why models were unloaded in the time range. {_WATCHED}",
            do="Expiry is the usual reason. Evictions: memory or the number of loaded models is "
            "limited.",
            no_value="none seen",
        ),
        Target(
            query=f"sort_desc({RANGE.watched_total(rows.UNLOADS, by=(names.UNLOAD_REASON,))} > 0)",
            legend=legend(names.UNLOAD_REASON),
        ),
        unit="locale",
        decimals=0,
        width=4,
    ),
    table(
        Text(
            title="Reloads by model and cause",
            means="Models that were loaded again in the time range, and the cause: an option that "
            f"changed between calls, or an eviction by another model. {_WATCHED}",
            do="An option such as `num_ctx`: send the same value from all callers. Another "
            "model: add memory, raise `OLLAMA_MAX_LOADED_MODELS`, or use another server.",
            no_value=_NO_CHANGE,
        ),
        {
            **_model_column(),
            _CAUSE: Column(title="Cause"),
            **_SERVER_COLUMNS,
            "times": Column(
                title="Times",
                query=_named(f"({_RELOADED} > 0)"),
                unit="locale",
                decimals=0,
                width=65,
            ),
        },
        sort="Times",
        width=11,
    ),
    graph(
        Text(
            title="Thrash: reloads in 15 minutes",
            means="A server that loads a model again and again does little else. All causes "
            f"together, of the {_MOST_LINES} models with most reloads in the time range. The alert "
            f"fires at 4 reloads in 15 minutes. {_WATCHED}",
            do="The table of reloads names the causes; the runbook has a remedy for each.",
            no_value=_NO_CHANGE,
        ),
        Target(query=f"round({_MOST_RELOADED})", legend=_MODEL),
        unit="locale",
        steps=((None, "green"), (4, "red")),
        width=24,
    ),
)
