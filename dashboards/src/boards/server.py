"""The server board: servers, models in memory, GPUs, and health of the telemetry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dashboards.src.colors import Color
from dashboards.src.layout import Board, Row
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, states, table
from dashboards.src.parts.memory import CHANGES, HELD
from dashboards.src.parts.telemetry import MANAGING, TELEMETRY
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import share
from dashboards.src.vocabulary import (
    BY_SERVER,
    RANGE,
    SERVER_LEGEND,
    legend,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

_NOT_WATCHED: Final = "no server is watched; enable with configure(residency=True)"
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
            means="Whether polls or calls of at least one app reach each watched server. A server "
            "that only calls reach (by a proxy or a Unix socket) is absent while there are none.",
            do="Down: start it, or fix address, port or network; see OllamaServerDown in the "
            "runbook.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=Q.gauge(rows.SERVER_UP, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        words=_UP_OR_DOWN,
    ),
    states(
        Text(
            title="Servers: busy",
            means="A busy server accepts a poll of `/api/ps` but does not answer in time: it is "
            "loading or unloading a model.",
            do="Busy for minutes: a load hangs, or models evict each other; see reloads below.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=Q.gauge(rows.SERVER_BUSY, by=BY_SERVER, how="max"), legend=SERVER_LEGEND),
        words={"0": ("ready", "green"), "1": ("busy", "orange")},
    ),
    table(
        Text(
            title="Servers",
            means="Whether each watched server can be reached, its version, and its models in "
            "memory and on disk; the last three are known from polls only.",
            do="Different versions behave differently; use one version before comparing servers.",
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
            means="Number of models in the memory of each server.",
            do="At `OLLAMA_MAX_LOADED_MODELS`, the next model evicts another one.",
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
_NO_VALUE: Final = f"{_NO_GPU}, or it does not report this"
_GPU_LEGEND: Final = legend(*_HARDWARE)

_GPU: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="GPU memory",
            means="Memory in use of each GPU of the app's machine (lines), as `nvidia-smi` shows "
            "it, and its total (dashed). Includes other programs; the driver's reserve is part of "
            "the total only.",
            do="Near the total with few models in memory: another program uses the GPU.",
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
            means="Share of each GPU's memory that is in use.",
            do="Above 90 %: the next model or a longer context is placed on the CPU. 100 % cannot "
            "be reached, as the driver reserves some.",
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
        steps=((None, "green"), (0.9, "red")),
        width=8,
    ),
    graph(
        Text(
            title="GPU utilization",
            means="Fraction of the last second in which each GPU of the app's machine was "
            "executing, for any program. Not how much of the GPU was busy.",
            do="Low while calls are slow: the model runs on the CPU, or the GPU waits for data. "
            "Near 100 % with queued calls: the GPU is the limit.",
            no_value=_NO_VALUE,
        ),
        Target(query=Q.gauge(rows.GPU_UTILIZATION, by=_HARDWARE, how="max"), legend=_GPU_LEGEND),
        unit="percentunit",
        decimals=0,
        maximum=1,
        width=8,
    ),
    graph(
        Text(
            title="GPU temperature",
            means="Temperature of each GPU of the app's machine.",
            do="Above the slowdown temperature that `nvidia-smi -q -d TEMPERATURE` names, the GPU "
            "slows down: improve cooling, or lower its power limit.",
            no_value=_NO_VALUE,
        ),
        Target(query=Q.gauge(rows.GPU_TEMPERATURE, by=_HARDWARE, how="max"), legend=_GPU_LEGEND),
        unit="celsius",
        decimals=0,
        steps=((None, "green"), (83, "orange"), (87, "red")),
        width=8,
    ),
    graph(
        Text(
            title="GPU power",
            means="Power drawn by each GPU of the app's machine.",
            do="Near its idle value while calls are slow: the model runs on the CPU.",
            no_value=_NO_VALUE,
        ),
        Target(query=Q.gauge(rows.GPU_POWER, by=_HARDWARE, how="max"), legend=_GPU_LEGEND),
        unit="watt",
        decimals=0,
        width=8,
    ),
    bars(
        Text(
            title="GPU energy",
            means="Energy that each GPU of the app's machine consumed in the time range, for any "
            "program. Highest count of any process; too low after that process was restarted.",
            do="High with few calls: idle GPUs draw power too; use fewer of them.",
            no_value=_NO_VALUE,
        ),
        Target(query=RANGE.watched_total(rows.GPU_ENERGY, by=_HARDWARE), legend=_GPU_LEGEND),
        unit="joule",
        decimals=0,
        width=8,
    ),
)


BOARD: Final = Board(
    uid="ollama-otel-server",
    title="Ollama: server and memory",
    description="Servers, models in memory, loads and unloads, and health of the telemetry.",
    rows=(
        Row(title="Servers watched", panels=_STATE),
        Row(title="Memory", panels=HELD),
        Row(title="Loads and unloads", panels=CHANGES),
        Row(title="GPUs of the app's machine", panels=_GPU),
        Row(title="Model management", panels=MANAGING),
        Row(title="Telemetry health", panels=TELEMETRY),
    ),
)
