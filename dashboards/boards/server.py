"""What the servers hold, and whether what we tell of them arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dashboards.layout import Board, Row
from dashboards.panels import Color, Column, Panel, Target, Text, graph, states, table
from dashboards.parts.memory import CHANGES, HELD
from dashboards.parts.telemetry import MANAGING, TELEMETRY
from dashboards.promql import BOARD as Q
from dashboards.promql import share
from dashboards.vocabulary import (
    BY_SERVER,
    SERVER_LEGEND,
    legend,
)
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel._telemetry.prometheus import label_name

_NOT_WATCHED: Final = "no server is watched: configure(residency=True)"
_ADDRESS: Final = label_name(names.SERVER_ADDRESS)
_PORT: Final = label_name(names.SERVER_PORT)
_UP_OR_DOWN: Final[Mapping[str, tuple[str, Color]]] = {
    "0": ("down", "red"),
    "1": ("up", "green"),
}
_HARDWARE: Final = (names.HARDWARE_ID, names.HARDWARE_NAME)

_STATE: Final[Sequence[Panel]] = (
    states(
        Text(
            title="Servers: up or down",
            means="Whether each watched server can be reached, by the app that reaches it best.",
            do="Down: start it, or mend address, port or network; the runbook has the steps.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=Q.gauge(rows.SERVER_UP, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        words=_UP_OR_DOWN,
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
            means="Whether each watched server can be reached, its version, and how many models it "
            "holds and has on disk.",
            do="Different versions behave differently; bring them to the same before comparing.",
            no_value=_NOT_WATCHED,
        ),
        {
            _ADDRESS: Column(title="Server"),
            _PORT: Column(title="Port"),
            label_name(names.SERVER_VERSION): Column(title="Version"),
            "info": Column(
                title="Info",
                query=Q.gauge(rows.SERVER_INFO, by=(*BY_SERVER, names.SERVER_VERSION), how="max"),
                is_hidden=True,
            ),
            "up": Column(
                title="Up",
                query=Q.gauge(rows.SERVER_UP, by=BY_SERVER, how="max"),
                unit="none",
                words=_UP_OR_DOWN,
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


BOARD: Final = Board(
    uid="ollama-otel-server",
    title="Ollama: server and memory",
    description="What the servers hold, why models come and go, and the health of telemetry.",
    rows=(
        Row(title="Servers watched", panels=_STATE),
        Row(title="What is in memory", panels=HELD),
        Row(title="Models that come and go", panels=CHANGES),
        Row(title="GPUs of the watching machine", panels=_GPU),
        Row(title="Management", panels=MANAGING),
        Row(title="Telemetry itself", panels=TELEMETRY),
    ),
)
