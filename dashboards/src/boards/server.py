"""The server board: servers, models in memory, GPUs, and health of the telemetry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.colors import SERVER_STATES
from dashboards.src.layout import Board, Row
from dashboards.src.links import OVERVIEW, SERVER
from dashboards.src.panels import (
    Column,
    Panel,
    Target,
    Text,
    bars,
    graph,
    note,
    stat,
    states,
    table,
)
from dashboards.src.parts.memory import CHANGES, COURSE, EVICTIONS, HELD, SHARE
from dashboards.src.parts.servers import BUSY, DOWN, STATE, UP, of_row, server_columns
from dashboards.src.parts.telemetry import MANAGING, TELEMETRY
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import GPU, at_server, by_gpu, last_time, share
from dashboards.src.vocabulary import BY_SERVER, RANGE, SERVER_LEGEND, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["BOARD"]

_NOT_WATCHED: Final = "no server is watched; enable with configure(residency=True)"
_NO_SERVER: Final = "not watched"
_VERSION: Final = label_name(names.SERVER_VERSION)
_HARDWARE: Final = (names.HARDWARE_ID, names.HARDWARE_NAME)

_LOADED: Final = Q.gauge(rows.MODELS_LOADED, by=BY_SERVER, how="max")

_NUMBERS: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Down now",
            means="Watched servers that neither polls nor calls of any app reach.",
            do="Above 0: the table names them; see OllamaServerDown in the runbook.",
            no_value=_NO_SERVER,
        ),
        Target(query=DOWN),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "red")),
    ),
    stat(
        Text(
            title="Busy now",
            means="Servers that accept a poll of `/api/ps` but do not answer in time: they load or "
            "unload a model.",
            do="Busy for minutes: a load hangs, or models evict each other.",
            no_value=_NO_SERVER,
        ),
        Target(query=BUSY),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "orange")),
    ),
    stat(
        Text(
            title="Models loaded now",
            means="Models in the memory of all watched servers.",
            do="At `OLLAMA_MAX_LOADED_MODELS` of a server, the next model evicts another one.",
            no_value=_NO_SERVER,
        ),
        Target(query=f"sum({_LOADED})"),
        unit="locale",
        decimals=0,
    ),
    stat(
        Text(
            title="Partly on GPU now",
            means="Models in memory that are only partly on the GPU; the rest is on the CPU, "
            "which is slow. Models entirely on the CPU do not count.",
            do="Above 0: the table of models in memory names them and what they need.",
            no_value=_NO_SERVER,
        ),
        Target(query=f"count({SHARE} > 0 < 0.95) or 0 * sum({_LOADED})"),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "orange")),
    ),
    stat(
        Text(
            title="Evictions",
            means="Models that were unloaded in the time range to make room for another one. "
            "Highest count of any process; too low after that process was restarted.",
            do="Above 0: the table of evictions names both models.",
            no_value=_NO_SERVER,
        ),
        Target(
            query=f"sum({RANGE.watched_total(rows.EVICTIONS, by=BY_SERVER)}) or 0 * sum({_LOADED})"
        ),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "orange")),
    ),
    note(
        "What this board needs",
        "An app reports servers and models with `configure(residency=True)` or "
        "`OLLAMA_OTEL_RESIDENCY=true`. It reports the GPUs of its own machine if it is installed "
        "as `ollama_otel[nvidia]`. Closed rows show their panels on a click.",
        width=9,
        height=4,
    ),
)

_SERVERS: Final[Sequence[Panel]] = (
    states(
        Text(
            title="Servers: up, busy or down",
            means="Whether polls or calls of at least one app reach each watched server. A busy "
            "server accepts a poll of `/api/ps` but does not answer in time: it is loading or "
            "unloading a model. A server that only calls reach (by a proxy or a Unix socket) is "
            "absent while there are none.",
            do="Down: start it, or fix address, port or network; see OllamaServerDown in the "
            "runbook. Busy for minutes: a load hangs, or models evict each other.",
            no_value=_NOT_WATCHED,
        ),
        Target(query=STATE, legend=SERVER_LEGEND),
        words=SERVER_STATES,
        width=10,
        height=7,
    ),
    table(
        Text(
            title="Servers",
            means="State of each watched server now, when it was reached last in the time range, "
            "its version, and its models in memory and on disk; the last three are known from "
            "polls only.",
            do="Different versions behave differently; use one version before comparing servers. "
            "A click opens the calls to that server.",
            no_value=_NOT_WATCHED,
        ),
        {
            **server_columns(
                of_row(OVERVIEW, "Calls to this server"), of_row(SERVER, "Only this server")
            ),
            "state": Column(
                title="State",
                query=at_server(STATE),
                words=SERVER_STATES,
                unit="none",
                width=75,
            ),
            "reached": Column(
                title="Last reached",
                query=at_server(
                    last_time(f"{UP} == 1", within="$__range", every="$export_interval")
                ),
                unit="dateTimeFromNow",
                width=140,
            ),
            _VERSION: Column(title="Version", width=90),
            "info": Column(
                title="Info",
                query=at_server(
                    Q.gauge(rows.SERVER_INFO, by=(*BY_SERVER, names.SERVER_VERSION), how="max")
                ),
                unit="none",
                is_hidden=True,
            ),
            "loaded": Column(
                title="In memory", query=at_server(_LOADED), unit="locale", decimals=0, width=105
            ),
            "installed": Column(
                title="On disk",
                query=at_server(Q.gauge(rows.MODELS_INSTALLED, by=BY_SERVER, how="max")),
                unit="locale",
                decimals=0,
                width=80,
            ),
        },
        sort="State",
        width=14,
        height=7,
    ),
)


_NO_GPU: Final = "no GPU, or no NVML: pip install 'ollama_otel[nvidia]'"
_NO_VALUE: Final = f"{_NO_GPU}, or it does not report this"
_GPU_LEGEND: Final = f"{legend(names.HARDWARE_NAME)} {{{{{GPU}}}}}"
"""Name of the GPU and the end of its UUID, as the whole UUID would push the values out."""


def _by_gpu(row: Instrument) -> str:
    return by_gpu(Q.gauge(row, by=_HARDWARE, how="max"))


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
        Target(query=_by_gpu(rows.GPU_MEMORY_USAGE), legend=_GPU_LEGEND),
        Target(
            query=_by_gpu(rows.GPU_MEMORY_LIMIT),
            legend=f"limit {_GPU_LEGEND}",
            is_limit=True,
        ),
        unit="bytes",
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
            query=share(_by_gpu(rows.GPU_MEMORY_USAGE), _by_gpu(rows.GPU_MEMORY_LIMIT)),
            legend=_GPU_LEGEND,
        ),
        unit="percentunit",
        maximum=1,
        steps=((None, "green"), (0.9, "red")),
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
        Target(query=_by_gpu(rows.GPU_UTILIZATION), legend=_GPU_LEGEND),
        unit="percentunit",
        maximum=1,
    ),
    graph(
        Text(
            title="GPU temperature",
            means="Temperature of each GPU of the app's machine.",
            do="Above the slowdown temperature that `nvidia-smi -q -d TEMPERATURE` names, the GPU "
            "slows down: improve cooling, or lower its power limit.",
            no_value=_NO_VALUE,
        ),
        Target(query=_by_gpu(rows.GPU_TEMPERATURE), legend=_GPU_LEGEND),
        unit="celsius",
        steps=((None, "green"), (83, "orange"), (87, "red")),
    ),
    graph(
        Text(
            title="GPU power",
            means="Power drawn by each GPU of the app's machine.",
            do="Near its idle value while calls are slow: the model runs on the CPU.",
            no_value=_NO_VALUE,
        ),
        Target(query=_by_gpu(rows.GPU_POWER), legend=_GPU_LEGEND),
        unit="watt",
    ),
    bars(
        Text(
            title="GPU energy",
            means="Energy that each GPU of the app's machine consumed in the time range, for any "
            "program. Highest count of any process; too low after that process was restarted.",
            do="High with few calls: idle GPUs draw power too; use fewer of them.",
            no_value="unknown",
        ),
        Target(
            query=f"sort_desc({by_gpu(RANGE.watched_total(rows.GPU_ENERGY, by=_HARDWARE))})",
            legend=_GPU_LEGEND,
        ),
        unit="joule",
        width=12,
    ),
)


BOARD: Final = Board(
    uid=SERVER,
    title="Ollama: server and memory",
    description="Servers, models in memory, loads and unloads, and health of the telemetry.",
    variables=("job", "model", "server", "port"),
    rows=(
        Row(
            title="Which server is down, what is in memory, who evicts whom?",
            panels=(*_NUMBERS, *_SERVERS, HELD, EVICTIONS),
        ),
        Row(title="Memory", panels=COURSE),
        Row(title="Loads and unloads", panels=CHANGES),
        Row(title="GPUs of the app's machine", panels=_GPU, is_closed=True),
        Row(title="Model management", panels=MANAGING, is_closed=True),
        Row(title="Telemetry health", panels=TELEMETRY, is_closed=True),
    ),
)
