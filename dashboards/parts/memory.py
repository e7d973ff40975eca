"""What the servers hold, and why it comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.panels import Column, Panel, Target, Text, bars, graph, table
from dashboards.promql import BOARD as Q
from dashboards.vocabulary import BY_LISTED_MODEL, RANGE, SERVER_LEGEND, legend
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel._telemetry.prometheus import label_name

__all__ = ["CHANGES", "HELD"]

_MODEL: Final = legend(names.MODEL_NAME)
_ON_SERVER: Final = f"{_MODEL} on {SERVER_LEGEND}"
_ADDRESS: Final = label_name(names.SERVER_ADDRESS)
_PORT: Final = label_name(names.SERVER_PORT)
_NAME: Final = label_name(names.MODEL_NAME)
_NO_CHANGE: Final = "none seen in this time"
_WATCHED: Final = (
    "As seen by the one process that saw most; too low after that process was restarted."
)

HELD: Final[Sequence[Panel]] = (
    table(
        Text(
            title="In memory now",
            means="Each model that a server holds: how much memory it takes, the part of it on the "
            "GPU, the context of each request, and when it goes if nobody calls it.",
            do="A GPU share below 100 % is slow: lower `num_ctx`, take a smaller quantization or "
            "free GPU memory. No expiry: the model stays until it is unloaded.",
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
                title="Goes in",
                query=Q.gauge(rows.EXPIRY, by=BY_LISTED_MODEL, how="max"),
                unit="s",
                decimals=0,
            ),
        },
    ),
    graph(
        Text(
            title="Memory by model and type",
            means="Memory of the models held, on GPU and CPU.",
            do="A CPU part that grows on a machine with a GPU: it is full, and models spill over.",
            no_value="no model in memory, or no server watched",
        ),
        Target(
            query=Q.gauge(rows.MEMORY_USAGE, by=(*BY_LISTED_MODEL, names.MEMORY_TYPE), how="max"),
            legend=f"{legend(names.MEMORY_TYPE)} {_ON_SERVER}",
        ),
        unit="bytes",
        decimals=1,
        stack="normal",
    ),
    graph(
        Text(
            title="GPU share by model",
            means="Part of each model that is in GPU memory: 100 % all of it, 0 % none.",
            do="Falls when another model or a longer context needs room; see evictions and "
            "reloads. On a machine without a GPU it is always 0 %.",
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
            means="Tokens of context that each request has.",
            do="Steps up and down: callers ask for different `num_ctx`, and each step is a reload. "
            "Agree on one.",
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
            title="Time until idle models go",
            means="How long each model stays if nobody calls it; each call sets it anew.",
            do="Often near 0 between calls: raise `keep_alive`, or the next call is a cold start.",
            no_value="no model that goes, or no server watched",
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
            means=f"How often each model was loaded in the time shown. {_WATCHED}",
            do="More than a few in an hour: raise `keep_alive` or see the causes beside.",
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
            means=f"Why models left memory in the time shown. {_WATCHED}",
            do="Expiry is the usual one. Evictions: memory or places for models are short.",
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
            means="Models that were loaded again, and what made it necessary: an option that "
            f"changed between calls, or another model that took the place. {_WATCHED}",
            do="An option such as `num_ctx`: let all callers send the same. Another model: more "
            "memory, `OLLAMA_MAX_LOADED_MODELS`, or a server of its own.",
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
            means="A model that is loaded again and again does little else. The alert fires from 4 "
            f"in 15 minutes on, of all causes together. {_WATCHED}",
            do="The cause is in the legend; the runbook has a remedy for each.",
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
            title="Evictions: who had to go for whom",
            means="Models that left memory because another needed the place, in the time shown. "
            f"{_WATCHED}",
            do="Two that push each other out in turn belong on two servers, or need more memory.",
            no_value=_NO_CHANGE,
        ),
        {
            _NAME: Column(title="Had to go"),
            label_name(names.EVICTED_BY): Column(title="For"),
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
