"""Panels on models in memory, and on their loads and unloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, table
from dashboards.src.queries import BOARD as Q
from dashboards.src.vocabulary import BY_LISTED_MODEL, RANGE, SERVER_LEGEND, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["CHANGES", "HELD"]

_MODEL: Final = legend(names.MODEL_NAME)
_ON_SERVER: Final = f"{_MODEL} on {SERVER_LEGEND}"
_ADDRESS: Final = label_name(names.SERVER_ADDRESS)
_PORT: Final = label_name(names.SERVER_PORT)
_NAME: Final = label_name(names.MODEL_NAME)
_NO_CHANGE: Final = "none observed in this time"
_WATCHED: Final = "Highest count of any process; too low after that process was restarted."

HELD: Final[Sequence[Panel]] = (
    table(
        Text(
            title="In memory now",
            means="The models in memory of each server: memory, share on the GPU, context "
            "length per request, and time until an idle model is unloaded.",
            do="A GPU share below 100 % is slow, and below 10 % the model runs on the CPU: lower "
            "`num_ctx`, use a smaller quantization or free GPU memory. No expiry: the model stays "
            "until it is unloaded on request.",
            no_value="no model in memory, or no server watched",
        ),
        {
            _NAME: Column(title="Model"),
            _ADDRESS: Column(title="Server"),
            _PORT: Column(title="Port"),
            "gpu": Column(
                title="GPU memory",
                query=Q.gauge(
                    rows.MEMORY_USAGE,
                    by=BY_LISTED_MODEL,
                    where={names.MEMORY_TYPE: '="gpu"'},
                    how="max",
                ),
                unit="bytes",
                decimals=1,
            ),
            "cpu": Column(
                title="CPU memory",
                query=Q.gauge(
                    rows.MEMORY_USAGE,
                    by=BY_LISTED_MODEL,
                    where={names.MEMORY_TYPE: '="cpu"'},
                    how="max",
                ),
                unit="bytes",
                decimals=1,
            ),
            "share": Column(
                title="GPU share",
                query=Q.gauge(rows.GPU_SHARE, by=BY_LISTED_MODEL, how="max"),
                unit="percentunit",
                decimals=0,
                steps=((None, "red"), (0.5, "orange"), (0.95, "green")),
            ),
            "context": Column(
                title="Context",
                query=Q.gauge(rows.CONTEXT_LENGTH, by=BY_LISTED_MODEL, how="max"),
                unit="suffix:tokens",
                decimals=0,
            ),
            "expiry": Column(
                title="Unloaded in",
                query=Q.gauge(rows.EXPIRY, by=BY_LISTED_MODEL, how="max"),
                unit="s",
                decimals=0,
            ),
        },
    ),
    graph(
        Text(
            title="Memory by model and type",
            means="Memory used by the models, on GPU and CPU.",
            do="A growing CPU share on a machine with a GPU: GPU memory is full.",
            no_value="no model in memory, or no server watched",
        ),
        Target(
            query=Q.gauge(rows.MEMORY_USAGE, by=(*BY_LISTED_MODEL, names.MEMORY_TYPE), how="max"),
            legend=f"{legend(names.MEMORY_TYPE)} {_ON_SERVER}",
        ),
        unit="bytes",
        decimals=1,
        is_stacked=True,
    ),
    graph(
        Text(
            title="GPU share by model",
            means="Fraction of each model that is in GPU memory: 100 % is all of it. Below 10 % "
            "the model runs on the CPU: only buffers are on the GPU.",
            do="Drops if another model or a longer context needs memory; see evictions and "
            "reloads. Without a GPU it is always 0 %.",
            no_value="no model in memory, or no server watched",
        ),
        Target(query=Q.gauge(rows.GPU_SHARE, by=BY_LISTED_MODEL, how="max"), legend=_ON_SERVER),
        unit="percentunit",
        decimals=0,
        maximum=1,
    ),
    graph(
        Text(
            title="Context length by model",
            means="Context length per request, in tokens.",
            do="Steps up and down: callers send different `num_ctx`, and each change reloads "
            "the model. Use one value.",
            no_value="no model in memory, or no server watched",
        ),
        Target(
            query=Q.gauge(rows.CONTEXT_LENGTH, by=BY_LISTED_MODEL, how="max"), legend=_ON_SERVER
        ),
        unit="suffix:tokens",
        decimals=0,
    ),
    graph(
        Text(
            title="Time until idle models are unloaded",
            means="Time until each model is unloaded if it gets no calls; every call resets it.",
            do="Often near 0 between calls: raise `keep_alive`, or the next call is a cold start.",
            no_value="no model that expires, or no server watched",
        ),
        Target(query=Q.gauge(rows.EXPIRY, by=BY_LISTED_MODEL, how="max"), legend=_ON_SERVER),
        unit="s",
        decimals=0,
    ),
)

CHANGES: Final[Sequence[Panel]] = (
    bars(
        Text(
            title="Loads by model",
            means=f"Number of loads of each model in the time range. {_WATCHED}",
            do="More than a few per hour: raise `keep_alive`, or see the causes in the other "
            "panels.",
            no_value=_NO_CHANGE,
        ),
        Target(query=RANGE.watched_total(rows.LOADS, by=(names.MODEL_NAME,)), legend=_MODEL),
        unit="short",
        decimals=0,
        width=8,
    ),
    bars(
        Text(
            title="Unloads by reason",
            means=f"Why models were unloaded in the time range. {_WATCHED}",
            do="Expiry is the usual reason. Evictions: memory or the number of loaded models is "
            "limited.",
            no_value=_NO_CHANGE,
        ),
        Target(
            query=RANGE.watched_total(rows.UNLOADS, by=(names.UNLOAD_REASON,)),
            legend=legend(names.UNLOAD_REASON),
        ),
        unit="short",
        decimals=0,
        width=8,
    ),
    bars(
        Text(
            title="Reloads by cause",
            means="Models that were loaded again, and the cause: an option that changed between "
            f"calls, or an eviction by another model. {_WATCHED}",
            do="An option such as `num_ctx`: send the same value from all callers. Another "
            "model: add memory, raise `OLLAMA_MAX_LOADED_MODELS`, or use another server.",
            no_value=_NO_CHANGE,
        ),
        Target(
            query=RANGE.watched_total(rows.RELOADS, by=(names.RELOAD_CAUSE,)),
            legend=legend(names.RELOAD_CAUSE),
        ),
        unit="short",
        decimals=0,
        steps=((None, "orange"),),
        width=8,
    ),
    graph(
        Text(
            title="Thrash: reloads by model and cause, in 15 minutes",
            means="A server that loads a model again and again does little else. The alert "
            f"fires at 4 reloads in 15 minutes, all causes together. {_WATCHED}",
            do="The legend names the cause; the runbook has a remedy for each.",
            no_value=_NO_CHANGE,
        ),
        Target(
            query=Q.over("15m").watched_total(
                rows.RELOADS, by=(names.MODEL_NAME, names.RELOAD_CAUSE)
            ),
            legend=legend(names.MODEL_NAME, names.RELOAD_CAUSE),
        ),
        unit="short",
        decimals=0,
        steps=((None, "green"), (4, "red")),
    ),
    table(
        Text(
            title="Evictions by model",
            means="Models that were unloaded to make room for another one, in the time range. "
            f"{_WATCHED}",
            do="Two models that evict each other need two servers, or more memory.",
            no_value=_NO_CHANGE,
        ),
        {
            _NAME: Column(title="Evicted"),
            label_name(names.EVICTED_BY): Column(title="Evicted by"),
            _ADDRESS: Column(title="Server"),
            _PORT: Column(title="Port"),
            "times": Column(
                title="Times",
                query=RANGE.watched_total(rows.EVICTIONS, by=(*BY_LISTED_MODEL, names.EVICTED_BY)),
                unit="short",
                decimals=0,
            ),
        },
        width=12,
        height=9,
    ),
)
