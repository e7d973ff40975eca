"""What the servers hold, and whether what we tell of them arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.layout import Board, Row
from dashboards.panels import Column, Panel, Target, Text, bars, graph, stat, states, table
from dashboards.phrases import (
    BY_LISTED_MODEL,
    BY_SERVER,
    FAILED,
    RANGE,
    REFUSED,
    SERVER_LEGEND,
    legend,
)
from dashboards.promql import BOARD as Q
from dashboards.promql import share
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry import names
from ollama_otel._telemetry.prometheus import label_name

_NOT_WATCHED: Final = "no server is watched: configure(residency=True)"
_MODEL: Final = legend(names.MODEL_NAME)
_ADDRESS: Final = label_name(names.SERVER_ADDRESS)
_PORT: Final = label_name(names.SERVER_PORT)
_NAME: Final = label_name(names.MODEL_NAME)
_HARDWARE: Final = (names.HARDWARE_ID, names.HARDWARE_NAME)
_MANAGEMENT: Final = (names.OLLAMA_OPERATION_NAME,)
_COMPONENT: Final = (names.COMPONENT_TYPE, names.ERROR_TYPE)

_STATE: Final[Sequence[Panel]] = (
    states(
        Text(
            title="Servers: up or down",
            means="Whether each watched server can be reached, by the app that reaches it best.",
            do="Down: start it, or mend address, port or network; the runbook has the steps.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=Q.gauge(rows.SERVER_UP, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        words={"0": ("down", "red"), "1": ("up", "green")},
    ),
    states(
        Text(
            title="Servers: busy",
            means="A busy server takes the question what it holds and does not answer in time: it "
            "is loading or unloading a model.",
            do="Busy for minutes: a load hangs, or models push each other out; see reloads below.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=Q.gauge(rows.SERVER_BUSY, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        words={"0": ("answers", "green"), "1": ("busy", "orange")},
    ),
    table(
        Text(
            title="Servers",
            means="Each watched server's version, and how many models it holds and has on disk.",
            do="Different versions behave differently; bring them to the same before comparing.",
            no_value=_NOT_WATCHED,
        ),
        {
            _ADDRESS: Column(title="Server"),
            _PORT: Column(title="Port"),
            label_name(names.SERVER_VERSION): Column(title="Version"),
            "info": Column(
                title="Up",
                query=Q.gauge(rows.SERVER_INFO, by=(*BY_SERVER, names.SERVER_VERSION), how="max"),
                unit="short",
                decimals=0,
            ),
            "loaded": Column(
                title="Models in memory",
                query=Q.gauge(rows.MODELS_LOADED, by=BY_SERVER, how="max"),
                unit="short",
                decimals=0,
            ),
            "installed": Column(
                title="Models on disk",
                query=Q.gauge(rows.MODELS_INSTALLED, by=BY_SERVER, how="max"),
                unit="short",
                decimals=0,
            ),
        },
        width=16,
        height=7,
    ),
    graph(
        Text(
            title="Models in memory",
            means="How many models each server holds.",
            do="At `OLLAMA_MAX_LOADED_MODELS` the next model pushes one out.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=Q.gauge(rows.MODELS_LOADED, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        unit="short",
        decimals=0,
        width=8,
        height=7,
    ),
)

_HELD: Final[Sequence[Panel]] = (
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
                unit="suffix: tokens",
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
            legend=legend(names.MODEL_NAME, names.MEMORY_TYPE),
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
        Target(query=Q.gauge(rows.GPU_SHARE, by=BY_LISTED_MODEL, how="max"), legend=_MODEL),
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
        Target(query=Q.gauge(rows.CONTEXT_LENGTH, by=BY_LISTED_MODEL, how="max"), legend=_MODEL),
        unit="suffix: tokens",
        decimals=0,
    ),
    graph(
        Text(
            title="Time until idle models go",
            means="How long each model stays if nobody calls it; each call sets it anew.",
            do="Often near 0 between calls: raise `keep_alive`, or the next call is a cold start.",
            no_value="no model that goes, or no server watched",
        ),
        Target(query=Q.gauge(rows.EXPIRY, by=BY_LISTED_MODEL, how="max"), legend=_MODEL),
        unit="s",
        decimals=0,
    ),
)

_NO_CHANGE: Final = "none seen in this time"

_CHANGES: Final[Sequence[Panel]] = (
    bars(
        Text(
            title="Loads by model",
            means="How often each model was loaded in the time shown, as far as it was seen.",
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
            means="Why models left memory in the time shown.",
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
            "changed between calls, or another model that took the place.",
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
            "in 15 minutes on.",
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
            means="Models that left memory because another needed the place, in the time shown.",
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

_NO_GPU: Final = "no GPU, or no NVML: pip install 'ollama_otel[nvidia]'"
_GPU_LEGEND: Final = legend(*_HARDWARE)

_GPU: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="GPU memory",
            means="Memory in use of each GPU of the watching machine (lines) and what it has "
            "(dashed); other programs count too.",
            do="Near its limit with few models held: something else uses the GPU.",
            no_value=_NO_GPU,
        ),
        Target(query=Q.gauge(rows.GPU_MEMORY_USAGE, by=_HARDWARE, how="max"), legend=_GPU_LEGEND),
        Target(
            query=Q.gauge(rows.GPU_MEMORY_LIMIT, by=_HARDWARE, how="max"),
            legend=f"limit {_GPU_LEGEND}",
            is_limit=True,
        ),
        unit="bytes",
        decimals=1,
        width=8,
    ),
    graph(
        Text(
            title="GPU memory in use",
            means="Part of each GPU's memory that is in use.",
            do="Above 95 %: the next model or a longer context spills over to the CPU.",
            no_value=_NO_GPU,
        ),
        Target(
            query=share(
                Q.gauge(rows.GPU_MEMORY_USAGE, by=_HARDWARE, how="max"),
                Q.gauge(rows.GPU_MEMORY_LIMIT, by=_HARDWARE, how="max"),
            ),
            legend=_GPU_LEGEND,
        ),
        unit="percentunit",
        decimals=0,
        maximum=1,
        steps=((None, "green"), (0.95, "red")),
        width=8,
    ),
    graph(
        Text(
            title="GPU power",
            means="Power that each GPU of the watching machine draws.",
            do="Low while calls are slow: the model runs on the CPU, or the GPU waits for data.",
            no_value=_NO_GPU,
        ),
        Target(query=Q.gauge(rows.GPU_POWER, by=_HARDWARE, how="max"), legend=_GPU_LEGEND),
        unit="watt",
        decimals=0,
        width=8,
    ),
)

_NO_MANAGEMENT: Final = "no management in this time"

_MANAGING: Final[Sequence[Panel]] = (
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
        unit="suffix: calls/s",
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

_TELEMETRY: Final[Sequence[Panel]] = (
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
        unit="suffix: spans/s",
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
        unit="suffix: points/s",
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

BOARD: Final = Board(
    uid="ollama-otel-server",
    title="Ollama: server and memory",
    description="What the servers hold, why models come and go, and the health of telemetry.",
    rows=(
        Row(title="Servers watched", panels=_STATE),
        Row(title="What is in memory", panels=_HELD),
        Row(title="Models that come and go", panels=_CHANGES),
        Row(title="GPUs of the watching machine", panels=_GPU),
        Row(title="Management", panels=_MANAGING),
        Row(title="Telemetry itself", panels=_TELEMETRY),
    ),
)
