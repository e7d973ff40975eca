"""The board of costs and capacity: money, energy, budgets and slots, by the price file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.costs import busy_slots, slots, used_share
from dashboards.src.layout import Board, Row
from dashboards.src.panels import Column, Panel, Target, Text, graph, stat, table
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import INSTANCE, JOB, share
from dashboards.src.vocabulary import BY_MODEL, BY_SERVER, RANGE, SERVER_LEGEND, TOKENS, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

_NO_PRICES: Final = "no price file: configure(prices=...)"
_NO_BUDGETS: Final = "no budgets in the price file, or nothing used of them"
_NO_GPU: Final = "no NVIDIA GPU in the machines of the apps"
_HOUR: Final = "3600"
_MODEL: Final = legend(names.REQUEST_MODEL)
_BUDGET: Final = legend(names.BUDGET_NAME, names.BUDGET_OF)
_BY_MACHINE: Final = (names.MACHINE_NAME, names.COST_CURRENCY)
_BY_GPU: Final = (JOB, INSTANCE, names.HARDWARE_ID, names.HARDWARE_NAME)

_MACHINES: Final = f"sum({Q.gauge(rows.MACHINE_COST, by=_BY_MACHINE, how='max')})"
_COST_OF_TOKENS: Final = f"1000000 * {RANGE.total(rows.COST)} / ({RANGE.sum_total(TOKENS)} > 0)"

_COST: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Cost of calls (estimate)",
            means="Money for the calls in the time range, in the currency of the price file: their "
            "share of the machine's time, and its energy. Without idle time, which a running "
            "process does not know.",
            do="`ollama-otel cost` computes exact shares from a log, by user, tag and day.",
            no_value=_NO_PRICES,
        ),
        Target(query=RANGE.total(rows.COST)),
        unit="short",
        decimals=4,
        width=6,
    ),
    stat(
        Text(
            title="Machines per hour",
            means="What all machines of the price file cost in an hour without calls: purchase, "
            "rent and idle power.",
            do="If it is much more than calls cost, the machines are idle most of the time.",
            no_value=_NO_PRICES,
        ),
        Target(query=_MACHINES),
        unit="short",
        decimals=4,
        width=6,
    ),
    stat(
        Text(
            title="Cost of 1,000,000 tokens (estimate)",
            means="Money for the calls in the time range, for each 1,000,000 tokens of input and "
            "output, without idle time.",
            do="Compare it with cloud prices by `ollama-otel cost`, which counts idle time too.",
            no_value=_NO_PRICES,
        ),
        Target(query=_COST_OF_TOKENS),
        unit="short",
        decimals=4,
        width=6,
    ),
    stat(
        Text(
            title="Energy of calls (estimate)",
            means="Share of the calls in the machine's time, times the busy power of the price "
            "file.",
            do="Below, power of calls is compared with what GPUs measure.",
            no_value=_NO_PRICES,
        ),
        Target(query=RANGE.total(rows.COST_ENERGY)),
        unit="joule",
        width=6,
    ),
    graph(
        Text(
            title="Cost by model (estimate)",
            means="Money per hour for the calls of each model.",
            do="Give the most expensive model fewer tokens, or a smaller size.",
            no_value=_NO_PRICES,
        ),
        Target(query=f"{_HOUR} * {Q.rate(rows.COST, by=BY_MODEL)}", legend=_MODEL),
        unit="short",
        decimals=4,
        is_stacked=True,
    ),
    graph(
        Text(
            title="Calls and idle machines (estimate)",
            means="Money per hour: what calls cost, without idle time, and what the machines cost "
            "if nothing runs. Far below the dashed line, most of the money is for idle time.",
            do="Move more work to the machines, or switch some of them off.",
            no_value=_NO_PRICES,
        ),
        Target(query=f"{_HOUR} * {Q.rate(rows.COST)}", legend="calls"),
        Target(query=_MACHINES, legend="idle machines", is_limit=True),
        unit="short",
        decimals=4,
    ),
    table(
        Text(
            title="Cost of models (estimate)",
            means="Each model in the time range: money, share of the machine's time, energy, and "
            "money for 1,000,000 tokens of input and output.",
            do="Compare models that do the same work.",
            no_value=_NO_PRICES,
        ),
        {
            label_name(names.REQUEST_MODEL): Column(title="Model"),
            "cost": Column(
                title="Cost", query=RANGE.total(rows.COST, by=BY_MODEL), unit="short", decimals=4
            ),
            "time": Column(
                title="GPU time", query=RANGE.total(rows.COST_GPU_TIME, by=BY_MODEL), unit="s"
            ),
            "energy": Column(
                title="Energy", query=RANGE.total(rows.COST_ENERGY, by=BY_MODEL), unit="joule"
            ),
            "tokens": Column(
                title="Cost of 1,000,000 tokens",
                query=f"1000000 * {RANGE.total(rows.COST, by=BY_MODEL)} / "
                f"({RANGE.sum_total(TOKENS, by=BY_MODEL)} > 0)",
                unit="short",
                decimals=4,
            ),
        },
    ),
)


def _budgets(title: str, period: str, window: str, query: str) -> Panel:
    return graph(
        Text(
            title=title,
            means=f"Share of each budget that was used in the last {window}, by all apps that use "
            f"the price file. A budget of a {period} is checked for the last {window}, not for "
            "the calendar.",
            do="Above 1 it is used up: see which user, tag or model has risen.",
            no_value=_NO_BUDGETS,
        ),
        Target(query=query, legend=_BUDGET),
        unit="percentunit",
        decimals=1,
        steps=((None, "green"), (1, "red")),
    )


_BUDGETS: Final[Sequence[Panel]] = (
    _budgets("Budgets of a day", "day", "24 hours", used_share(Q.over("1d"), "day")),
    _budgets("Budgets of a month", "month", "30 days", used_share(Q.over("30d"), "month")),
)

_NO_MODEL_LOADED: Final = (
    f"on ({JOB}, {INSTANCE}) ({Q.gauge(rows.MODELS_LOADED, by=(JOB, INSTANCE), how='max')} == 0)"
)

_CAPACITY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Busy slots",
            means="Mean number of calls that each server computes at the same time: time of load, "
            "prompt and generation per second. Dashed: its slots, by the price file. A call "
            "counts when it has ended.",
            do="Near the dashed line calls begin to wait: send fewer at once, add a server, or "
            "raise OLLAMA_NUM_PARALLEL if memory allows.",
            no_value="no calls in this time",
        ),
        Target(query=busy_slots(Q), legend=SERVER_LEGEND),
        Target(query=slots(Q), legend=f"slots {SERVER_LEGEND}", is_limit=True),
        unit="short",
        decimals=2,
    ),
    graph(
        Text(
            title="Share of time that waits (estimate)",
            means="Share of the server's time of calls that is an estimated wait for a slot, by "
            "server. It grows fast once the load is near the knee.",
            do="Above 10 % for long: the server has too little capacity; `ollama-otel capacity` "
            "says how much is needed.",
            no_value="no calls in this time",
        ),
        Target(
            query=share(
                Q.rate(rows.PHASE_TIME, by=BY_SERVER, where={names.PHASE: '="queue_estimate"'}),
                Q.rate(
                    rows.PHASE_TIME,
                    by=BY_SERVER,
                    where={names.PHASE: '=~"load|queue_estimate|prompt_eval|eval"'},
                ),
            ),
            legend=SERVER_LEGEND,
        ),
        unit="percentunit",
        decimals=1,
        maximum=1,
    ),
    graph(
        Text(
            title="Share of the machine's time by model (estimate)",
            means="Part of each second in which a machine computes calls of a model; calls at the "
            "same time share it. The sum is the time with at least one call.",
            do="A model that takes most of the time is the one to make smaller, or to move.",
            no_value=_NO_PRICES,
        ),
        Target(query=Q.rate(rows.COST_GPU_TIME, by=BY_MODEL), legend=_MODEL),
        unit="percentunit",
        decimals=1,
        is_stacked=True,
    ),
    graph(
        Text(
            title="Power of calls (estimate) and of GPUs",
            means="Power that calls cost by the price file, and what the energy counters of the "
            "GPUs say. The counters know the GPUs only, and include idle power.",
            do="If they differ much while the machine is busy, correct busy_watts in the price "
            "file.",
            no_value=_NO_PRICES,
        ),
        Target(query=Q.rate(rows.COST_ENERGY), legend="calls (estimate)"),
        Target(query=Q.rate(rows.GPU_ENERGY), legend="GPUs (measured)"),
        unit="watt",
        decimals=0,
    ),
    graph(
        Text(
            title="GPU power without a model",
            means="Power of the GPUs while no model is loaded: what idle_watts of the price file "
            "should be, plus the rest of the machine. Empty while a model is loaded.",
            do="To measure it, run `ollama stop` for every model, and wait for a minute.",
            no_value=_NO_GPU,
        ),
        Target(
            query=f"{Q.gauge(rows.GPU_POWER, by=_BY_GPU, how='max')} and {_NO_MODEL_LOADED}",
            legend=legend(names.HARDWARE_NAME, names.HARDWARE_ID),
        ),
        unit="watt",
        decimals=0,
        width=24,
    ),
)

BOARD: Final = Board(
    uid="ollama-otel-cost",
    title="Ollama: cost and capacity",
    description="What calls cost by the price file, what is left of budgets, and how much load "
    "the servers can take.",
    rows=(
        Row(title="Cost", panels=_COST),
        Row(title="Budgets", panels=_BUDGETS),
        Row(title="Capacity", panels=_CAPACITY),
    ),
)
